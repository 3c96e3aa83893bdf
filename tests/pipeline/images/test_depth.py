"""Every mode of PNG and TIFF against the values that the test wrote; one white for a whole data set."""

import io
import zlib

import numpy as np
import pytest
import torch
from image_files import png, png_chunk, tiff
from PIL import Image

from pipeline.images.dataset import load
from pipeline.images.decoding import decode, peak
from pipeline.images.depth import Peak, Scale
from pipeline.images.reading import read
from pipeline.images.transforms.recipe import PLAIN
from pipeline.settings import Settings
from pipeline.stage1_backbone import stage1_key
from pipeline.stage1_identity import _identity

H, W = 5, 8
CHANNELS = {"grey": 1, "rgb": 3, "palette": 1, "grey-alpha": 2, "rgba": 4}
DEPTHS = {"grey": (1, 2, 4, 8, 16), "palette": (1, 2, 4, 8), "rgb": (8, 16), "grey-alpha": (8, 16), "rgba": (8, 16)}


def draw(channels, top, seed=0):
    """Integers from 0 to `top`, both among them: (H, W, channels)."""
    values = np.random.default_rng(seed).integers(0, top + 1, (H, W, channels))
    values[0, 0], values[0, 1] = 0, top
    return values


def found_of(content, scale=None):
    image = decode(content, *([scale] if scale else []))
    assert image.mode == "RGB"
    return np.asarray(image)


def scaled(values_HWC, white):
    """Plain arithmetic: `white` becomes 255, rounded; one channel is repeated, alpha dropped."""
    colours = values_HWC[:, :, : 1 if values_HWC.shape[2] < 3 else 3]
    return np.broadcast_to(np.rint(colours.clip(0, white) * 255.0 / white), (H, W, 3))


@pytest.mark.parametrize(("kind", "bits"), [(kind, bits) for kind, depths in DEPTHS.items() for bits in depths])
def test_every_kind_of_png(kind, bits):
    values = draw(CHANNELS[kind], 2**bits - 1)
    palette = np.random.default_rng(1).integers(0, 256, (2**bits, 3)) if kind == "palette" else None
    content = png(values, kind, bits, palette)
    wanted = palette[values[:, :, 0]] if kind == "palette" else scaled(values, 2**bits - 1)
    # Of 16 bits a colour, Pillow keeps the upper 8: at most one level from the rounded value.
    off = 1 if bits == 16 and kind != "grey" else 0
    assert abs(found_of(content) - wanted).max() <= off
    assert read(content).peak == Peak(2**bits - 1 if bits == 16 else 0)


@pytest.mark.parametrize("kind", ["grey", "rgb", "grey-alpha", "rgba"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_16_keep_their_levels(kind, bits):
    values = draw(CHANNELS[kind], 2**bits - 1)
    content = png(values, kind, 16)
    scale = Scale.of([read(content).peak])
    assert scale == Scale(2**bits - 1)
    assert (found_of(content, scale) == scaled(values, 2**bits - 1)).all()


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(dtype, top) for dtype in ("u2", "i4", "u4") for top in (200, 4095, 65535, 100_000) if top <= np.iinfo(dtype).max],
)
def test_integers_of_tiff_do_not_saturate(dtype, top):
    values = draw(1, top).astype(dtype)
    content = tiff(values)
    assert peak(content) == Peak(top)
    white = {200: 255, 4095: 4095, 65535: 65535, 100_000: 2**17 - 1}[top]
    scale = Scale.of([read(content).peak])
    assert scale == Scale(white)
    assert (found_of(content, scale) == scaled(values.astype(np.int64), white)).all()


def test_colours_of_16_bits_in_tiff():
    for top in (4095, 65535):
        content = tiff(draw(3, top).astype(np.uint16), "rgb")
        scale = Scale.of([read(content).peak])
        assert scale == Scale(top)
        assert abs(found_of(content, scale) - scaled(draw(3, top), top)).max() <= (1 if top == 65535 else 0)


def test_negative_integers_are_black():
    values = draw(1, 1000).astype(np.int32) - 500
    assert (found_of(tiff(values), Scale(1023)) == scaled(values, 1023)).all()


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floats_by_the_white_of_the_data_set(white):
    values = (draw(1, 255) / 255 * white).astype(np.float32)
    content = tiff(values)
    scale = Scale.of([read(content).peak])
    assert scale == Scale(real=white)
    assert abs(found_of(content, scale) - scaled(values.astype(float), white)).max() == 0


def test_floats_a_little_over_white_are_cut_off_and_what_is_no_number_is_black():
    values = np.full((H, W, 1), 0.5, dtype=np.float32)
    values[0, :5, 0] = [np.nan, np.inf, -np.inf, -3, 1.25]
    content = tiff(values)
    assert peak(content) == Peak(real=1.25)
    scale = Scale.of([peak(content)])
    assert scale == Scale()
    assert found_of(content, scale)[0, :6, 0].tolist() == [0, 255, 0, 0, 255, 128]


def test_the_greatest_decides_and_what_is_beyond_every_white_is_itself_white():
    assert Scale.of([]) == Scale.of([Peak()]) == Scale(65535, 1.0)
    assert Scale.of([Peak(3), Peak(900), Peak(real=0.2), Peak(real=200)]) == Scale(1023, 255.0)
    assert Scale.of([Peak(real=1e6)]) == Scale(65535, 1e6)


def test_grey_maps_say_what_is_white():
    values = draw(1, 4095)
    content = b"P5 %d %d 4095\n" % (W, H) + values.astype(">u2").tobytes()
    assert read(content).peak == Peak()
    assert abs(found_of(content, Scale(1023)) - scaled(values, 4095)).max() <= 1


def test_cmyk_and_white_is_zero():
    inks = draw(4, 255).astype(np.uint8)
    wanted = (255 - inks[:, :, :3].astype(int)) * (255 - inks[:, :, 3:].astype(int)) / 255
    assert abs(found_of(tiff(inks, "cmyk")) - wanted).max() <= 1
    grey = draw(1, 255).astype(np.uint8)
    assert (found_of(tiff(grey, "white-is-zero")) == 255 - grey).all()


def test_alpha_and_transparent_colours_are_dropped():
    values = draw(1, 255)
    content = png(values, "grey", before=[png_chunk(b"tRNS", b"\0\x07")])
    assert (found_of(content) == values).all()
    palette = np.random.default_rng(1).integers(0, 256, (4, 3))
    keyed = [png_chunk(b"PLTE", palette.astype(np.uint8).tobytes()), png_chunk(b"tRNS", b"\0\x80")]
    values = draw(1, 3)
    assert (found_of(png(values, "palette", 8, before=keyed)) == palette[values[:, :, 0]]).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind):
    frames = [Image.fromarray(np.full((H, W, 3), 60 * row, dtype=np.uint8)) for row in range(1, 4)]
    file = io.BytesIO()
    frames[0].save(
        file, kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert (found_of(file.getvalue()) == 60).all()


def test_texts_too_long_for_pillow_are_left_out():
    values = draw(3, 255)
    text = png_chunk(b"tEXt", b"Comment\0" + b"x" * (70 << 20))
    long = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (2 << 20)))
    international = png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * (2 << 20)))
    for chunk in (text, long, international):
        assert (found_of(png(values, "rgb", before=[chunk])) == values).all()
        assert (found_of(png(values, "rgb", after=[chunk])) == values).all()
    deep = png(draw(3, 4095), "rgb", 16, before=[long])
    assert read(deep).peak == Peak(4095)


def folder(root, tops, write=lambda values: png(values, "grey", 16), suffix="png"):
    for row, top in enumerate(tops):
        for name in ("a", "b"):
            (root / name).mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng([row, ord(name)]).integers(0, top, (8, 8, 1))
            values[0, 0] = top
            (root / name / f"{row}.{suffix}").write_bytes(write(values))
    data = {"source": "folder", "train": str(root), "test": str(root), "image_size": 8, "workers": 0}
    return Settings.model_validate({"data": data})


def pixels(settings, split="train"):
    images = load(settings).splits[split].images
    return next(images.batches([torch.arange(len(images))], PLAIN, 0))


def test_one_white_for_all_images_of_a_data_set_recorded_and_said(tmp_path, capsys):
    settings = folder(tmp_path, [400, 4000])
    found = load(settings)
    assert found.decoding == {"white": 4095}
    assert _identity(settings, found, "0" * 64, 64).transform["white"] == 4095
    assert (
        "images of more than 8 bits: 4095 is white, by the largest value of the data set\n" in capsys.readouterr().err
    )
    lazy = settings.model_copy(update={"data": settings.data.model_copy(update={"ram_limit": 1e-9})})
    assert torch.equal(pixels(settings), pixels(lazy))
    assert pixels(settings)[0].max() == round(400 * 255 / 4095)
    assert pixels(settings)[1].max() == round(4000 * 255 / 4095)


def test_all_16_bits_are_the_scale_of_earlier_versions_and_change_no_key(tmp_path, capsys):
    settings = folder(tmp_path, [400, 40_000])
    found = load(settings)
    assert found.decoding == {}
    assert "white" not in _identity(settings, found, "0" * 64, 64).transform
    assert "white" not in capsys.readouterr().err
    other = folder(tmp_path / "other", [400, 4000])
    assert stage1_key(other, load(other)) != stage1_key(settings, found)


def test_a_dark_image_of_floats_is_as_dark_as_it_is(tmp_path):
    settings = folder(tmp_path, [1, 200], lambda values: tiff(values.astype(np.float32)), "tif")
    assert load(settings).decoding == {"white_of_floats": 255.0}
    assert pixels(settings)[0].max() == 1
    assert pixels(settings)[1].max() == 200


@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
def test_a_deep_tiff_in_which_0_is_white_is_inverted(dtype):
    values = draw(1, 255).astype(dtype)
    content = tiff(values, "white-is-zero")
    assert read(content).is_inverted
    assert not read(tiff(values)).is_inverted
    np.testing.assert_array_equal(found_of(content, Scale(255, 255.0)), 255 - scaled(values, 255))
    eight = values.astype(np.uint8)
    assert not read(tiff(eight, "white-is-zero")).is_inverted  # Pillow does it
    np.testing.assert_array_equal(found_of(tiff(eight, "white-is-zero")), 255 - scaled(eight, 255))


def test_that_images_are_inverted_is_recorded_and_said(tmp_path, capsys):
    settings = folder(tmp_path, [400, 40_000], lambda values: tiff(values.astype("<u2"), "white-is-zero"), "tif")
    found = load(settings)
    assert found.decoding == {"white_is_zero": "inverted"}
    assert "8 of 8 images are TIFF files in which 0 is white; they are inverted\n" in capsys.readouterr().err
    assert pixels(settings)[0].min() == 255 - round(400 * 255 / 65535)
