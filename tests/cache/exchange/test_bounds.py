"""What an input may cost is looked at before it is paid, and an error line stays a line."""

import io
import json
import os
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cache import CacheInvalid
from cache.exchange.contents import read_dataset
from cache.exchange.formats import open_source
from cache.exchange.request import Request, named_path

FEATURES, LABELS = np.ones((4, 2), np.float32), np.arange(4) % 2
NOBODY = ": nobody has that name here, so there is no home folder; give the whole path"
NO_FILE = "wanted a file, found a device or a pipe; save the arrays to a file first"


def refused(request: Request) -> str:
    begun = time.monotonic()
    with pytest.raises(CacheInvalid) as caught:
        read_dataset(request)
    assert time.monotonic() - begun < 5
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 3000
    return str(caught.value)


@pytest.fixture
def sound(tmp_path):
    np.savez(tmp_path / "a.npz", x=FEATURES, y=LABELS)
    return ("", tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".parquet", ".txt", ".json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_not_read(tmp_path, sound, suffix, kind):
    path = tmp_path / f"b{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    requests = [Request((sound,), classes=path)]
    if suffix != ".json":
        requests += [
            Request((("", path),)),
            Request((sound,), labels=(("", path),)),
            Request((sound,), ids=(("", path),)),
            Request((sound,), classifier=path),
        ]
    for request in requests:
        assert refused(request) == f"{path}: {NO_FILE}"


def test_headers_that_are_too_long(tmp_path):
    size = 99 << 20
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", size))
        file.truncate(size + 100)
    assert refused(Request((("", path),))) == (
        f"{path}: wanted a header of at most {32 << 20} bytes, found {size}; save fewer tensors in it"
    )
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", size))
        file.truncate(size + 100)
    assert refused(Request((("", path),))) == (
        f"{path}: not a NumPy array, or damaged (wanted a header of at most 10000 bytes, found {size}); save or copy the file again"
    )


def with_header(path: Path, text: str, size: int = 0) -> Path:
    """A safetensors file of this header and `size` bytes of numbers."""
    content = text.encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(size))
    return path


def test_safetensors_headers_that_are_short_and_hold_too_much(tmp_path):
    """A header of 20 MB of tiny entries would take gigabytes once parsed, and a tensor of a million axes fits no array."""
    entry = '"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    many = with_header(tmp_path / "a.safetensors", f"{{{','.join(entry.format(n) for n in range(300_000))}}}")
    notes = with_header(
        tmp_path / "b.safetensors", json.dumps({"__metadata__": dict.fromkeys(map(str, range(10**6)), "")})
    )
    for path, texts in ((many, 1_500_000), (notes, 2_000_001)):
        assert refused(Request((("", path),))) == (
            f"{path}: wanted a header of at most 80000 texts, found {texts}; save fewer tensors in it"
        )
    axes = ",".join(["1"] * 10**6)
    deep = with_header(tmp_path / "c.safetensors", f'{{"x":{{"dtype":"U8","shape":[{axes}],"data_offsets":[0,1]}}}}', 1)
    assert refused(Request((("", deep),))) == (
        f"{deep}[x]: wanted a tensor of at most 32 axes, found 1000000; save it with fewer"
    )


def test_a_safetensors_header_may_hold_a_million_class_names(tmp_path):
    names = json.dumps([f"class {n}" for n in range(10**6)])
    header = {"__metadata__": {"classes": names}, "x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    path = with_header(tmp_path / "a.safetensors", json.dumps(header), 1)
    assert open_source(path).metadata == {"classes": names}


def test_an_npz_directory_that_is_too_long(tmp_path):
    """zipfile makes an object of a kilobyte of every 46 bytes there, whatever the entries are called."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(150_000):
            entry = zipfile.ZipInfo(f"{number:06}")
            entry.header_offset = entry.CRC = 0
            archive.filelist.append(entry)
        archive._didModify = True
    assert refused(Request((("", path),))) == (
        f"{path}: not a .npz file, or damaged (wanted a directory of at most {4 << 20} bytes, found {150_000 * 52}); "
        "save or copy it again"
    )


def test_an_npz_of_as_many_arrays_as_a_file_may_hold(tmp_path):
    path = tmp_path / "a.npz"
    with io.BytesIO() as one:
        np.save(one, np.zeros(1, np.int8))
        content = one.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(10_000):
            archive.writestr(f"{number:0200}.npy", content)
    assert len(open_source(path).arrays) == 10_000
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("one-more.npy", content)
    assert refused(Request((("", path),))) == f"{path}: wanted at most 10000 arrays, found 10001"


def test_texts_that_would_take_the_room_of_the_longest(tmp_path, sound):
    path = tmp_path / "ids.txt"
    path.write_text("a\n" * (2 << 20) + "b" * (2 << 10))
    assert refused(Request((sound,), ids=(("train", path),))) == (
        f"{path}: wanted 4 ids, one for each row of {sound[1]}[x], found ({(2 << 20) + 1},)"
    )
    assert refused(Request((sound,), classes=path)) == f"{path}: wanted at most 4 GiB, found 16; use Parquet"
    for rows, length, line in (
        (1 << 20, 1 << 10, "wanted at most 4 GiB of text, found 4; shorten the longest"),
        (1, 2 << 20, f"wanted at most 1024 characters, found '{'b' * 60}'… ({2 << 20} characters)"),
    ):
        frame = pl.DataFrame({"classes": ["a"] * rows + ["b" * length]})
        frame.write_parquet(tmp_path / "c.parquet")
        assert refused(Request((sound,), classes=tmp_path / "c.parquet")) == f"{tmp_path}/c.parquet[classes]: {line}"


def test_a_name_of_a_megabyte(tmp_path, sound):
    np.savez(tmp_path / "b.npz", **{"n" * 60_000: FEATURES})
    assert refused(Request((("", tmp_path / "b.npz"),))) == (
        f"{tmp_path}/b.npz: wanted at most 10000 arrays with names of at most 200 characters, found 1 arrays and a name of 60000 characters"
    )
    label = "7" * 1_000_000
    (tmp_path / "y.txt").write_text(f"0\n1\n0\n{label}\n")
    assert refused(Request((sound,), labels=(("", tmp_path / "y.txt"),))) == (
        f"{tmp_path}/y.txt: wanted at most 1024 characters, found '{'7' * 60}'… (1000000 characters)"
    )
    refused(Request(((label, sound[1]),)))
    table = np.zeros(4, [(f"field{n}", "f4") for n in range(200)])
    np.savez(tmp_path / "c.npz", x=table, y=LABELS)
    assert refused(Request((("", tmp_path / "c.npz"),))) == (
        f"{tmp_path}/c.npz[x]: a table of 200 fields; save each field as an array of its own"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("~nobody-of-that-name/x.npz", f"{{}}{NOBODY}"),
        ("train=~nobody-of-that-name/x.npz", f"~nobody-of-that-name/x.npz{NOBODY}"),
        ("a\0b.npz", "'a\\x00b.npz': a path cannot hold NUL"),
    ],
)  # fmt: skip
def test_paths_that_are_no_paths(text, line):
    with pytest.raises(CacheInvalid) as caught:
        named_path(text)
    assert str(caught.value) == line.format(text)


def test_a_name_that_is_not_utf_8(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    np.savez(folder / "a.npz", x=FEATURES, y=LABELS)
    assert read_dataset(Request((("", folder / "a.npz"),))).width == 2
    assert read_dataset(Request((("", folder),))).width == 2
