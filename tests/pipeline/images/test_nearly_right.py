"""Inputs that are nearly right get what they need; what cannot be a list or an image costs nothing."""

import io
import os
import zlib

import numpy as np
import polars as pl
import pytest
from image_files import png as written_png
from image_files import png_chunk
from PIL import Image
from toy_images import error_of, png, settings, write_folder, write_list, write_parquet

from pipeline.errors import ConfigError
from pipeline.images.dataset import load

LINES = ["cat/1.png 0", "dog/2.png 1"]


def rewritten(tmp_path, content, lines=LINES):
    """A list whose images exist, with other content."""
    path = write_list(tmp_path, lines)
    with open(path, "wb") as file:
        file.write(content)
    return path


# list files


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_with_a_byte_order_mark(tmp_path, encoding, end):
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    train = rewritten(tmp_path, (mark + end.join(LINES) + end).encode(encoding))
    found = load(settings("list", train=train, test=train))
    assert found.classes == ("cat", "dog")
    assert found.splits["train"].sample_ids == ["cat/1.png", "dog/2.png"]


def test_backslashes_are_slashes_unless_a_file_is_named_so(tmp_path):
    train = rewritten(tmp_path, b"cat\\1.png 0\ndog\\2.png 1\n")
    found = load(settings("list", train=train, test=train))
    assert found.classes == ("cat", "dog")
    assert found.splits["train"].sample_ids == ["cat/1.png", "dog/2.png"]
    (tmp_path / "cat\\1.png").write_bytes(png(5))
    assert load(settings("list", train=train, test=train)).splits["train"].sample_ids == ["cat\\1.png", "dog/2.png"]


def test_two_numbers_a_line(tmp_path):
    train = rewritten(tmp_path, b"cat/1.png 0 640\ndog/2.png 1 480\n")
    assert str(error_of(settings("list", train=train))) == (
        f"data.train {train}: wanted `path label` a line, found 0 and 640 after cat/1.png; keep the label alone"
    )
    train = rewritten(tmp_path, b"cat/1.png 0 1\ndog/2.png 1 0\n")
    assert str(error_of(settings("list", train=train, test=train))) == (
        f"data.train {train}: wanted `path label` a line, found 0 and 1 after cat/1.png; keep the label alone"
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 cat/1.png", "found '0 cat/1.png'; the label seems to stand first: write it behind the path"),
        ("cat/1.png,0", "found 'cat/1.png,0'; write a space in place of the comma"),
        ("x" * 10_000_000, f"found {'x' * 120!r} and 9999880 more characters"),
    ],
)
def test_lines_of_other_kinds(tmp_path, line, problem):
    train = rewritten(tmp_path, line.encode())
    assert str(error_of(settings("list", train=train))) == (
        f"data.train {train}: line 1: wanted `path label` with an integer label last, {problem}"
    )


@pytest.mark.parametrize("label", ["1" * 5000, "10000000", "-" + "1" * 5000])
def test_a_label_of_many_digits(tmp_path, label):
    train = rewritten(tmp_path, f"cat/1.png {label}\n".encode())
    shown = repr(label) if len(label) < 120 else f"{label[:120]!r} and {len(label) - 120} more characters"
    assert str(error_of(settings("list", train=train))) == (
        f"data.train {train}: line 1: wanted a label from 0 to 9999999, found {shown}"
    )


def test_a_nul_in_a_path(tmp_path):
    train = rewritten(tmp_path, b"cat/1.png 0\ndog/\0.png 1\n")
    assert str(error_of(settings("list", train=train))) == (
        f"data.train {train}: line 2: wanted text, found a NUL in 'dog/\\x00.png 1'; save the list as UTF-8"
    )


@pytest.mark.parametrize("source", ["list", "parquet"])
def test_labels_of_minus_one(tmp_path, source):
    train = {
        "list": lambda: write_list(tmp_path, ["cat/1.png 0", "dog/2.png 1", "x/3.png -1"]),
        "parquet": lambda: write_parquet(tmp_path / "x.parquet", [0, 1, -1]),
    }[source]()
    assert str(error_of(settings(source, train=train))) == (
        f"data.train {train}: row 2: found the label -1 (1 of 3 rows), which often marks images without a label; leave those "
        "rows out, or give a file with labels"
    )
    other = {
        "list": lambda: write_list(tmp_path, ["cat/1.png -1", "dog/2.png -1"]),
        "parquet": lambda: write_parquet(tmp_path / "x.parquet", [-1, -1]),
    }[source]()
    assert "row 0: found the label -1 (2 of 2 rows)" in str(error_of(settings(source, train=other)))


@pytest.mark.parametrize(
    ("source", "key"),
    [(source, key) for source in ("list", "parquet", "folder") for key in ("train", "val", "test")]
    + [("list", "root"), ("parquet", "root")],
)
def test_paths_that_cannot_be_paths(tmp_path, source, key):
    train = {
        "folder": lambda: write_folder(tmp_path / "train", {"a": 2, "b": 2}),
        "list": lambda: write_list(tmp_path, LINES),
        "parquet": lambda: write_parquet(tmp_path / "train.parquet", [0, 1]),
    }[source]()
    chosen = {"train": train, "test": train}
    error = error_of(settings(source, **{**chosen, key: "~nouser/x"}))
    assert isinstance(error, ConfigError)
    assert str(error) == f"data.{key} ~nouser/x: there is no user ~nouser; give a path with --set data.{key}=PATH"
    error = error_of(settings(source, **{**chosen, key: "a\0b"}))
    assert str(error) == f"data.{key} 'a\\x00b': wanted a path, found a NUL in it; give one with --set data.{key}=PATH"


@pytest.mark.parametrize("source", ["list", "parquet", "folder", "cifar10"])
def test_a_path_that_cannot_be_looked_at(source):
    assert str(error_of(settings(source, train="x" * 5000))) == (
        f"data.train {'x' * 120}…: File name too long; give a path that can be read with --set data.train=PATH"
    )


def test_a_class_folder_that_cannot_be_read(tmp_path, monkeypatch):
    train = write_folder(tmp_path / "train", {"a": 2, "b": 2})
    scandir = os.scandir

    def refusing(path):
        if str(path) == f"{train}/b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    assert str(error_of(settings("folder", train=train, test=train))) == (
        f"folder {train}/b: Permission denied; make it readable, or move it away"
    )


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo", tmp_path / "zero", "/dev/zero", tmp_path):
        assert str(error_of(settings("list", train=str(path)))) == (
            f"data.train {path}: wanted a list file, `path label` a line, found no plain file"
        )
    for path in (tmp_path / "fifo", "/dev/zero"):
        assert str(error_of(settings("parquet", train=str(path)))).startswith(f"data.train {path}: no such file")


def test_a_list_has_a_size(tmp_path):
    path = tmp_path / "large.txt"
    os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40)
    assert str(error_of(settings("list", train=str(path)))) == (
        f"data.train {path}: wanted a list file of at most 536870912 bytes, found 1099511627776"
    )


def test_an_image_file_has_a_size(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 2, "b": 2})
    path = tmp_path / "train" / "a" / "0.png"
    os.truncate(path, 1 << 40)
    assert str(error_of(settings("folder", train=train, test=train))) == (
        "image a/0.png: cannot be decoded (1099511627776 bytes, at most 1073741824 wanted); replace it, or leave such images "
        "out with --set data.on_bad=skip"
    )


def test_missing_files_are_no_longer_looked_for_after_many(tmp_path):
    lines = "".join(f"cat/{number}.png {number % 2}\n" for number in range(30_000))
    train = rewritten(tmp_path, lines.encode())
    assert str(error_of(settings("list", train=train, test=train))) == (
        f"at least 10000 of 60000 listed files are missing under {tmp_path}: cat/0.png, cat/2.png, cat/3.png, cat/4.png, "
        "cat/5.png, …; check data.root"
    )


def test_a_wrong_root_is_said_after_the_first_lines(tmp_path):
    lines = "".join(f"cat/{number}.png {'no label' if number > 1000 else number % 2}\n" for number in range(30_000))
    train = rewritten(tmp_path, lines.encode(), ["elsewhere/1.png 0"])
    assert str(error_of(settings("list", train=train, test=train))) == (
        f"at least 1000 of 30000 listed files are missing under {tmp_path}: cat/0.png, cat/1.png, cat/2.png, cat/3.png, "
        "cat/4.png, …; check data.root"
    )


def test_names_that_are_not_utf_8_are_loaded_and_listed(tmp_path):
    name = b"cat/\xe9.png".decode("utf-8", "surrogateescape")
    (tmp_path / "cat").mkdir()
    (tmp_path / name).write_bytes(png(3))
    train = rewritten(tmp_path, b"cat/\xe9.png 0\ndog/2.png 1\n", LINES[1:])
    found = load(settings("list", train=train, test=train))
    assert found.splits["train"].paths == found.splits["train"].sample_ids == ["cat/\\udce9.png", "dog/2.png"]
    found.splits["train"].images.prepare()
    pl.DataFrame({"path": found.splits["train"].paths})


# Parquet


def paths_of(tmp_path, cells, dtype, **columns):
    path = tmp_path / "train.parquet"
    frame = pl.DataFrame({"image": pl.Series(cells, dtype=dtype), "label": [0, 1] * (len(cells) // 2), **columns})
    frame.write_parquet(path)
    return str(path)


@pytest.mark.parametrize("kind", ["text", "struct", "path alone"])
@pytest.mark.parametrize("where", ["beside", "root"])
def test_parquet_that_holds_paths_is_read_with_the_files(tmp_path, kind, where):
    root = tmp_path if where == "beside" else tmp_path / "images"
    for row in range(4):
        (root / "a").mkdir(parents=True, exist_ok=True)
        (root / "a" / f"{row}.png").write_bytes(png(row))
    names = [f"a/{row}.png" for row in range(4)]
    if kind == "text":
        train = paths_of(tmp_path, names, pl.String)
    elif kind == "struct":
        train = paths_of(
            tmp_path,
            [{"bytes": None, "path": name} for name in names],
            pl.Struct({"bytes": pl.Binary, "path": pl.String}),
        )
    else:
        train = paths_of(tmp_path, [{"path": name} for name in names], pl.Struct({"path": pl.String}))
    chosen = {} if where == "beside" else {"root": str(root)}
    found = load(settings("parquet", train=train, test=train, **chosen))
    whole = write_parquet(tmp_path / "whole.parquet", [0, 1, 0, 1])
    wanted = load(settings("parquet", train=whole, test=whole))
    assert found.splits["train"].digests == wanted.splits["train"].digests
    found.splits["train"].images.prepare()


def test_parquet_paths_that_are_missing_or_lead_outside(tmp_path):
    train = paths_of(tmp_path, [f"a/{row}.png" for row in range(8)], pl.String)
    assert str(error_of(settings("parquet", train=train, test=train))) == (
        f"data.train {train}: holds paths in place of images, and 8 of 8 files are missing under {tmp_path}: a/0.png, a/1.png, "
        "a/2.png, a/3.png, a/4.png and 3 more; set data.root to the folder that the paths start from"
    )
    for name in ("../x.png", "/etc/passwd", "C:\\x.png", "a\0b"):
        train = paths_of(tmp_path, [name, name], pl.String)
        assert str(error_of(settings("parquet", train=train, test=train))) == (
            f"data.train {train}: holds no image but the path {name!r}, which does not lie under data.root; write paths without "
            "`..` or a leading `/`, and set data.root to the folder they start from"
        )


def test_labels_of_other_kinds(tmp_path):
    hot = paths_of(tmp_path, [png(0), png(1)], pl.Binary, hot=[[1, 0], [0, 1]])
    assert str(error_of(settings("parquet", train=hot, label_column="hot"))) == (
        f"data.train {hot}: column 'hot': wanted integers or text, found List(Int64); of one-hot labels, write the index of the "
        "1 (the argmax) of each row"
    )
    real = paths_of(tmp_path, [png(0), png(1)], pl.Binary, real=[0.0, 1.0])
    assert str(error_of(settings("parquet", train=real, label_column="real"))) == (
        f"data.train {real}: column 'real': wanted integers or text, found Float64"
    )
    kinds = pl.Series(["b", "a"], dtype=pl.Categorical)
    train = paths_of(tmp_path, [png(0), png(1)], pl.Binary, kind=kinds)
    assert load(settings("parquet", train=train, test=train, label_column="kind")).classes == ("a", "b")


# images


def test_a_sound_png_with_long_texts_is_trained_on(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 2, "b": 2})
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (2 << 20)))
    pixels = Image.open(io.BytesIO(png(0)))
    (tmp_path / "train" / "a" / "0.png").write_bytes(written_png(np.asarray(pixels), "rgb", before=[text]))
    for ram_limit in (1.0, 1e-9):
        load(settings("folder", train=train, test=train, ram_limit=ram_limit)).splits["train"].images.prepare()
