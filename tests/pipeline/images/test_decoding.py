"""Images of every kind -> 8-bit RGB."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images.decoding import Undecodable, decode, probe
from pipeline.images.reading import digest


def _bytes(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _pixels(item):
    image = decode(item)
    assert image.mode == "RGB"
    return np.asarray(image)


COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = COLOURS[:, :, 0]


def test_rgb_is_untouched():
    assert (_pixels(_bytes(Image.fromarray(COLOURS))) == COLOURS).all()
    assert (_pixels(COLOURS) == COLOURS).all()


def test_grey_is_repeated():
    assert (_pixels(_bytes(Image.fromarray(GREY))) == GREY[:, :, None]).all()


def test_alpha_is_dropped():
    rgba = np.dstack([COLOURS, np.full((5, 7), 255, dtype=np.uint8)])
    assert (_pixels(_bytes(Image.fromarray(rgba))) == COLOURS).all()


def test_palette_is_looked_up_with_and_without_transparency():
    palette = Image.fromarray(COLOURS).quantize(4)
    wanted = np.asarray(palette.convert("RGB"))
    assert (_pixels(_bytes(palette)) == wanted).all()
    assert (_pixels(_bytes(palette, transparency=b"\x00\x80\xff\xff")) == wanted).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(kind):
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert (_pixels(_bytes(deep, kind)) == GREY[:, :, None]).all()


def test_floats_from_0_to_1_are_scaled():
    assert (_pixels(_bytes(Image.fromarray(GREY.astype(np.float32) / 255), "TIFF")) == GREY[:, :, None]).all()


def test_files_are_read_and_probed(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(_bytes(Image.fromarray(COLOURS)))
    assert (_pixels(path) == COLOURS).all()
    assert probe(path) == probe(COLOURS) == (7, 5)


def test_digest_is_of_the_file_or_of_pixels_and_shape(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"anything")
    assert digest(path) == digest(b"anything") == hashlib.sha256(b"anything").digest()
    assert digest(COLOURS) == digest(COLOURS.copy())
    assert digest(COLOURS) != digest(COLOURS.reshape(7, 5, 3))


@pytest.mark.parametrize(
    ("item", "reason"),
    [(b"", "empty"), (b"no image", "not an image of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP")],
)
def test_what_cannot_be_decoded(item, reason):
    for look in (decode, probe):
        with pytest.raises(Undecodable) as error:
            look(item)
        assert str(error.value) == reason


def test_a_truncated_image_has_a_header_but_does_not_decode():
    whole = _bytes(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    assert probe(whole[:2000]) == (64, 64)
    with pytest.raises(Undecodable, match=r"."):
        decode(whole[:2000])


def test_a_missing_file(tmp_path):
    with pytest.raises(Undecodable, match="No such file or directory"):
        digest(tmp_path / "x.png")
