"""The probe of decoding: over a few images, and past those that are broken."""

from pipeline.images.lazy import LazyImages
from pipeline.images.looking import look_at
from pipeline.images.pixels import Geometry
from pipeline.images.speed import DECODED, decoding_seconds
from tests.support.toy_images import write_folder


def test_broken_images_are_passed_over(tmp_path, monkeypatch):
    write_folder(tmp_path, {"a": 3 * DECODED})
    paths = sorted((tmp_path / "a").iterdir())
    paths[0].write_bytes(b"no image")
    tried = []
    monkeypatch.setattr("pipeline.images.speed.look_at", lambda item, look=look_at: (tried.append(item), look(item)))
    assert decoding_seconds(LazyImages(paths, [path.name for path in paths], Geometry.of(8, "none"), 0)) > 0
    assert len(tried) == DECODED
    assert paths[0] in tried
