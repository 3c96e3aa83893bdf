"""The first paragraph of a report, in plain words: what the method did to which classes. Pure."""

from pipeline.report.evidence import Evidence

GROUPS = ("many", "medium", "few")


def in_words(evidence: Evidence) -> str:
    """A few sentences on accuracy, groups, the classes that gained and lost most, and confidence."""
    counts = evidence.counts
    name, dataset = evidence.method.name, evidence.about.cache.manifest.provenance.name
    opening = (
        f"{_short(dataset)} has {len(counts):,} classes with {max(counts):,} to {min(counts):,} training rows. On its test "
        f"split, {name} is right on {evidence.method.result.accuracy:.1f} % of the rows"
    )
    sentences = [
        opening
        + (f"; {evidence.baseline.name} on {evidence.baseline.result.accuracy:.1f} %." if evidence.baseline else ".")
    ]
    sentences += [*_groups(evidence), *_classes(evidence), *_pair(evidence), *_confidence(evidence)]
    return " ".join(sentences)


def _groups(evidence: Evidence) -> list[str]:
    method, baseline = evidence.method.result, evidence.baseline
    texts = []
    for group in GROUPS:
        after = getattr(method, group)
        before = None if baseline is None else getattr(baseline.result, group)
        if after is None:
            continue
        number = sum(1 for c in evidence.groups[group] if evidence.tested[c])
        classes = f"the {number} {group}-shot class{'es' * (number != 1)}"
        if before is None:
            texts.append(f"{classes} are at {after:.1f} %")
        elif abs(after - before) < 0.05:
            texts.append(f"{classes} stay at {after:.1f} %")
        else:
            texts.append(f"{classes} {'rise' if after > before else 'fall'} from {before:.1f} to {after:.1f} %")
    return [f"Of these classes, {'; '.join(texts)}."] if texts else []


def _classes(evidence: Evidence) -> list[str]:
    if evidence.baseline is None:
        return []
    pairs = zip(evidence.baseline.result.per_class, evidence.method.result.per_class, strict=True)
    gains = [(b - a, c, a, b) for c, (a, b) in enumerate(pairs) if a is not None and b is not None]
    if not gains:
        return []
    text = f"{sum(gain > 0 for gain, *_ in gains)} classes gain, {sum(gain < 0 for gain, *_ in gains)} lose"
    for verb, (gain, c, before, after) in (("gains", max(gains)), ("loses", min(gains))):
        if (gain > 0) == (verb == "gains") and gain:
            name = f"class {evidence.classes[c]} ({evidence.counts[c]} training rows)"
            text += f"; {name} {verb} most, from {before:.0f} to {after:.0f} %"
    return [text + "."]


def _pair(evidence: Evidence) -> list[str]:
    if not evidence.swallowed:
        return []
    worst = evidence.swallowed[0]
    true, taken = evidence.classes[worst.pair.true], evidence.classes[worst.pair.taken]
    first = evidence.method if evidence.baseline is None or worst.baseline is None else evidence.baseline
    text = f"Class {taken} takes most of a smaller one: {first.name} gives it {worst.pair.share:.0f} % of class {true}"
    if first is not evidence.method and worst.method is not None:
        text += f", {evidence.method.name} {worst.method:.0f} %"
    return [text + "."]


def _confidence(evidence: Evidence) -> list[str]:
    method, baseline = evidence.method.result, evidence.baseline
    text = f"Its confidence is off by {method.ece:.1f} points on average (ECE)"
    return [text + (f", that of {baseline.name} by {baseline.result.ece:.1f}." if baseline else ".")]


def _short(dataset: str) -> str:
    from pipeline.report.evidence.words import shown_name

    return shown_name(dataset)
