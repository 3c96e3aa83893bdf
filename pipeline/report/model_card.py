"""The card of an exported model: data, method, figures by group, limits, and a script that runs the file without coattail."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import Manifest
from pipeline.exporting.check import Parity
from pipeline.exporting.deployable import About
from pipeline.report.card_script import script_of
from pipeline.report.exported import markdown
from pipeline.report.layout import Column, Table
from pipeline.report.printable import printable
from pipeline.stage3_record import RetrainResult

SHOWN_CLASSES = 20
"""Classes that the text names; the JSON card has all."""


def card_document(
    about: About, result: RetrainResult, manifest: Manifest, nearness: Parity, path: Path
) -> dict[str, Any]:
    """The card as JSON: everything that the text says, and every class with its training rows and its accuracy."""
    counts = manifest.counts.get("train", ())
    return {
        "file": path.name,
        "model": about.model_dump(mode="json"),
        "data": {
            "name": result.dataset,
            "rows": {name: split.rows for name, split in manifest.identity.splits.items()},
            "cache": manifest.key,
        },
        "method": {"name": result.method, "settings": result.settings, "chosen": result.selection.model_dump()},
        "figures": {
            "split": result.split,
            "seeds": len(result.seeds),
            "percent": result.mean,
            "spread": result.std,
            "prior": result.prior,
            "test_views": result.test_views,
        },
        "classes": [
            {"name": name, "training_rows": rows, "accuracy": accuracy}
            for name, rows, accuracy in zip(about.classes, counts, result.per_class, strict=True)
        ],
        "parity": nearness.document(),
        "limits": limits_of(about, result, counts),
        "script": script_of(about, path),
    }


def limits_of(about: About, result: RetrainResult, counts: Sequence[int]) -> list[str]:
    """What the model does not do, in sentences."""
    limits = [
        f"It names one of its {len(about.classes)} classes for every input, also for one that is of none of them.",
        f"The figures are those of the {result.split} split of {printable(result.dataset)}; other images may give others.",
    ]
    if result.test_views > 1:
        limits.append(
            f"The figures are averages over {result.test_views} views of each row; the file sees one, and has others."
        )
    rare = [name for name, rows in zip(about.classes, counts, strict=True) if rows < 20]
    if rare:
        named = ", ".join(printable(name) for name in rare[:5]) + (" and others" if len(rare) > 5 else "")
        limits.append(f"{len(rare)} classes had fewer than 20 training rows and are known least well: {named}.")
    if about.temperature == 1:
        limits.append("The probabilities are not calibrated: no val split was at hand to fit a temperature on.")
    else:
        limits.append(
            f"The probabilities are calibrated on the val split: logits are divided by {about.temperature:.3f}."
        )
    if len(about.seeds) > 1:
        limits.append(
            f"The file averages the probabilities of {len(about.seeds)} seeds; the figures are the mean of each seed's own."
        )
    if about.takes == "pixels":
        size, mode = about.transform["size"], about.transform.get("interpolation", "bilinear")
        shorter = f"the shorter side becomes {about.transform['resize']} pixels ({mode})"
        how = f"{shorter}, then the centre of {size} x {size} is cut out"
        if about.transform.get("fit") == "stretch":
            how = f"the whole image becomes {size} x {size} pixels ({mode})"
        limits.append(
            f"Resizing is not in the file: by Pillow, {how}. Another resizing gives other probabilities. The script does it for "
            "8-bit images."
        )
    else:
        limits.append(f"It takes features of {printable(about.backbone)[:80]}; that network is not in the file.")
    return limits


def card_text(document: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    model, data, figures = document["model"], document["data"], document["figures"]
    rows = ", ".join(f"{name} {count:,}" for name, count in data["rows"].items())
    nearness = document["parity"]
    parts = [
        f"# {_inline(data['name'])}: {_inline(document['method']['name'])}",
        f"Input: {_input(model)}. Output: probabilities of {len(model['classes'])} classes, the mean over the classifiers of "
        f"{len(model['seeds'])} seed{'s' * (len(model['seeds']) > 1)}.",
        f"Backbone: {_inline(model['backbone'])}. Data: {_inline(data['name'])}, rows: {rows}. Feature cache: `{data['cache']}`.",
        markdown(_groups(figures)).rstrip(),
        markdown(_classes(document["classes"])).rstrip(),
        "## Limits",
        "\n".join(f"- {_inline(limit)}" for limit in document["limits"]),
        "## Parity",
        f"On {nearness['rows']} {nearness['what']} the file named the same class {nearness['same_class']} times; its "
        f"probabilities differed from the run's by at most {nearness['largest_difference']:.1e}.",
        "## Use without coattail",
        f"```python\n{document['script']}```",
    ]
    return "\n\n".join(parts) + "\n"


def _inline(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "\\`*[]<>#|" else sign for sign in printable(text))


def _input(model: Mapping[str, Any]) -> str:
    if model["takes"] == "features":
        return f"float32 features (rows, {model['width']})"
    size = model["transform"]["size"]
    return f"uint8 pixels (rows, {size}, {size}, 3), red, green, blue; normalisation is in the file"


def _groups(figures: Mapping[str, Any]) -> Table:
    rows = [
        (name, "none" if value is None else f"{value:.1f}", f"{figures['spread'][name] or 0:.1f}")
        for name, value in figures["percent"].items()
    ]
    columns = (Column("figure"), Column("percent", figures=True), Column("spread over seeds", figures=True))
    return Table(f"Figures on the {figures['split']} split, mean over {figures['seeds']} seeds", columns, tuple(rows))


def _classes(classes: Sequence[Mapping[str, Any]]) -> Table:
    """The largest and the smallest classes by training rows, all where they are few."""
    ordered = sorted(classes, key=lambda row: -row["training_rows"])
    shown = ordered if len(ordered) <= SHOWN_CLASSES else ordered[: SHOWN_CLASSES // 2] + ordered[-SHOWN_CLASSES // 2 :]
    rows = [
        (row["name"], f"{row['training_rows']:,}", "none" if row["accuracy"] is None else f"{row['accuracy']:.1f}")
        for row in shown
    ]
    title = (
        f"{len(shown)} of {len(classes)} classes, the largest and the smallest"
        if len(shown) < len(classes)
        else "Classes"
    )
    columns = (Column("class"), Column("training rows", figures=True), Column("accuracy", figures=True))
    return Table(title, columns, tuple(rows))
