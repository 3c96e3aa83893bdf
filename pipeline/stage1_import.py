"""Features from arrays on disk -> a cache that stages 2 and 3 take as it is."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import Provenance, catalog, manifest
from cache.errors import CacheStorage
from cache.exchange.contents import Dataset, read_dataset
from cache.exchange.importing import digest, write
from cache.exchange.request import Request, named_path
from pipeline.artefacts.authorship import author, coattail_version, now
from pipeline.errors import ConfigError, DataError
from pipeline.longtail import hold_out
from pipeline.progress import note, track
from pipeline.settings import Settings

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
DEFAULT_NAME = "imported"
"""The default of `--name`."""


@dataclass(frozen=True)
class Imported:
    """A cache's folder, what is in it, and what its user should know."""

    path: Path
    rows: dict[str, int]
    width: int
    dtype: str
    classes: int
    existed: bool
    notes: tuple[str, ...]


def request(
    sources: Sequence[str],
    labels: Sequence[str],
    ids: Sequence[str],
    classes: Path | None,
    classifier: Path | None,
    columns: Sequence[str],
) -> Request:
    """What the command line names; ConfigError where a column is not ROLE=NAME."""
    pairs = [column.partition("=") for column in columns]
    for column, (role, _, name) in zip(columns, pairs, strict=True):
        if not role or not name:
            raise ConfigError(f"--column {column}: wanted ROLE=NAME, such as features=embedding, or SPLIT/ROLE=NAME")
    return Request(
        sources=tuple(named_path(text) for text in sources),
        labels=tuple(named_path(text) for text in labels),
        ids=tuple(named_path(text) for text in ids),
        classes=classes,
        classifier=classifier,
        names={role: name for role, _, name in pairs},
    )


def import_features(request: Request, stores: Path, name: str, test_share: float, seed: int) -> Imported:
    """Read and check the arrays, hold out a test split where none is given, and write the cache unless it is there already.

    Raises CacheInvalid for arrays that are wrong, DataError where a class is too small to be divided, ConfigError for a
    name that cannot be a folder's.
    """
    if not re.fullmatch(NAME, name):
        raise ConfigError(f"--name {name}: wanted letters, digits, dots, dashes and underscores")
    dataset = read_dataset(request)
    notes = [
        f"no test split: {test_share:g} of each class of train is held out as test, seed {seed}; or give test=FILE"
    ]
    if "test" in dataset.splits:
        notes = []
    else:
        dataset = _held_out(dataset, test_share, seed)
    for line in dataset.notes:
        note(line)  # said before the long work, so that the user of a wrong array need not wait for it
    settings, more = settings_for(dataset, name)
    notes += more
    rows = {split: len(table.labels_N) for split, table in dataset.splits.items()}
    total = sum(count * len(dataset.splits[split].views) for split, count in rows.items())
    with track(total, "checking") as progress:
        digested = digest(dataset, progress.advance)
    key = digested.identity.key()
    existed = catalog.published(stores, key) is not None
    if not existed:
        _check_space(stores, dataset)
    with track(0 if existed else total, "writing") as progress:
        unproved: list[str] = []
        path = write(stores, digested, _provenance(name, settings), progress.advance, unproved.append)
    notes = [*unproved, *_of_another_name(path, name)] if existed else notes
    for line in notes:
        note(line)
    notes = [*dataset.notes, *notes]
    return Imported(path, rows, dataset.width, dataset.dtype, len(dataset.classes), existed, tuple(notes))


def document(imported: Imported) -> dict[str, Any]:
    """What `--json` prints."""
    return {"cache": imported.path.name, **asdict(imported), "path": str(imported.path)}


def text(imported: Imported) -> str:
    """What a person is told."""
    rows = ", ".join(f"{split} {count}" for split, count in imported.rows.items())
    state = "done already" if imported.existed else "imported"
    return (
        f"{state}: {rows} rows, {imported.width} features ({imported.dtype}), {imported.classes} classes: {imported.path}\n"
        f"next: coattail retrain --cache {imported.path.name[:12]}"
    )


def settings_for(dataset: Dataset, name: str) -> tuple[dict, list[str]]:
    """The settings recorded with the cache, which `retrain --cache` starts from, and why they are not the defaults."""
    counts_C = np.bincount(dataset.splits["train"].labels_N, minlength=len(dataset.classes))
    settings: dict = {"name": name}
    notes = []
    if dataset.rounded:
        notes.append("float64 features are stored as float32, rounded to nearest")
    if empty := np.flatnonzero(counts_C == 0).tolist():
        notes.append(f"{len(empty)} of {len(counts_C)} classes have no training row, the first is {empty[0]}")
    if dataset.classifier is None:
        notes.append("no classifier given: trained heads start from a new one")
    above = Settings().stg.head_above
    if counts_C.max() <= above:
        notes.append(f"no class has more than {above} training rows: the largest 40 % of the classes are taken as head")
    return settings, notes


def _of_another_name(path: Path, name: str) -> list[str]:
    """What to say where a repeated import asks for another name than the cache has; a cache never changes."""
    recorded = catalog.read_manifest(path).provenance.name
    if name in (recorded, DEFAULT_NAME):
        return []
    return [
        f"--name {name} is not used: the same rows are a cache already, called {recorded}; results go on calling it that"
    ]


def _held_out(dataset: Dataset, share: float, seed: int) -> Dataset:
    train = dataset.splits["train"]
    counts_C = np.bincount(train.labels_N, minlength=len(dataset.classes))
    if (counts_C == 1).any():
        c = int((counts_C == 1).argmax())
        raise DataError(
            f"class {dataset.classes[c]!r} has 1 row, so none can be held out as test; give a test split with test=FILE"
        )
    kept_N, held_N = hold_out(train.labels_N, share, seed)
    return dataset.with_splits({**dataset.splits, "train": train.select(kept_N), "test": train.select(held_N)})


def _check_space(stores: Path, dataset: Dataset) -> None:
    folder = next(path for path in (stores.absolute(), *stores.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if dataset.size > free:
        raise CacheStorage(
            f"{stores}: wanted {dataset.size / 2**30:.1f} GiB for the features, found {free / 2**30:.1f} GiB free; "
            "free space or set COATTAIL_STORES to a larger disk"
        )


def _provenance(name: str, settings: dict) -> Provenance:
    versions = {"coattail": coattail_version(), "numpy": np.__version__}
    return manifest.provenance(name=name, created=now(), author=author(), versions=versions, settings=settings)
