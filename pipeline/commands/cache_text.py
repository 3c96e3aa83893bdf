"""Caches as lines and tables for a terminal; `show` makes what others wrote printable. Nothing here reads a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.format import layout
from pipeline.report.layout import Column, Part, Table, figures, names

if TYPE_CHECKING:
    from cache.exchange.exporting import Exported
    from cache.explain import Difference
    from cache.listing import Listing
    from cache.manifest import Manifest
    from cache.prune import Candidate
    from cache.remove import Removal
    from cache.sharing.offers import Shared
    from cache.verify import Verification

SHORT = 12
"""Digits of a key that are shown; 4 are enough to name a cache."""


def listings(caches: "Sequence[Listing]", place: str, now: float, whole_keys: bool = False) -> list[Part]:
    """A row a cache; keys by their first 12 digits, or whole."""
    if not caches:
        return [f"no caches in {place}"]
    columns = (Column("key"), *names("data set", "backbone"), *figures("rows", "D", "views", "size", "age", "state"))
    return [Table(f"caches in {place}", columns, tuple(_listed(cache, now, whole_keys) for cache in caches))]


def _listed(cache: "Listing", now: float, whole_key: bool) -> tuple[str, ...]:
    views = f"{cache.views}, test {cache.test_views}" if cache.test_views else str(cache.views)
    numbers = (f"{cache.rows:,}", str(cache.width), views) if cache.state == "published" else ("", "", "")
    key = cache.key if whole_key else cache.key[:SHORT]
    changed = age(now - cache.modified) if cache.modified else ""  # a bucket does not say it of what cannot be read
    return key, cache.name, cache.backbone, *numbers, size(cache.bytes), changed, cache.state


def description(manifest: "Manifest", path: Path) -> list[Part]:
    """What a cache holds and what it was made from, a line each."""
    identity, made = manifest.identity, manifest.provenance
    chunk = f"{size(manifest.raw_chunk_bytes)} or less"
    maps = f", with maps of {identity.width} x {identity.maps[0]} x {identity.maps[1]}" if identity.maps else ""
    lines = [
        ("key", manifest.key),
        ("path", str(path)),
        ("data set", f"{made.name}, {len(identity.classes)} classes"),
        ("backbone", f"{identity.backbone}, layer {identity.layer}, weights {identity.weights[:SHORT]}"),
        ("features", f"D = {identity.width}, {identity.dtype}, BN {identity.bn}, autocast {identity.autocast}{maps}"),
        ("transform", _plain(identity.transform)),
        (
            "views",
            f"{_plain(identity.view_transform)}, seed {identity.views_seed}" if identity.view_transform else "none",
        ),
        *((f"split {name}", _split(manifest, name)) for name in identity.splits),
        ("made", f"{made.created or 'at a time not recorded'} by {made.author or 'somebody'} ({identity.kind})"),
        ("files", f"{len(manifest.inventory) + 1:,}, {size(manifest.size)}, chunks of {chunk}"),
    ]
    return [f"{name:<12}{text}" for name, text in lines]


def document(manifest: "Manifest", path: Path) -> dict[str, Any]:
    """The manifest without its list of files, as JSON holds it."""
    return {
        "path": str(path),
        **manifest.model_dump(mode="json", exclude={"inventory"}),
        "files": len(manifest.inventory),
        "bytes": manifest.size,
    }


def verification(result: "Verification") -> list[Part]:
    """The findings, a line each, and what was looked at."""
    looked = {"quick": "file list and sizes compared", "full": "every byte compared", "subset": "a part compared"}
    read = f"{looked[result.mode]}, {result.files:,} files, {size(result.bytes)} read"
    count = len(result.findings)
    verdict = "sound" if result.sound else f"{count} finding{'s' * (count > 1)}"
    return [
        *(f"{result.path}: {finding}" for finding in result.findings),
        f"{result.key[:SHORT]}: {verdict} ({read})",
    ]


ASPECTS = {
    "images": ("classes", "splits"),
    "weights": ("weights", "backbone", "layer", "width", "kind"),
    "transform": ("transform",),
    "views": ("view_transform", "views_seed"),
    "number format": ("dtype",),
    "autocast": ("autocast",),
    "batch normalisation": ("bn",),
    "feature maps": ("maps",),
}
"""What people call the fields of an identity."""
DIGESTS = ("weights", "samples", "content", "backbone_run")
"""Fields that differ without telling how; they come last."""


IMPORTED = {"images": "rows", "weights": "classifier"}
"""What two of the aspects are where both caches hold features that a user brought."""


def differences(fields: "Sequence[Difference]", left: str, right: str, imported: bool = False) -> list[Part]:
    """A sentence, such as "same images, other weights", then a line a field, digests last.

    `imported` says that both caches are imports, which have neither images nor a backbone's weights.
    """
    if not fields:
        return ["no differences: the same rows"]
    ordered = sorted(fields, key=lambda difference: _last(difference.field) in DIGESTS)
    return [summary(fields, imported), f"{left[:SHORT]} | {right[:SHORT]}", *map(str, ordered)]


def summary(fields: "Sequence[Difference]", imported: bool) -> str:
    """In a few words, what of images, weights, transform, views and the rest is the same and what is not."""
    differing = {aspect for difference in fields if (aspect := _aspect(difference.field))}
    if not differing:
        return "the same rows; what is recorded beside them differs"
    told = [aspect for aspect in ASPECTS if aspect in ("images", "weights") or aspect in differing]
    words = IMPORTED if imported else {}
    return ", ".join(f"{'other' if aspect in differing else 'same'} {words.get(aspect, aspect)}" for aspect in told)


def _aspect(field: str) -> str | None:
    """The aspect that a field of an identity belongs to; None for one that makes no other rows."""
    section, _, path = field.partition(".")
    if section != "identity":
        return None
    name = path.partition(".")[0].partition("[")[0]
    if name == "splits" and _last(field) == "views":
        return "views"
    return next((aspect for aspect, names in ASPECTS.items() if name in names), name)


def _last(field: str) -> str:
    return field.rpartition(".")[2]


def candidates(offered: "Sequence[Candidate]", deleted: bool) -> list[Part]:
    """What `prune` would take away, or has taken away, a line each."""
    if not offered:
        return ["nothing to prune"]
    lines: list[Part] = []
    for candidate in offered:
        done = "kept, " + candidate.kept if candidate.kept else "deleted" if deleted else "would be deleted"
        lines.append(f"{candidate.path} ({size(candidate.bytes)}, {candidate.reason}): {done}")
    return lines if deleted else [*lines, "nothing is deleted without --yes"]


def removal(path: str, one: "Removal") -> str:
    """What `rm` has taken away."""
    if one.led_to:
        return f"removed the link {path}; the cache that it led to, {one.led_to}, stays"
    return f"deleted {path} ({size(one.bytes)})"


def shared(one: "Shared") -> str:
    """What came of a push or pull."""
    who = " ".join(part for part in (one.author and f"by {one.author}", one.created) if part) or "by somebody"
    return {
        "pushed": f"{one.path}: pushed ({size(one.bytes)})",
        "pulled": f"{one.path}: pulled ({size(one.bytes)})",
        "there": f"{one.path}: already there ({size(one.bytes)})",
        "theirs": f"{one.path}: kept as it was, made {who}; nothing is pushed, a key's rows are equal whoever makes them",
    }[one.state]


def exported(one: "Exported") -> str:
    """What `cache export` has done, a line."""
    text = f"{one.path} ({size(one.bytes)})"
    if not one.left_out:
        return text
    return f"{text}; without the {', '.join(one.left_out)}, for which Parquet has no place; the other formats have one"


def size(count: float) -> str:
    """Bytes for a person: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def age(seconds: float) -> str:
    """A time span for a person, in its largest unit: 3 h."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _split(manifest: "Manifest", name: str) -> str:
    split = manifest.identity.splits[name]
    counts = manifest.counts[name]
    views = ", ".join(layout.view_names(split.views)[:2]) + (f" … view-{split.views:02d}" if split.views > 1 else "")
    return f"{split.rows:,} rows, {min(counts):,} to {max(counts):,} a class; {views}"


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"
