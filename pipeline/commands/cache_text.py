"""Caches as text for a terminal. Nothing here reads a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table

from cache.format import layout

if TYPE_CHECKING:
    from cache.catalog import Listing
    from cache.exchange.exporting import Exported
    from cache.explain import Difference
    from cache.manifest import Manifest
    from cache.remove import Candidate, Removal
    from cache.sharing.offers import Shared
    from cache.verify import Verification

SHORT = 12
"""Digits of a key that are shown; 4 are enough to name a cache."""


def listings(found: "Sequence[Listing]", place: str, now: float) -> RenderableType:
    """One line a cache."""
    if not found:
        return f"no caches in {place}"
    table = _table(
        f"caches in {place}", ("key", "data set", "backbone"), ("rows", "D", "views", "size", "age", "state")
    )
    for one in found:
        numbers = (f"{one.rows:,}", str(one.width), str(one.views)) if one.state == "published" else ("", "", "")
        names = (one.key[:SHORT], one.name, one.backbone)
        table.add_row(*names, *numbers, size(one.bytes), age(now - one.modified), one.state)
    return table


def description(manifest: "Manifest", path: Path) -> str:
    """What a cache holds and what it was made from."""
    identity, made = manifest.identity, manifest.provenance
    chunk = f"{size(manifest.raw_chunk_bytes)} or less"
    lines = [
        ("key", manifest.key),
        ("path", str(path)),
        ("data set", f"{made.name}, {len(identity.classes)} classes"),
        ("backbone", f"{identity.backbone}, layer {identity.layer}, weights {identity.weights[:SHORT]}"),
        ("features", f"D = {identity.width}, {identity.dtype}, BN {identity.bn}, autocast {identity.autocast}"),
        ("transform", _plain(identity.transform)),
        (
            "views",
            f"{_plain(identity.view_transform)}, seed {identity.views_seed}" if identity.view_transform else "none",
        ),
        *((f"split {name}", _split(manifest, name)) for name in identity.splits),
        ("made", f"{made.created or 'at a time not recorded'} by {made.author or 'somebody'} ({identity.kind})"),
        ("files", f"{len(manifest.inventory) + 1:,}, {size(manifest.size)}, chunks of {chunk}"),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def document(manifest: "Manifest", path: Path) -> dict[str, Any]:
    """The manifest without its list of files, as JSON holds it."""
    return {
        "path": str(path),
        **manifest.model_dump(mode="json", exclude={"inventory"}),
        "files": len(manifest.inventory),
        "bytes": manifest.size,
    }


def verification(found: "Verification") -> str:
    """The findings, a line each, and what was looked at."""
    looked = {"quick": "file list and sizes compared", "full": "every byte compared", "subset": "a part compared"}
    read = f"{looked[found.mode]}, {found.files:,} files, {size(found.bytes)} read"
    verdict = "sound" if found.sound else f"{len(found.findings)} findings"
    lines = [*(f"{found.path}: {finding}" for finding in found.findings), f"{found.key[:SHORT]}: {verdict} ({read})"]
    return "\n".join(lines)


def differences(found: "Sequence[Difference]", left: str, right: str) -> str:
    """A line a field."""
    if not found:
        return "no differences: the same rows"
    head = f"{left[:SHORT]} | {right[:SHORT]}"
    return "\n".join([head, *map(str, found)])


def candidates(found: "Sequence[Candidate]", deleted: bool) -> str:
    """What `prune` would take away, or has taken away, a line each."""
    if not found:
        return "nothing to prune"
    lines = []
    for one in found:
        done = "kept, " + one.kept if one.kept else "deleted" if deleted else "would be deleted"
        lines.append(f"{one.path} ({size(one.bytes)}, {one.reason}): {done}")
    return "\n".join(lines if deleted else [*lines, "nothing is deleted without --yes"])


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


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table
