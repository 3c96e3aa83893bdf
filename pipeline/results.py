"""One schema for the figures of every finished run: a row a method x seed x split, collected from run folders.

Nothing is appended to a shared file: the run folders are the record, and this table is read from them each time.
"""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.artefacts import folders
from pipeline.errors import ConfigError, DataError
from pipeline.metrics import worst_tenth
from pipeline.settings.stage3 import TRAINED
from pipeline.settings.suggesting import did_you_mean
from pipeline.settings.used import AUGMENTATIONS, HEADS
from pipeline.stage3_record import RetrainResult, is_of_stage3
from pipeline.stage3_retrain import SPLIT_FIGURES

SHOWN = 10
"""Values of a column that a message lists."""
SCHEMA: dict[str, Any] = {
    "dataset": pl.String,
    "cache": pl.String,
    "run": pl.String,
    "method": pl.String,
    "head": pl.String,
    "augmentation": pl.String,
    "settings": pl.String,
    "seed": pl.Int64,
    "split": pl.String,
    "test_views": pl.Int64,
    "accuracy": pl.Float64,
    "balanced_accuracy": pl.Float64,
    "many": pl.Float64,
    "medium": pl.Float64,
    "few": pl.Float64,
    "worst_tenth": pl.Float64,
    "ece": pl.Float64,
    "seconds": pl.Float64,
    "chosen": pl.Boolean,
    "folder": pl.String,
}
"""Column -> type. Figures are percent. `run` is the key in the folder's name; `settings` a digest of all settings but the seeds;
`test_views` the views of each row that probabilities were averaged over; `seconds` the run's, divided evenly among its seeds;
`chosen` says whether `auto` made it."""


def settings_digest(settings: dict[str, Any]) -> str:
    """12 hex digits that name the settings of a run, whatever its seeds: two rows of one digest differ in the seed alone.

    Of `stg` and `longtail`, those count that the run's figures come from.
    """
    kept = {name: value for name, value in settings.items() if name != "seed"}
    retrain = {name: value for name, value in kept.get("retrain", {}).items() if name != "seeds"}
    used = AUGMENTATIONS.get(retrain.get("augmentation", ""), frozenset()) if retrain.get("head") in TRAINED else ()
    stg = {name: value for name, value in kept.get("stg", {}).items() if f"stg.{name}" in used}
    longtail = {name: value for name, value in kept.get("longtail", {}).items() if name in ("many_above", "few_below")}
    return folders.key_of(**{**kept, "retrain": retrain, "stg": stg, "longtail": longtail})[: folders.KEY_LENGTH]


def rows_of(result: RetrainResult, folder: Path) -> list[dict[str, Any]]:
    """One row a seed, with the columns of SCHEMA."""
    head, _, augmentation = result.method.partition("+")
    augmentation = augmentation or "none"
    same = {
        "dataset": result.dataset,
        "cache": result.cache,
        "run": folder.name.rpartition("-")[2],
        "method": result.method,
        "head": head,
        "augmentation": augmentation,
        "settings": settings_digest(result.settings),
        "split": result.split,
        "test_views": result.test_views,
        "seconds": result.seconds / len(result.seeds),
        "chosen": result.chosen,
        "folder": str(folder),
    }
    return [
        {
            **same,
            "seed": seed,
            **metrics.model_dump(exclude={"per_class"}),
            "worst_tenth": worst_tenth(metrics.per_class),
        }
        for seed, metrics in zip(result.seeds, result.each_seed, strict=True)
    ]


def frame(results: Iterable[tuple[Path, RetrainResult]]) -> pl.DataFrame:
    """The rows of these runs as one table."""
    return pl.DataFrame([row for folder, result in results for row in rows_of(result, folder)], schema=SCHEMA)


def collect(root: Path, note: Callable[[str], None]) -> pl.DataFrame:
    """The rows of every finished run of stage 3 below `root`, by data set, cache, method, settings, split and seed.

    `note` gets a line for each folder that cannot be read, which is left out.
    """
    results = []
    for proof in sorted(root.glob("*/*/metrics.json")):
        for path in (proof, *sorted(proof.parent.glob(SPLIT_FIGURES.format(split="*")))):
            try:
                if not is_of_stage3(folders.read_json(path)):
                    continue
                results.append((proof.parent, folders.read_result(proof.parent, RetrainResult, path.name)))
            except DataError as error:
                note(f"left out: {error}")
    return frame(results).sort("dataset", "cache", "method", "settings", "split", "seed")


def select(table: pl.DataFrame, seed: int | None = None, **wanted: str | None) -> pl.DataFrame:
    """The rows of this seed whose columns begin with what is wanted (`cache`, `run`, `settings`) or equal it (the others)."""
    table = table if seed is None else table.filter(pl.col("seed") == seed)
    for column, value in wanted.items():
        if value is None:
            continue
        if column in ("cache", "run", "settings"):
            table = table.filter(pl.col(column).str.starts_with(value))
        else:
            table = table.filter(pl.col(column) == value)
    return table


def check_method(head: str | None, augmentation: str | None) -> None:
    """Raise ConfigError for a head or an augmentation there is not."""
    for name, what, names in ((head, "head", HEADS), (augmentation, "augmentation", AUGMENTATIONS)):
        if name is not None and name not in names:
            hint = did_you_mean(name, list(names))
            raise ConfigError(f"--{what} {name}: no such {what}; {hint}wanted one of {', '.join(names)}")


def unmatched(table: pl.DataFrame, seed: int | None = None, **wanted: str | None) -> list[str]:
    """For each thing wanted that no row has, a text that says what the rows have instead."""
    texts = []
    for column, value in {**wanted, "seed": seed}.items():
        if value is not None and table.height and not select(table, **{column: value}).height:  # type: ignore[arg-type]
            there = table[column].unique().sort().cast(pl.String).to_list()
            hint = did_you_mean(str(value), there)
            more = ", …" if len(there) > SHOWN else ""
            texts.append(f"--{column} {value}: no run has it; {hint}found {', '.join(there[:SHOWN])}{more}")
    return texts


def parquet(table: pl.DataFrame) -> bytes:
    """The table as a Parquet file."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()
