"""The images behind the worst errors."""

import io
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline.images.sources import load_source
from pipeline.images.splits import with_test_split
from pipeline.report.evidence.thumbnails import Error, thumbnails, worst_errors
from pipeline.settings import Settings

SETTINGS = Settings.model_validate({"data": {"source": "digits", "test_share": 0.4}})


@pytest.fixture(scope="module")
def digits():
    return with_test_split(load_source(SETTINGS.data), SETTINGS.data)


def cache_of(source, labels=None, kind="extracted", settings=None):
    """What `thumbnails` asks of a cache."""
    raw = source.splits["test"]
    table = pl.DataFrame({"sample_id": raw.sample_ids, "label": raw.labels_N if labels is None else labels})
    provenance = SimpleNamespace(settings={"data": {}} if settings is None else settings)
    manifest = SimpleNamespace(identity=SimpleNamespace(kind=kind), provenance=provenance)
    return SimpleNamespace(manifest=manifest, classes=source.classes, rows=lambda split: table)


def test_the_most_confident_wrong_rows_come_first():
    labels, predicted = np.array([0, 1, 2, 0]), np.array([0, 2, 1, 1])
    confidence = np.array([0.99, 0.5, 0.75, 0.75])
    assert worst_errors(labels, predicted, confidence, 2) == [Error(2, 2, 1, 75.0), Error(3, 0, 1, 75.0)]
    assert worst_errors(labels, labels, confidence, 2) == []


def test_images_are_those_of_the_rows(digits):
    images, reason = thumbnails(cache_of(digits), SETTINGS, [("test", 7), ("test", 3)])
    assert reason == ""
    for row, content in zip([7, 3], images, strict=True):
        (pixels,) = digits.splits["test"].take(np.array([row]))
        shown = Image.open(io.BytesIO(content))
        assert shown.format == "PNG"
        factor = shown.width // pixels.shape[1]
        assert factor > 1  # small images are enlarged, each pixel as it is
        assert np.array_equal(np.asarray(shown)[::factor, ::factor], pixels)


def test_without_images_there_is_a_sentence(digits, tmp_path):
    raw = digits.splits["test"]
    moved = Settings.model_validate({"data": {"source": "folder", "train": str(tmp_path / "gone")}})
    imported = "The features were imported without images, so none can be shown."
    for cache, settings, text in (
        (cache_of(digits, kind="imported"), SETTINGS, imported),
        (cache_of(digits, settings={}), SETTINGS, imported),
        (cache_of(digits, (raw.labels_N + 1) % 10), SETTINGS, "The images that the settings name are not those that the cache was made from."),
    ):  # fmt: skip
        assert thumbnails(cache, settings, [("test", 0)]) == ([], text)
    images, reason = thumbnails(cache_of(digits), moved, [("test", 0)])
    assert images == []
    assert reason.startswith("The images are not at hand (data.train ")
    assert reason.endswith("), so none can be shown.")
