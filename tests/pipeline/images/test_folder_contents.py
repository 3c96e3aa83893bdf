"""What lies in a class folder: images of every suffix, what other programs leave, and what is passed over."""

import io

import pytest
from PIL import Image
from toy_images import png, settings, write_folder

from pipeline.images.dataset import load
from pipeline.images.sources.folder import SUFFIXES

LEFT = [
    "Thumbs.db",
    "desktop.ini",
    ".DS_Store",
    "._0.png",
    "~$0.png",
    ".thumbnails/0.png",
    ".ipynb_checkpoints/0-checkpoint.png",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.png",
    "__MACOSX/._0.png",
    "__MACOSX/0.png",
]


def loaded(train):
    return load(settings("folder", train=train, test=train))


@pytest.mark.parametrize("name", LEFT)
def test_what_other_programs_leave_is_no_image(tmp_path, capsys, name):
    train = write_folder(tmp_path / "train", {"a": 3, "b": 2})
    path = tmp_path / "train" / "a" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(0))
    assert loaded(train).counts() == [3, 2]
    assert (
        f"data.train {train}: taken 5 .png; 1 files that other programs leave are passed over\n"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", ".git"])
def test_what_other_programs_leave_is_no_class(tmp_path, name):
    train = write_folder(tmp_path / "train", {"a": 3, "b": 2, name: 1})
    assert loaded(train).classes == ("a", "b")


def test_every_suffix_of_the_formats_is_taken_in_any_case(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"a": 0, "b": 1})
    kinds = {
        ".jfif": "JPEG",
        ".jpe": "JPEG",
        ".apng": "PNG",
        ".pbm": "PPM",
        ".pnm": "PPM",
        ".bmp": "BMP",
        ".gif": "GIF",
    }
    for suffix in SUFFIXES - {".pfm"}:
        file = io.BytesIO()
        kind = kinds.get(suffix) or Image.registered_extensions()[suffix]
        Image.new("RGB", (8, 8)).save(file, kind)
        (tmp_path / "train" / "a" / f"x{suffix.upper()}").write_bytes(file.getvalue())
    found = loaded(train)
    assert found.counts() == [len(SUFFIXES) - 1, 1]
    found.splits["train"].images.prepare()
    assert "passed over" not in capsys.readouterr().err


def test_what_is_passed_over_is_said_by_suffix_and_class(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"a": 5, "b": 2})
    for row in range(35):
        (tmp_path / "train" / "a" / f"{row}.HEIC").write_bytes(b"x")
    (tmp_path / "train" / "a" / "notes.txt").write_text("x")
    (tmp_path / "train" / "b" / "photo").write_text("x")
    (tmp_path / "train" / "classes.csv").write_text("x")
    (tmp_path / "train" / ".hidden").write_text("x")
    assert loaded(train).counts() == [5, 2]
    assert (
        f"data.train {train}: taken 7 .png; passed over in a: 35 .heic, 1 .txt beside 5 images, b: 1 no suffix beside 2 images; "
        "1 files lie in no class folder and are passed over\n"
    ) in capsys.readouterr().err


def test_of_many_classes_twenty_are_named(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {f"c{number:02}": 1 for number in range(23)})
    for number in range(23):
        (tmp_path / "train" / f"c{number:02}" / "x.svg").write_text("x")
    loaded(train)
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("data.train"))
    assert line.count("1 .svg") == 20
    assert line.endswith("c19: 1 .svg beside 1 images and 3 more")
