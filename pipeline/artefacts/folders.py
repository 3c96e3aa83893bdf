"""Run folders: where a run lies, the settings that made it, and whether it is finished.

`<runs>/<config name>/<stage>-<key>/` holds config.toml, the tensors, log.jsonl and, written last, metrics.json.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from cache.disk import durable
from cache.disk.locks import locked
from pipeline.errors import DataError
from pipeline.progress import note

if TYPE_CHECKING:
    from pipeline.settings import Settings

Result = TypeVar("Result", bound=BaseModel)
KEY_LENGTH = 12
LIMIT = 1 << 26
"""Bytes of a JSON file that are read at most: the figures of 20,000 classes and 100 seeds."""
AGAIN = "delete the folder and run the command again"
CHECKPOINT = "checkpoint.safetensors"
CHECKSUM = "checksum"
"""The key in metrics.json of the sha256 over all its other keys, as canonical JSON."""


def stores_folder() -> Path:
    """Where caches are, as a whole path: $COATTAIL_STORES, else the nearest `stores/` upwards, else one to be made here."""
    return _folder("COATTAIL_STORES", "stores", ("*/manifest.json", ".staging", ".local", ".decoded"))


def runs_folder() -> Path:
    """Where run folders are, as a whole path: $COATTAIL_RUNS, else the nearest `runs/` upwards, else one to be made here."""
    return _folder("COATTAIL_RUNS", "runs", ("*/*/config.toml", "*/*/metrics.json"))


def _folder(variable: str, name: str, contents: tuple[str, ...]) -> Path:
    """The folder that the variable names; else `name` in the working folder or, as with .git, in the nearest one above it.

    Above, one that holds something else than coattail's (`contents`) is passed over: other programs, too, have `runs/`.
    """
    from pipeline.settings.paths import home_expanded

    here = Path.cwd()
    if given := os.environ.get(variable):
        return here / home_expanded(variable, given)
    above = (folder / name for folder in here.parents)
    nearest = here / name
    if nearest.is_dir():
        return nearest
    return next((folder for folder in above if _is_ours(folder, contents)), nearest)


def _is_ours(folder: Path, contents: tuple[str, ...]) -> bool:
    """Whether coattail may take the folder as its own: it holds coattail's files or nothing, and its owner is trusted."""
    try:
        if not folder.is_dir() or not _is_trusted(folder):
            return False
        return not os.listdir(folder) or any(list(folder.glob(pattern)) for pattern in contents)
    except OSError:
        return False


def _is_trusted(folder: Path) -> bool:
    """Whether the folder may be used. In a place where everybody may write, such as /tmp, it must be the user's own."""
    everybody_writes = folder.parent.stat().st_mode & stat.S_IWOTH
    return not everybody_writes or folder.stat().st_uid == os.getuid()


def key_of(**parts: Any) -> str:
    """sha256, hex, of the parts as canonical JSON; models by their fields."""
    plain = {
        name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for name, part in parts.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def run_folder(runs: Path, name: str, stage: str, key: str) -> Path:
    """The folder of one artefact; `stage` is backbone, stg or a method's name."""
    return runs / name / f"{stage}-{key[:KEY_LENGTH]}"


def is_done(folder: Path) -> bool:
    """metrics.json is written last, so its existence means that the work completed."""
    return (folder / "metrics.json").is_file()


def start(folder: Path, settings: "Settings") -> None:
    """Make the folder and write the resolved settings into it."""
    from pipeline.settings.files import to_toml

    durable.make_folder(folder)
    write_text(folder / "config.toml", to_toml(settings))


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """One process at a time works in a run folder, which is made; another waits, after a line that says for `what`.

    The lock dies with its process. Half-written files of a killed process are removed. Where the file
    system has no locks, nobody waits.
    """
    durable.make_folder(folder)
    with locked(
        folder / ".lock", lambda: note(f"{what} {folder}: another process works on it; waiting until it is done")
    ):
        sweep(folder)
        yield


@contextmanager
def work_to_do(folder: Path, what: str) -> Iterator[bool]:
    """Whether the run in a folder is still to be made; if so, this process makes it within, alone (see `alone`).

    False where it is done already, perhaps by another process that this one has waited for; then a line says so.
    """
    if is_done(folder):
        note(f"done already: {folder}", level=2)
        yield False
        return
    with alone(folder, what):
        made_meanwhile = is_done(folder)
        if made_meanwhile:
            note(f"{what} {folder}: done already, by another process")
        yield not made_meanwhile


def leftovers(folder: Path) -> list[Path]:
    """Files that nobody reads any more: half-written ones of a killed process, and the checkpoint of a finished run."""
    torn = sorted(path for path in folder.glob(f".*{durable.TEMPORARY}") if durable.is_temporary(path))
    return [*torn, *(folder.glob(CHECKPOINT) if is_done(folder) else [])]


def sweep(folder: Path) -> None:
    """Remove `leftovers`. The caller must hold the folder's lock. A file without permission to remove it stays."""
    for path in leftovers(folder):
        with suppress(OSError):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises CacheStorage where the disk does not take it."""
    durable.replace(path, text.encode())


def write_json(path: Path, value: BaseModel | dict[str, Any]) -> None:
    """The value as indented JSON, written whole or not at all, with a `checksum` of its own content as the last key."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    plain = {name: part for name, part in plain.items() if name != CHECKSUM}
    write_text(path, json.dumps({**plain, CHECKSUM: key_of(**plain)}, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; DataError names a file that is missing, larger than `LIMIT`, or holds something else."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: wanted a JSON file, found no plain file")
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise DataError(f"{path}: larger than {LIMIT} bytes; {AGAIN}")
        value = json.loads(content.decode())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file; the run is not finished, or the folder is not a run folder") from None
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); {AGAIN}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: wanted a JSON object, found {type(value).__name__}; {AGAIN}")
    return value


def read_result(folder: Path, model: type[Result], name: str = "metrics.json") -> Result:
    """The metrics.json of a finished run, or another file of figures in its folder.

    Raises DataError where the file is not what this version writes, where a figure is out of its range, or where the
    content is not the one that its checksum was taken of. Earlier versions wrote no checksum; their files are held to
    the ranges alone.
    """
    path = folder / name
    content = read_json(path)
    wanted = content.pop(CHECKSUM, None)
    try:
        checksum = key_of(**content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); {AGAIN}") from None
    if wanted is not None and wanted != checksum:
        raise DataError(
            f"{path}: changed after it was written: wanted the checksum {str(wanted)[:12]!r}, found {checksum[:12]!r}; {AGAIN}"
        )
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}; {AGAIN}") from None


def prove(path: Path, tensors: str, recorded: str, remedy: str = AGAIN) -> None:
    """Raises DataError where the digest of a file's tensors is not the one that the run's metrics.json recorded."""
    if tensors != recorded:
        raise DataError(
            f"{path}: changed after it was written: wanted tensors of digest {recorded[:12]!r}, found {tensors[:12]!r}; {remedy}"
        )


def prove_settings(folder: Path, settings: "Settings", recorded: Mapping[str, Any]) -> None:
    """Raises DataError where settings from a run's config.toml are not those that its metrics.json recorded.

    `recorded` has sections, or parts of them. What it lacks, because an earlier version made the run, is not compared.
    """
    found = settings.model_dump(mode="json")
    for section, values in recorded.items():
        pairs = values.items() if isinstance(values, dict) else [(None, values)]
        for name, value in pairs:
            other = found.get(section) if name is None else found.get(section, {}).get(name, value)
            if other != value:
                key = section if name is None else f"{section}.{name}"
                raise DataError(
                    f"{folder / 'config.toml'}: changed after it was written: {key}: wanted {value!r}, found {other!r}; {AGAIN}"
                )


@contextmanager
def log(folder: Path) -> Iterator["Log"]:
    """A fresh log.jsonl in the folder, a JSON object a line."""
    path = folder / "log.jsonl"
    with durable.storing(path), path.open("wb", buffering=0) as file:
        yield Log(file)


class Log:
    """Writes one JSON object a line."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, **values: Any) -> None:
        self._file.write(json.dumps(values).encode() + b"\n")
