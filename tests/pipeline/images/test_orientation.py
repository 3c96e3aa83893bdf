"""Photographs that lie on their side are turned upright, and the identity says so where one is."""

import io
import zlib

import numpy as np
import pytest
import torch
from image_files import exif, png, png_chunk, tiff
from PIL import Image
from torchvision.io import decode_jpeg

from pipeline.images.dataset import load
from pipeline.images.decoding import decode
from pipeline.images.orientation import may_be_turned
from pipeline.images.reading import read
from pipeline.images.transforms.recipe import PLAIN
from pipeline.settings import Settings
from pipeline.stage1_backbone import stage1_key
from pipeline.stage1_identity import _identity

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}
"""EXIF 2.32, table 6: 6 has the top at the right, so the picture is turned to the right."""


def jpeg(pixels, orientation=None, size=(16, 24)):
    file = io.BytesIO()
    extra = {} if orientation is None else {"exif": exif(orientation)}
    Image.fromarray(pixels).resize(size[::-1]).save(file, "JPEG", quality=95, **extra)
    return file.getvalue()


def xmp(orientation):
    text = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="%d"></x:xmpmeta>' % orientation
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_of_a_jpeg_as_an_independent_decoder_has_it(orientation):
    content = jpeg(PIXELS, orientation)
    wanted_CHW = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), apply_exif_orientation=True)
    found = np.asarray(decode(content)).astype(int)
    assert found.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))
    assert abs(found - wanted_CHW.permute(1, 2, 0).numpy()).max() <= 2
    assert read(content).is_turned == (orientation != 1)


@pytest.mark.parametrize("place", ["before", "after", "xmp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_of_a_png_wherever_it_stands(orientation, place):
    block = xmp(orientation) if place == "xmp" else png_chunk(b"eXIf", exif(orientation)[6:])
    content = png(PIXELS, "rgb", **{"after" if place == "after" else "before": [block]})
    assert (np.asarray(decode(content)) == UPRIGHT[orientation](PIXELS)).all()
    assert read(content).is_turned == (orientation != 1)


def test_a_webp_is_turned_and_16_bits_are(tmp_path):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "WEBP", lossless=True, exif=exif(6))
    (tmp_path / "x.webp").write_bytes(file.getvalue())
    assert (np.asarray(decode(tmp_path / "x.webp")) == UPRIGHT[6](PIXELS)).all()
    assert read(tmp_path / "x.webp").is_turned
    deep = png(PIXELS[:, :, :1].astype(int) * 257, "grey", 16, before=[png_chunk(b"eXIf", exif(8)[6:])])
    assert (np.asarray(decode(deep)) == UPRIGHT[8](PIXELS[:, :, :1])).all()


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_tiffs_were_always_turned_so_they_change_no_key(orientation):
    content = tiff(PIXELS, "rgb", orientation)
    assert (np.asarray(decode(content)) == UPRIGHT[orientation](PIXELS)).all()
    assert not read(content).is_turned


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_what_is_no_orientation_turns_nothing(orientation):
    content = png(PIXELS, "rgb", before=[png_chunk(b"eXIf", exif(orientation)[6:])])
    assert (np.asarray(decode(content)) == PIXELS).all()
    assert not read(content).is_turned


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("block", [b"", b"II*\0", b"II*\0\xff\xff\xff\x7f", b"Exif\0\0", exif(6)[6:20]])
def test_damaged_exif_leaves_a_sound_image_as_it_is(block):
    content = png(PIXELS, "rgb", before=[png_chunk(b"eXIf", block)])
    assert (np.asarray(decode(content)) == PIXELS).all()
    assert not read(content).is_turned


def test_parts_around_exif_do_not_hide_it():
    content = jpeg(PIXELS, 6)
    comment = b"\xff\xfe\x00\x06xxxx" * 5 + b"\xff\xff\xff\xfe\x00\x04\xff\xda"
    assert read(content[:2] + comment + content[2:]).is_turned
    assert not read(jpeg(PIXELS)[:2] + comment + jpeg(PIXELS)[2:]).is_turned
    text = png_chunk(b"tEXt", b"Comment\0Exif XMP adobe")
    raw = f"\nexif\n{len(exif(6)):8}\n{exif(6).hex()}\n".encode()
    profile = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))
    assert read(png(PIXELS, "rgb", before=[text], after=[text, profile])).is_turned
    assert not may_be_turned(png(PIXELS, "rgb", before=[text]))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\xff\xff", b"RIFF....WEBPVP8X...."]
)
def test_files_cut_short_are_not_turned(content):
    assert not read(content).is_turned


def folder(root, orientations):
    for row, orientation in enumerate(orientations):
        for name in ("a", "b"):
            (root / name).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([row, ord(name)]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            (root / name / f"{row}.jpg").write_bytes(jpeg(pixels, orientation, (8, 8)))
    return Settings.model_validate(
        {"data": {"source": "folder", "train": str(root), "test": str(root), "image_size": 8, "workers": 0}}
    )


def test_the_identity_says_so_only_where_an_image_is_turned(tmp_path, capsys):
    plain = folder(tmp_path / "plain", [None, 1])
    before = load(plain)
    assert _identity(plain, before, "0" * 64, 64).transform == {
        "size": 8,
        "resize": 8,
        "interpolation": "bilinear",
        "mean": list(plain.data.mean),
        "std": list(plain.data.std),
    }
    assert "upright" not in capsys.readouterr().err
    lying = folder(tmp_path / "lying", [None, 6])
    after = load(lying)
    assert _identity(lying, after, "0" * 64, 64).transform["orientation"] == "exif"
    assert (
        "4 of 8 images lie on their side or head by their EXIF orientation; they are turned upright\n"
        in capsys.readouterr().err
    )
    assert after.decoding == {"orientation": "exif"}
    assert stage1_key(lying, after) != stage1_key(plain, before)


def test_images_in_ram_and_decoded_as_used_are_turned_alike(tmp_path):
    chosen = folder(tmp_path / "lying", [6, 3, None])
    lazy = chosen.model_copy(update={"data": chosen.data.model_copy(update={"ram_limit": 1e-9})})
    ram, used = (next(load(one).splits["train"].images.batches([torch.arange(6)], PLAIN, 0)) for one in (chosen, lazy))
    assert torch.equal(ram, used)
