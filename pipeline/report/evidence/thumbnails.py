"""The images behind rows of a cache, small, as PNG, where the images are at hand; and which test rows are the worst errors."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache import FeatureCache
from pipeline.errors import PipelineError
from pipeline.images.decoding import Undecodable, decode
from pipeline.images.sources import load_source
from pipeline.images.sources.source import Raw
from pipeline.images.splits import with_test_split
from pipeline.report.evidence.words import shown_name
from pipeline.settings import Settings

THUMBNAIL_SIDE = 96
"""Pixels of a thumbnail's longer side at most."""
SHOWN_SMALL = 32
"""Images smaller than this are enlarged to `THUMBNAIL_SIDE` without smoothing, so that their pixels can be seen."""


@dataclass(frozen=True)
class Error:
    """A test row that is wrong: its true class, what it is taken for, and the confidence in percent."""

    row: int
    true: int
    taken: int
    confidence: float


def worst_errors(
    labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], confidence_N: NDArray[np.floating], limit: int
) -> list[Error]:
    """The wrong rows of the greatest confidence (0 to 1), most confident first; ties: the lower row."""
    wrong = np.flatnonzero(labels_N != predicted_N)
    order = wrong[np.argsort(-confidence_N[wrong], kind="stable")][:limit]
    return [Error(int(row), int(labels_N[row]), int(predicted_N[row]), 100 * float(confidence_N[row])) for row in order]


def thumbnails(cache: FeatureCache, settings: Settings, rows: Sequence[tuple[str, int]]) -> tuple[list[bytes], str]:
    """PNG of the image of each (split, row), from the source that the settings name; or none, and a sentence why not.

    The images are those of the cache: their ids are looked up in its table of rows, and labels must agree.
    """
    if cache.manifest.identity.kind == "imported" or "data" not in cache.manifest.provenance.settings:
        return [], "The features were imported without images, so none can be shown."
    try:
        data = settings.data.model_copy(update={"download": False})
        source = load_source(data)
        # The training images are those before the long tail is drawn and `val` is held out, whose rows are among them.
        splits = with_test_split(source, data.model_copy(update={"train": ""})).splits
        images: dict[tuple[str, int], bytes] = {}
        for split in dict.fromkeys(split for split, _ in rows):
            wanted = [row for name, row in rows if name == split]
            places = _places(cache, split, wanted, splits.get(split, splits["train"]))
            if source.classes != cache.classes or places is None:
                return [], "The images that the settings name are not those that the cache was made from."
            items = splits.get(split, splits["train"]).take(np.array(places, dtype=np.int64))
            images |= {(split, row): _png(item) for row, item in zip(wanted, items, strict=True)}
        return [images[place] for place in rows], ""
    except (PipelineError, Undecodable, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition("; ")[0]
        return [], f"The images are not at hand ({shown_name(reason, 160)}), so none can be shown."


def _places(cache: FeatureCache, split: str, rows: Sequence[int], raw: Raw) -> list[int] | None:
    """Where the images of these rows of the cache stand in `raw`; None where one is not there, or has another label."""
    position = {sample: place for place, sample in enumerate(raw.sample_ids)}
    table = cache.rows(split)
    places = [position.get(table["sample_id"][row], -1) for row in rows]
    labels = [int(raw.labels_N[place]) if place >= 0 else -1 for place in places]
    return places if labels == [table["label"][row] for row in rows] else None


def _png(item: object) -> bytes:
    from PIL import Image

    image = decode(item)  # type: ignore[arg-type]  # what a source's `take` gives
    if max(image.size) <= SHOWN_SMALL:
        factor = THUMBNAIL_SIDE // max(image.size)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()
