"""A file of predictions. It is written row by row, resumed after an interruption, and appears only when it is complete."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from cache.disk import durable
from pipeline.artefacts.outputs import output_path
from pipeline.errors import ConfigError
from pipeline.progress import note

FORMATS = (".parquet", ".csv", ".jsonl")
PART = ".part"
"""Put behind the name of a file of predictions while it is written."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which a spreadsheet takes a cell for a formula. In CSV such text gets an apostrophe before it."""


@dataclass(frozen=True)
class Prediction:
    """One row: its name, the likeliest classes first with their probabilities, or the reason why there are none."""

    name: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    broken: str = ""


class PredictionFile:
    """`path.part` holds a line that says whose predictions these are, then a line each; `publish` makes `path` of it."""

    def __init__(self, path: Path, made_from: dict[str, object]) -> None:
        if path.suffix not in FORMATS:
            raise ConfigError(
                f"{path}: wanted a file that ends with {', '.join(FORMATS)}, found {path.suffix or 'no suffix'}"
            )
        path = output_path("-o", path)
        self.path, self.part = path, output_path("-o", path.with_name(path.name + PART))
        self._header = json.dumps(made_from, sort_keys=True)
        self.done = self._resume()

    def _resume(self) -> int:
        """How many predictions of the same classifier and inputs are written; a line that was cut short is taken away."""
        if self.part.is_file():
            with self.part.open("rb") as lines:
                header, size, count = lines.readline(), 0, -1
                lines.seek(0)
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    size, count = size + len(line), count + 1
            if header == self._header.encode() + b"\n":
                os.truncate(self.part, size)
                note(f"{self.part}: going on after {count} predictions")
                return count
            if header and not _is_header(header):
                raise ConfigError(f"{self.part}: is no part of a file of predictions; move it away, or give another -o")
        self.part.write_text(self._header + "\n", encoding="utf-8")
        return 0

    def write(self, predictions: Iterable[Prediction]) -> None:
        with self.part.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(prediction)) + "\n" for prediction in predictions)

    def read(self) -> Iterator[Prediction]:
        """All predictions written so far, in the order of the inputs."""
        with self.part.open(encoding="utf-8") as lines:
            next(lines)
            for line in lines:
                row = json.loads(line)
                yield Prediction(row["name"], tuple(row["classes"]), tuple(row["probabilities"]), row["broken"])

    def publish(self, count: int) -> None:
        """Write `path` in its format, whole or not at all, and take the part away; `count` classes a row."""
        with durable.writing(self.path) as file:
            if self.path.suffix == ".jsonl":
                file.writelines(f"{json.dumps(as_object(row))}\n".encode() for row in self.read())
            elif self.path.suffix == ".csv":
                texts = pl.col(pl.String).map_elements(_cell, return_dtype=pl.String)
                _frame(self.read(), count).with_columns(texts).write_csv(file)
            else:
                _frame(self.read(), count).write_parquet(file)
        self.part.unlink()


def _is_header(line: bytes) -> bool:
    """Whether the line is one that a file of predictions begins with, of whatever classifier and inputs."""
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return not line.endswith(b"\n")  # cut short as it was written
    return isinstance(header, dict) and {"classifier", "inputs"} <= header.keys()


def as_object(prediction: Prediction) -> dict[str, object]:
    """A prediction as JSON has it."""
    if prediction.broken:
        return {"name": prediction.name, "error": prediction.broken}
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return {"name": prediction.name, "classes": [{"class": name, "probability": value} for name, value in pairs]}


def _frame(predictions: Iterable[Prediction], count: int) -> pl.DataFrame:
    """Columns name, class_1, probability_1, …, error; of a broken image, all but the first and last are null."""
    rows = list(predictions)
    columns: dict[str, pl.Series] = {"name": pl.Series([row.name for row in rows], dtype=pl.String)}
    for place in range(count):
        classes = [row.classes[place] if row.classes else None for row in rows]
        values = [row.probabilities[place] if row.classes else None for row in rows]
        columns[f"class_{place + 1}"] = pl.Series(classes, dtype=pl.String)
        columns[f"probability_{place + 1}"] = pl.Series(values, dtype=pl.Float64)
    columns["error"] = pl.Series([row.broken or None for row in rows], dtype=pl.String)
    return pl.DataFrame(columns)


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def names_digest(names: Iterable[Sequence[str]]) -> str:
    """sha256, hex, of the inputs' names in order."""
    digest = hashlib.sha256()
    for group in names:
        digest.update("\0".join(group).encode("utf-8", "backslashreplace") + b"\0\0")
    return digest.hexdigest()
