"""What a report's figures were made from, which settings are not the defaults, and the commands that repeat it."""

import os
import shlex
from pathlib import Path

from pipeline.report.evidence.words import shown_name
from pipeline.report.subject import Subject, backbone_folder, generator_folder
from pipeline.settings import Settings
from pipeline.settings.files import flat

VALUE_LENGTH, LONGEST_ENTRY = 120, 300
"""Characters that are shown of a setting, and of an entry of the lineage."""
DIGITS = 12
"""Of a key or a digest."""


def lineage(about: Subject) -> list[tuple[str, str]]:
    """What was made from what: a name and a text each, from the images to the classifier."""
    manifest, result = about.cache.manifest, about.method.result
    identity, provenance = manifest.identity, manifest.provenance
    backbone, generator = backbone_folder(about), generator_folder(about)
    rows = ", ".join(f"{name} {split.rows:,}" for name, split in identity.splits.items())
    entries = [
        ("data", f"{provenance.name}: {len(identity.classes):,} classes; rows: {rows}"),
        (
            "backbone",
            f"{identity.backbone}, layer {identity.layer}, {identity.width} features; weights {identity.weights[:DIGITS]}",
        ),
        ("backbone run", shown_folder(about, backbone) if backbone else "not at hand"),
        ("feature cache", f"{about.cache.key} ({identity.kind}, {identity.dtype})"),
        ("generator run", shown_folder(about, generator) if generator else "none used, or not at hand"),
        ("classifier run", f"{shown_folder(about, about.method.folder)}; tensors {result.digest[:DIGITS]}"),
        ("seeds", ", ".join(map(str, result.seeds))),
        ("how it was chosen", chosen(about)),
    ]
    return [(name, shown_name(text, LONGEST_ENTRY)) for name, text in entries]


def chosen(about: Subject) -> str:
    """How the method came to be the one that is shown, and what it is made of."""
    selection, name = about.method.result.selection, about.method.name
    if not about.method.result.chosen:
        epoch = " of its last epoch" if selection.on == "last epoch" else ""
        return f"{name}{epoch} was asked for, or no run of auto chose another; the test split chose nothing"
    score = "" if selection.score is None else f", {selection.score:.1f} % there"
    members = sorted(selection.members.items(), key=lambda item: -item[1])[:3]
    made_of = "; made of " + ", ".join(f"{100 * share:.0f} % {member}" for member, share in members) if members else ""
    return f"on {selection.on}{score}, without the test split{made_of}"


def changed_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """Each setting that is not at its default: dotted key, value, default."""
    defaults = flat(Settings().model_dump(mode="json"))
    values = flat(settings.model_dump(mode="json"))
    return [
        (key, shown_name(_text(value), VALUE_LENGTH), shown_name(_text(defaults[key]), VALUE_LENGTH))
        for key, value in values.items()
        if value != defaults[key]
    ]


def commands(about: Subject) -> list[str]:
    """The commands that make the same again, from the folder that the runs lie in; each takes up what is done already."""
    key = about.cache.key[:DIGITS]
    config = _config(about, about.method.folder)
    backbone, generator = backbone_folder(about), generator_folder(about)
    lines = [f"coattail train-backbone --config {_config(about, backbone)}"] if backbone else []
    lines += [f"coattail train-stg --cache {key} --config {_config(about, generator)}"] if generator else []
    lines += [f"coattail retrain --cache {key} --config {config}"]
    lines += [f"coattail report {shlex.quote(shown_folder(about, about.method.folder))}"]
    return [shown_name(line, 4 * VALUE_LENGTH) for line in lines]


def shown_folder(about: Subject, folder: Path) -> str:
    """A run folder, relative to the folder that holds the runs where it lies inside."""
    top = about.runs.parent
    return os.path.relpath(folder, top) if folder.is_relative_to(top) else str(folder)


def _config(about: Subject, folder: Path) -> str:
    return shlex.quote(str(Path(shown_folder(about, folder)) / "config.toml"))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(_text, value[:20])) + (", …" if len(value) > 20 else "")
    return "(empty)" if value == "" else str(value)
