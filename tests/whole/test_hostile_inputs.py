"""Checkpoints, configs, lists and images that somebody made to do harm: one line each."""

import io
import json
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import toy_caches as toys
from PIL import Image

from cache import FeatureCache
from pipeline.artefacts import folders as runs
from pipeline.artefacts import tensors as checkpoint
from pipeline.errors import ConfigError, DataError, LineageError
from pipeline.images.dataset import load as load_images
from pipeline.images.decoding import Undecodable, decode, probe
from pipeline.settings import Settings
from pipeline.settings.files import LIMIT
from pipeline.settings.load import load
from pipeline.settings.stage2 import STG
from pipeline.stg import trained as stg_file
from pipeline.stg.distance import Distance
from pipeline.stg.generator import SemanticTransformationGenerator

DIGITS = "Exceeds the limit (4300 digits) for integer string conversion"
TOMLS = {
    "brackets": ("a = " + "[" * 100_000, "{path}: cannot be read: maximum recursion depth exceeded"),
    "tables": ("a = " + "{a=" * 50_000, "{path}: cannot be read: maximum recursion depth exceeded"),
    "keys": ("a." * 400_000 + "b = 1", "{path}: a key of more than 64 parts; a setting has two: section.key"),
    "integer": ("seed = " + "1" * 900_000, "{path}: cannot be read: " + DIGITS),
    "hexadecimal": ("seed = 0x" + "f" * 900_000, "settings: cannot be read: " + DIGITS),
    "large": ("#" * (LIMIT + 1), "{path}: larger than 1048576 bytes; not a config"),
    "nul": ("\0", "{path}: not valid TOML: Invalid statement (at line 1, column 1)"),
}
TENSORS = {
    "header": (2**62).to_bytes(8, "little"),
    "nested": (90_000).to_bytes(8, "little") + b"[" * 90_000,
    "nothing": b"",
    "pickle": b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.",
}


@pytest.mark.parametrize("name", TOMLS)
def test_a_config_is_refused_in_one_line(tmp_path, name):
    text, wanted = TOMLS[name]
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(str(path))
    assert wanted.replace("{path}", f"config file {path}") in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_many_problems_of_a_config_are_counted(tmp_path):
    (tmp_path / "x.toml").write_text("".join(f"unknown{number} = 1\n" for number in range(20_000)))
    with pytest.raises(ConfigError) as error:
        load(str(tmp_path / "x.toml"))
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[0] == f"{tmp_path}/x.toml: unknown0: unknown key, found 1; `config show` lists the keys"
    assert lines[-1] == "settings: 19980 more problems"


@pytest.mark.parametrize(
    "text", ['a.b.c.d.e.f.g."h" = 1', 'names = ["v1.2.3.4.5", "a.b.c.d.e.f.g.h"]', '["a-b"."c d".e]']
)
def test_keys_of_few_parts_and_dotted_texts_are_read(tmp_path, text):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ConfigError, match="unknown key"):
        load(str(tmp_path / "x.toml"))


@pytest.mark.parametrize("text", ["seed=" + "[" * 100_000, "seed=" + "1" * 100_000, "a." * 5000 + "b=1"])
def test_an_override_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="cannot be read: ") as error:
        load(None, [text])
    assert len(str(error.value)) < 300


def test_json_nested_too_deep(tmp_path):
    (tmp_path / "metrics.json").write_text("[" * 10**6)
    with pytest.raises(DataError, match=r"metrics\.json: cannot be read as JSON \(maximum recursion depth exceeded"):
        runs.read_json(tmp_path / "metrics.json")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), runs.LIMIT + 1),
            f"larger than {runs.LIMIT} bytes",
        ),
        (lambda path: path.write_text("[1]"), "wanted a JSON object, found list"),
        (
            lambda path: path.write_bytes(b'"\xff"'),
            "cannot be read as JSON ('utf-8' codec can't decode byte 0xff in position 1",
        ),
    ],
    ids=["large", "list", "bytes"],
)
def test_a_run_s_json_is_refused_in_one_line(tmp_path, make, problem):
    path = tmp_path / "metrics.json"
    make(path)
    with pytest.raises(DataError) as error:
        runs.read_json(path)
    assert str(error.value).startswith(f"{path}: {problem}")
    assert str(error.value).endswith("; delete the folder and run the command again")


def test_a_pipe_in_the_place_of_json_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.json")
    with pytest.raises(DataError) as error:
        runs.read_json(tmp_path / "metrics.json")
    assert str(error.value) == f"{tmp_path}/metrics.json: wanted a JSON file, found no plain file"


@pytest.mark.parametrize("name", TENSORS)
def test_a_checkpoint_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(TENSORS[name])
    with pytest.raises(DataError, match=r"x\.safetensors: cannot be read as safetensors \(") as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [4, 12])},
        {"a": ("F32", [2**62, 4], [0, 12])},
        {"a": ("F32", [2**40], [0, 2**42])},
        {"a": ("OBJ", [3], [0, 12])},
    ],
    ids=["overlapping", "overflowing", "outside", "of another type"],
)
def test_tensors_that_the_file_does_not_hold(tmp_path, tensors):
    header = {name: dict(zip(("dtype", "shape", "data_offsets"), one, strict=True)) for name, one in tensors.items()}
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    with pytest.raises(DataError, match=r"x\.safetensors: cannot be read as safetensors \("):
        checkpoint.load(tmp_path / "x.safetensors")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(DataError) as error:
        checkpoint.load(tmp_path / "x.safetensors")
    assert str(error.value) == f"{tmp_path}/x.safetensors: wanted a safetensors file, found no plain file"


def generator(folder: Path, cache: FeatureCache, **metadata: str) -> None:
    stg = SemanticTransformationGenerator(8, 2, (4,), "learned")
    settings = Settings(stg=STG(hidden=(4,)))
    digest = stg_file.save(folder, stg_file.TrainedSTG(stg, [0, 1], torch.zeros(2, 8)), settings, cache)
    distance = dict.fromkeys(Distance.model_fields, 0)
    figures = {"dataset": "toy", "cache": cache.key, "digest": digest, "head_classes": [0, 1], "held_out": distance}
    runs.write_json(folder / "metrics.json", figures | {"steps": 1, "loss": 0.0, "seconds": 0.0})
    tensors, found = checkpoint.load(folder / stg_file.NAME)
    checkpoint.save(folder / stg_file.NAME, tensors, {**found, **metadata})


@pytest.mark.parametrize("hidden", ["[1099511627776]", "[-1]", "[" * 100_000, "7", '"x"'])
def test_a_generator_is_no_larger_than_its_file(tmp_path, hidden):
    cache = FeatureCache.open(toys.make(tmp_path))
    generator(tmp_path, cache, hidden=hidden)
    with pytest.raises(LineageError, match="not a generator of this version") as error:
        stg_file.load(tmp_path, cache, "standard")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"head_classes": torch.tensor([0, 3])}, "head_classes: wanted 2 of the 3 classes, each once, found others"),
        ({"head_classes": torch.tensor([0, 0])}, "head_classes: wanted 2 of the 3 classes, each once, found others"),
        ({"head_classes": torch.tensor([0.0, 1.0])}, "head_classes: wanted int64 [2], found float32 [2]"),
        ({"centroids": torch.zeros(2, 9)}, "centroids: wanted float32 [2, 8], found float32 [2, 9]"),
        ({"centroids": torch.full((2, 8), torch.nan)}, "centroids: wanted finite numbers, found others"),
        ({"x": torch.zeros(1)}, "x: not wanted there"),
    ],
)
def test_tensors_of_a_generator(tmp_path, change, reason):
    cache = FeatureCache.open(toys.make(tmp_path))
    generator(tmp_path, cache)
    tensors, metadata = checkpoint.load(tmp_path / stg_file.NAME)
    checkpoint.save(tmp_path / stg_file.NAME, tensors | change, metadata)
    with pytest.raises(LineageError) as error:
        stg_file.load(tmp_path, cache, "standard")
    assert str(error.value) == (
        f"STG {tmp_path}/stg.safetensors: not a generator of this version ({reason}); run train-stg again"
    )


def test_a_generator_comes_back_whole(tmp_path):
    cache = FeatureCache.open(toys.make(tmp_path))
    generator(tmp_path, cache)
    trained, digest = stg_file.load(tmp_path, cache, "standard")
    assert digest == checkpoint.digest(checkpoint.load(tmp_path / stg_file.NAME)[0])
    assert all(not tensor.is_meta for tensor in [*trained.stg.parameters(), *trained.stg.buffers()])
    assert all(parameter.requires_grad for parameter in trained.stg.parameters())


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is a square of so many pixels."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(bytes(99))) + part(b"IEND", b"")


@pytest.mark.parametrize("look", [decode, probe])
def test_an_image_of_too_many_pixels_is_not_decoded(look):
    with pytest.raises(Undecodable) as error:
        look(bomb(100_000))
    assert str(error.value) == "10000000000 pixels, at most 89478485 wanted"


@pytest.mark.parametrize("look", [decode, probe])
@pytest.mark.parametrize("filtering", ["ignore", "error"])
def test_the_limit_of_pixels_is_one_number_whatever_becomes_of_warnings(look, filtering):
    with warnings.catch_warnings():
        warnings.simplefilter(filtering)
        with pytest.raises(Undecodable) as error:
            look(bomb(9460))
    assert str(error.value) == "89491600 pixels, at most 89478485 wanted"
    assert probe(bomb(9459)) == (9459, 9459)


def test_a_format_that_starts_a_program_is_not_opened(monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("started"))
    eps = io.BytesIO()
    Image.new("RGB", (4, 4)).save(eps, "EPS")
    for look in (decode, probe):
        with pytest.raises(Undecodable) as error:
            look(eps.getvalue())
        assert str(error.value) == "not an image of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def settings(source: str, **data: str):
    changes = {"source": source, "image_size": "4", "workers": "0", **data}
    return load(None, [f"data.{key}={value}" for key, value in changes.items()]).settings


def test_a_bomb_in_a_parquet_file_is_named(tmp_path):
    frame = pl.DataFrame({"image": [png(), png(), bomb(100_000)], "label": [0, 1, 1]})
    frame.write_parquet(tmp_path / "x.parquet")
    path = str(tmp_path / "x.parquet")
    found = load_images(settings("parquet", train=path, test=path, image_column="image", label_column="label"))
    with pytest.raises(DataError) as error:
        found.splits["train"].images.prepare()
    assert "x.parquet#2" in str(error.value)
    assert str(error.value).endswith(
        "x.parquet#2: cannot be decoded (10000000000 pixels, at most 89478485 wanted); replace it, or leave such images out "
        "with --set data.on_bad=skip"
    )


def of_parquet(path: Path):
    return settings("parquet", train=str(path), test=str(path), image_column="image", label_column="label")


def test_an_image_that_a_dictionary_repeats_is_not_written_out(tmp_path, monkeypatch):
    monkeypatch.setattr("cache.parquet.foreign.BASE_BYTES", 1 << 20)
    path = tmp_path / "x.parquet"
    image = np.random.default_rng(0).bytes(10_000)
    frame = pl.DataFrame({"image": [image] * 2000, "label": [0, 1] * 1000})
    frame.write_parquet(path, compression="uncompressed")
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError) as error:
        load_images(of_parquet(path))
    limit = (1 << 20) + 64 * path.stat().st_size
    assert str(error.value) == f"{path}: 20000000 bytes of images, at most {limit} wanted; write each image once"


def test_a_parquet_file_that_grows_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("cache.parquet.foreign.BASE_BYTES", 1 << 20)
    path = tmp_path / "x.parquet"
    images = [bytes([n]) * (1 << 20) for n in range(4)]
    pl.DataFrame({"image": images, "label": [0, 1] * 2}).write_parquet(path, compression="zstd")
    with pytest.raises(DataError) as error:
        load_images(of_parquet(path))
    assert str(error.value).startswith(f"data.train {path}: cannot be read as Parquet (wanted at most ")
    assert " bytes once decoded of " in str(error.value)


@pytest.mark.parametrize(
    "path", ["../x.png", "a/../../x.png", "/x.png", "..\\x.png", "C:\\x.png", "data_256/a/../../../x.png"]
)
def test_a_list_does_not_lead_out_of_the_root(tmp_path, path):
    (tmp_path / "x.png").write_bytes(png())
    root = tmp_path / "root"
    root.mkdir()
    (root / "train.txt").write_text(f"{path} 0\n")
    with pytest.raises(DataError) as error:
        load_images(settings("list", train=f"{root}/train.txt", test=f"{root}/train.txt"))
    assert str(error.value) == (
        f"data.train {root}/train.txt: line 1: wanted a path under data.root, found {path!r}; write the paths without `..` or a "
        "leading `/`, and set data.root to the folder they start from"
    )


@pytest.mark.parametrize("source", ["list", "folder"])
def test_links_in_ones_own_folders_are_followed(tmp_path, source):
    for name in ("a", "b"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / name / "x.png").write_bytes(png())
    (tmp_path / "root" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "root" / "b" / "x.png").symlink_to(tmp_path / "elsewhere" / "b" / "x.png")
    (tmp_path / "train.txt").write_text("a/x.png 0\nb/x.png 1\n")
    root = str(tmp_path / "root")
    where = {"root": root} if source == "list" else {}
    train = f"{tmp_path}/train.txt" if source == "list" else root
    found = load_images(settings(source, train=train, test=train, **where))
    assert len(found.splits["train"].labels_N) == 2
