"""Caches that somebody made to do harm, their checksums right: each is one line, and takes neither memory nor time.

One process with little memory beside what a whole cache takes reads them all.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import polars as pl
import pytest
import toy_caches as toys
from numcodecs import Zstd
from safetensors.numpy import save as safetensors_bytes

from cache import FeatureCache
from cache.format import layout
from cache.identity import canonical
from cache.parquet import own as footer
from cache.parquet import pages

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = toys.identity({"train": 18, "test": 10}, width=64, layer="relu")
HUGE = 1 << 28
ARRAY, CHUNK, ROWS = "features.zarr/train/clean/zarr.json", "features.zarr/train/clean/c/0/0", "rows/train.parquet"
CLASSIFIER = "classifier.safetensors"
RAW = 8 * 64 * 2
"""Bytes of a chunk before compression."""

Case = Callable[[Path], None]


def sealed(path: Path, change: Callable[[dict[str, Any]], object] = lambda raw: None) -> None:
    """The manifest again, after a change, with every checksum of it right and every file's size and digest as they are."""
    raw = json.loads((path / layout.MANIFEST).read_bytes())
    for entry in raw["inventory"]:
        if os.path.isfile(path / entry["file"]):
            content = (path / entry["file"]).read_bytes()
            entry.update(size=len(content), sha256=sha256(content).hexdigest(), crc32c="")
    change(raw)
    raw["key"] = sha256(canonical(raw["identity"])).hexdigest()
    raw["checksum"] = sha256(canonical({name: raw[name] for name in raw if name != "checksum"})).hexdigest()
    (path / layout.MANIFEST).write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n")


def edit(change: Callable[[dict[str, Any]], object]) -> Case:
    return lambda path: sealed(path, change)


def put(file: str, content: bytes | Callable[[], bytes]) -> Case:
    def case(path: Path) -> None:
        (path / file).write_bytes(content if isinstance(content, bytes) else content())
        if file != layout.MANIFEST:
            sealed(path)

    return case


def listed(file: str) -> Case:
    """Another path in the inventory, in the place of a chunk's."""
    return edit(lambda raw: next(one for one in raw["inventory"] if one["file"] == CHUNK).update(file=file))


def described(change: Callable[[dict[str, Any]], object]) -> Case:
    def case(path: Path) -> None:
        document = json.loads((path / ARRAY).read_bytes())
        change(document)
        put(ARRAY, json.dumps(document).encode())(path)

    return case


def linked(file: str) -> Case:
    """The file or folder lies elsewhere, whole, and a link leads to it."""

    def case(path: Path) -> None:
        aside = path.parent.parent / "aside" / path.name
        aside.parent.mkdir(exist_ok=True)
        (path / file).rename(aside)
        (path / file).symlink_to(aside)

    return case


def special(file: str, make: Callable[[Path], object]) -> Case:
    def case(path: Path) -> None:
        (path / file).unlink()
        make(path / file)

    return case


def sparse(file: str, size: int) -> Case:
    """A file of that many zeros, which takes no room on the disk; its digest is not looked at before its size is."""

    def case(path: Path) -> None:
        with (path / file).open("wb") as opened:
            opened.truncate(size)
        raw = json.loads((path / layout.MANIFEST).read_bytes())
        next(one for one in raw["inventory"] if one["file"] == file)["size"] = size
        raw["checksum"] = sha256(canonical({name: raw[name] for name in raw if name != "checksum"})).hexdigest()
        (path / layout.MANIFEST).write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n")

    return case


def crc(content: bytes) -> bytes:
    return content + google_crc32c.value(content).to_bytes(4, "little")


def frame_of(size: int) -> bytes:
    return bytes(Zstd(level=3).encode(bytes(size)))


def frame_that_says(size: int, holds: int) -> bytes:
    """A zstd frame (RFC 8878, 3.1.1) of run-length blocks: its header says one size, its blocks hold another."""
    head = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + size.to_bytes(8, "little")
    blocks = [min(1 << 17, holds - start) for start in range(0, holds, 1 << 17)]
    return head + b"".join(
        (length << 3 | 1 << 1 | (number == len(blocks) - 1)).to_bytes(3, "little") + b"\0"
        for number, length in enumerate(blocks)
    )


def frame_without_size() -> bytes:
    return b"\x28\xb5\x2f\xfd\x00\x58" + (RAW << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0" + bytes(8)


def table(**columns: Any) -> Callable[[], bytes]:
    return lambda: parquet(toys.frame("train", 18).with_columns(**columns))


def parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, statistics=False, **options)
    return buffer.getvalue()


def long_table(rows: int) -> bytes:
    constant = [pl.lit(0).alias("row"), pl.lit("x").alias("sample_id"), pl.lit(0).alias("label")]
    return parquet(pl.select(pl.repeat(None, rows).alias("path")).with_columns(constant))


def footer_of_length(length: int) -> bytes:
    content = parquet(toys.frame("train", 18))
    return content[:-8] + length.to_bytes(4, "little") + b"PAR1"


def tensors(header: dict[str, Any], size: int = 4 * (3 * 64 + 3)) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def tensor(start: int, stop: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


def into_itself(path: Path) -> None:
    (path / ROWS).unlink()
    (path / ROWS).symlink_to(path / ROWS)


CHUNK_NAME = "features.zarr/train/clean/c/0"
AGAIN = "`cache rm` it, then pull, extract or import it again"
NO_MANIFEST = f"{layout.MANIFEST}: not a manifest of format 1: "
NO_LIST = f"{NO_MANIFEST}whole: the inventory is not the list of files that the identity asks for; {AGAIN}"
CASES: dict[str, tuple[Case, str]] = {
    "manifest: nested": (put(layout.MANIFEST, b"[" * 10**5), f"{NO_MANIFEST}nested too deep; {AGAIN}"),
    "manifest: nested and long": (put(layout.MANIFEST, b"[" * 10**6), f"{NO_MANIFEST}more than 262144 fields, "),
    "manifest: nested a little less": (
        edit(lambda raw: raw["identity"].update(transform=nested(300))),
        f"{NO_MANIFEST}whole: "),  # what pydantic says of it depends on its version
    "manifest: integer": (put(layout.MANIFEST, b"1" * 10**7), f"{NO_MANIFEST}Exceeds the limit (4300 digits)"),
    "manifest: list": (put(layout.MANIFEST, b"[" + b"1," * 10**6 + b"1]"), f"{NO_MANIFEST}whole: Input should be"),
    "manifest: nothing": (put(layout.MANIFEST, b""), f"{NO_MANIFEST}Expecting value"),
    "manifest: other code": (put(layout.MANIFEST, b"\xff\xfe\x00"), f"{NO_MANIFEST}'utf-16-le' codec"),
    "manifest: large": (
        lambda path: os.truncate(path / layout.MANIFEST, HUGE), f"{layout.MANIFEST}: wanted at most 67108864 bytes, found {HUGE}"),
    "manifest: twice": (
        lambda path: (path / layout.MANIFEST).write_bytes(
            (path / layout.MANIFEST).read_bytes().replace(b'{\n "checksum"', b'{\n "key": "../..",\n "checksum"', 1)),
        f"{NO_MANIFEST}its checksum is not that of its content; it was edited or damaged; {AGAIN}"),
    "manifest: nan": (
        edit(lambda raw: raw["identity"].update(width="NaN")), f"{NO_MANIFEST}identity.width: Input should be"),
    "manifest: rows": (edit(lambda raw: raw["identity"]["splits"]["train"].update(rows=10**12 - 1)), NO_LIST),
    "manifest: width": (edit(lambda raw: raw["identity"].update(width=1 << 20)), f"{layout.FEATURES}"),
    "manifest: views": (edit(lambda raw: raw["identity"]["splits"]["train"].update(views=99)), NO_LIST),
    "manifest: chunk": (edit(lambda raw: raw.update(rows_per_chunk=10**9)), f"{NO_MANIFEST}whole: chunks of 128000000000 bytes"),
    "manifest: split": (
        edit(lambda raw: raw["identity"]["splits"].update({"../x": raw["identity"]["splits"]["test"]})),
        f"{NO_MANIFEST}identity.splits.../x.[key]: String should match pattern"),
    "path: up": (listed("../../../etc/passwd"), NO_LIST),
    "path: up from within": (listed("features.zarr/../../x"), NO_LIST),
    "path: absolute": (listed("/etc/passwd"), NO_LIST),
    "path: nul": (listed("features.zarr/train\0"), NO_LIST),
    "path: backslash": (listed("features.zarr\\train\\clean\\c\\0\\0"), NO_LIST),
    "path: here": (listed(f"./{CHUNK}"), NO_LIST),
    "path: long": (listed("a" * 10**6), f"{NO_MANIFEST}inventory"),
    "link: features": (linked("features.zarr"), "features.zarr: a symbolic link; a cache holds plain files"),
    "link: split": (linked("features.zarr/train"), "features.zarr/train: a symbolic link; a cache holds plain files"),
    "link: view": (linked("features.zarr/train/clean"), "train/clean: a symbolic link; a cache holds plain files"),
    "link: chunks": (linked("features.zarr/train/clean/c"), "clean/c: a symbolic link; a cache holds plain files"),
    "link: folder of a chunk": (linked(CHUNK_NAME), f"{CHUNK_NAME}: a symbolic link; a cache holds plain files"),
    "link: chunk": (linked(CHUNK), f"{CHUNK}: a symbolic link; a cache holds plain files"),
    "link: rows": (linked("rows"), "rows: a symbolic link; a cache holds plain files"),
    "link: table": (linked(ROWS), f"{ROWS}: a symbolic link; a cache holds plain files"),
    "link: array": (linked(ARRAY), f"{ARRAY}: a symbolic link; a cache holds plain files"),
    "link: manifest": (linked(layout.MANIFEST), f"{layout.MANIFEST}: a symbolic link; a cache holds plain files"),
    "link: to itself": (into_itself, f"{ROWS}: a symbolic link; a cache holds plain files"),
    "fifo: chunk": (special(CHUNK, os.mkfifo), f"{CHUNK}: not a plain file; a cache holds plain files"),
    "fifo: table": (special(ROWS, os.mkfifo), f"{ROWS}: not a plain file; a cache holds plain files"),
    "fifo: manifest": (special(layout.MANIFEST, os.mkfifo), "no cache there (no manifest.json)"),
    "device": (special(CHUNK, lambda path: path.symlink_to("/dev/zero")), f"{CHUNK}: a symbolic link"),
    "array: shape": (described(lambda one: one.update(shape=[10**15, 64])),
        "shape: wanted [18, 64], found [1000000000000000, 64]"),
    "array: type": (described(lambda one: one.update(data_type="object")), 'data_type: wanted "float16", found "object"'),
    "array: chunks": (
        described(lambda one: one["chunk_grid"]["configuration"].update(chunk_shape=[10**12, 64])), "chunk_grid: wanted"),
    "array: codec": (described(lambda one: one["codecs"].insert(0, {"name": "numcodecs.pickle"})), "codecs: wanted"),
    "array: extension": (described(lambda one: one.update(must="x")), 'must: wanted null, found "x"'),
    "array: store": (described(lambda one: one.update(storage_transformers=[{"name": "x"}])),
        "storage_transformers: wanted [], found"),
    "array: nested": (put(ARRAY, b"[" * 60_000), f"{ARRAY}: not the description of an array (maximum recursion depth exceeded"),
    "array: integer": (put(ARRAY, b"1" * 60_000), f"{ARRAY}: not the description of an array (Exceeds the limit"),
    "array: large": (sparse(ARRAY, HUGE), f"{ARRAY}: wanted at most 65536 bytes, found {HUGE}; coattail did not write it"),
    "zstd: says more": (put(CHUNK, crc(frame_that_says(HUGE, HUGE))), f"wanted a chunk of {RAW} bytes, found {HUGE}; {AGAIN}"),
    "zstd: holds more": (put(CHUNK, crc(frame_that_says(RAW, 1 << 24))), f"{CHUNK} (rows 0 to 7): "),
    "zstd: holds less": (put(CHUNK, crc(frame_that_says(RAW, RAW // 2))), f"{CHUNK} (rows 0 to 7): "),
    "zstd: two frames": (put(CHUNK, crc(frame_of(RAW) + frame_of(RAW))), f"{CHUNK} (rows 0 to 7): "),
    "zstd: no size": (put(CHUNK, crc(frame_without_size())), f"wanted a chunk of {RAW} bytes, found None; {AGAIN}"),
    "zstd: padded": (put(CHUNK, crc(frame_of(RAW) + bytes(10**6))), f"wanted at most {RAW} bytes, found"),
    "chunk: large": (sparse(CHUNK, HUGE), f"{CHUNK} (rows 0 to 7): "),
    "chunk: nothing": (put(CHUNK, b""),
        f"{CHUNK} (rows 0 to 7): wanted a chunk inside its 0 bytes, found one from 0 to 0; {AGAIN}"),
    "rows: long text": (
        put(ROWS, table(path=pl.lit("a" * (1 << 26)))),
        f"{ROWS}: cannot be read (wanted at most 1122304 bytes once decoded for 18 rows in "),
    "rows: many": (
        put(ROWS, lambda: long_table(20_000_000)), f"{ROWS}: cannot be read (wanted 18 rows, found 20000000); {AGAIN}"),
    "rows: nested": (
        put(ROWS, table(path=pl.concat_list("row"))),
        f"{ROWS}: cannot be read (wanted at most 32 flat columns, found 6, or nested ones); {AGAIN}"),
    "rows: columns": (
        put(ROWS, table(**{f"c{number}": pl.lit(0) for number in range(100)})),
        f"{ROWS}: cannot be read (wanted at most 32 flat columns, found 104, or nested ones); {AGAIN}"),
    "rows: codec": (
        put(ROWS, lambda: parquet(toys.frame("train", 18), compression="gzip")),
        f"{ROWS}: cannot be read (wanted columns of this file, plain or zstd, a value a row; found others); {AGAIN}"),
    "rows: footer outside": (put(ROWS, footer_of_length(2**32 - 1)), f"{ROWS}: cannot be read (no Parquet file"),
    "rows: footer inside": (put(ROWS, footer_of_length(9)), f"{ROWS}: cannot be read ("),
    "rows: large": (sparse(ROWS, HUGE), f"{ROWS}: wanted at most 1122304 bytes, found {HUGE}; coattail did not write it"),
    "rows: nothing": (put(ROWS, b""), f"{ROWS}: cannot be read (no Parquet file, or its footer is too long); {AGAIN}"),
    "classifier: large": (sparse(CLASSIFIER, HUGE), f"{CLASSIFIER}: wanted at most 66316 bytes, found {HUGE}; coattail did not write it"),
    "classifier: header": (
        put(CLASSIFIER, (2**63).to_bytes(8, "little") + b"{}"),
        f"{CLASSIFIER}: wanted a header of at most 65536 bytes, found {2**63}; {AGAIN}"),
    "classifier: header nested": (
        put(CLASSIFIER, (60_000).to_bytes(8, "little") + b"[" * 60_000), f"{CLASSIFIER}: cannot be read ("),
    "classifier: overlap": (
        put(CLASSIFIER, tensors({"weight": tensor(0, 768, [3, 64]), "bias": tensor(0, 12, [3])})),
        f"{CLASSIFIER}: cannot be read ("),
    "classifier: outside": (
        put(CLASSIFIER, tensors({"weight": tensor(0, HUGE, [HUGE // 4])})), f"{CLASSIFIER}: cannot be read ("),
    "classifier: shape": (
        put(CLASSIFIER, tensors({"weight": tensor(0, 768, [64, 3]), "bias": tensor(768, 780, [3])})),
        "wanted {'weight': ((3, 64), 'float32'), 'bias': ((3,), 'float32')}, found {"),
    "classifier: type": (
        put(CLASSIFIER, safetensors_bytes({"weight": np.ones((3, 64), np.float16), "bias": np.ones(3, np.float32)})),
        "((3, 64), 'float16')"),
    "classifier: type that numpy has not": (
        put(CLASSIFIER, tensors({"weight": tensor(0, 192, [3, 64], "F8_E5M2")}, 192)), f"{CLASSIFIER}: "),
}  # fmt: skip


def index_of(places: list[tuple[int, int]]) -> Case:
    """A shard whose index says that its chunks lie there; its own checksum is right."""

    def case(path: Path) -> None:
        content = (path / CHUNK).read_bytes()
        index = np.array(places, "<u8").tobytes()
        put(CHUNK, content[: -len(crc(index))] + crc(index))(path)

    return case


NONE = layout.NO_CHUNK
SHARDED: dict[str, tuple[Case, str]] = {
    "index: outside": (index_of([(0, 200), (0, 200), (HUGE, 200)]), "found one from 268435456 to 268435656"),
    "index: far outside": (index_of([(0, 200), (0, 200), (2**64 - 2, 200)]), "wanted a chunk inside its"),
    "index: long": (index_of([(0, 2**63), (0, 200), (0, 200)]), "wanted a chunk inside its"),
    "index: short": (index_of([(0, 4), (0, 200), (0, 200)]), "wanted a chunk inside its"),
    "index: none": (index_of([(NONE, NONE)] * 3), "wanted 3 chunks in its index, found others"),
    "index: not there": (put(CHUNK, b"x"), "the checksum of its index is not that of the index's bytes"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[str]]]:
    """What a reader with little memory says of each, the refusal and verify's findings."""
    base = tmp_path_factory.mktemp("hostile")
    (base / "caches").mkdir()
    whole = {"one": toys.make(base / "one", IDENTITY)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "MANY_CHUNKS", 0)
        whole["sharded"] = toys.make(base / "sharded", IDENTITY)
    assert b'"zstd"' in (whole["one"] / ARRAY).read_bytes()
    assert b'"sharding_indexed"' in (whole["sharded"] / ARRAY).read_bytes()
    for kind, cases in (("one", CASES), ("sharded", SHARDED)):
        for name, (case, _) in cases.items():
            shutil.copytree(whole[kind], base / "caches" / name)
            case(base / "caches" / name)
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "tests/support/hostile_reader.py"),
        str(whole["one"]), str(base / "caches")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", [*CASES, *SHARDED])
def test_each_is_refused_in_one_line(outcomes, name):
    said, findings = outcomes[name]
    _, wanted = (CASES | SHARDED)[name]
    assert wanted in said
    assert "\n" not in said
    assert len(said) < 600
    assert findings
    assert all("\n" not in found and len(found) < 700 for found in findings)


def test_what_is_resealed_without_a_change_is_read(tmp_path):
    path = toys.make(tmp_path, IDENTITY)
    sealed(path)
    assert FeatureCache.open(path).rows("train").equals(toys.frame("train", 18))


def test_a_table_of_other_bytes_is_counted_or_unfit(tmp_path):
    content = parquet(toys.frame("train", 18), compression="zstd")
    unfit = 0
    for place in range(len(content)):
        for mask in (1, 0x80, 0xFF):
            changed = bytearray(content)
            changed[place] ^= mask
            try:
                footer.check(bytes(changed), 18)
            except pages.Unfit:
                unfit += 1
    assert 0 < unfit < 3 * len(content)
    for length in range(len(content)):
        with pytest.raises(pages.Unfit):
            footer.check(content[:length], 18)
