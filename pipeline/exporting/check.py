"""How near an exported file comes to the run that it was made from, on rows of both."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from cache import FeatureCache, Manifest
from cache.errors import CacheError
from pipeline.errors import PipelineError
from pipeline.exporting.exported import ExportedModel
from pipeline.images.decoding import Item
from pipeline.images.sources import load_source
from pipeline.images.splits import with_test_split
from pipeline.longtail import evenly_spaced
from pipeline.predict import Predictor
from pipeline.predicting.encoder import Encoder, pixels_of
from pipeline.progress import note, silently
from pipeline.rng import generator
from pipeline.settings import Settings
from pipeline.settings.problems import with_new_names

CHECKED = 64
"""Rows that are compared."""


@dataclass(frozen=True)
class Parity:
    """How near a file's probabilities come to the run's own on the same rows."""

    rows: int
    what: str
    """Of what the rows are: images of the test split, say."""
    largest_difference: float
    same_class: int
    """Rows for which both name the same likeliest class."""

    def document(self) -> dict[str, object]:
        return asdict(self)

    def line(self) -> str:
        """For people."""
        return (
            f"on {self.rows} {self.what} the file names the same class {self.same_class} times; its probabilities differ "
            f"from the run's by at most {self.largest_difference:.1e}"
        )


def parity(expected_NC: Tensor, written_NC: Tensor, what: str) -> Parity:
    """Of probabilities (N, C) of the run and of the file."""
    difference = float((expected_NC.double() - written_NC.double()).abs().max()) if len(expected_NC) else 0.0
    same = int((expected_NC.argmax(dim=1) == written_NC.argmax(dim=1)).sum())
    return Parity(len(expected_NC), what, difference, same)


def sampled_test_images(manifest: Manifest) -> Sequence[Item]:
    """Images of the test split, evenly over it, from where the cache's settings say that they lie; none where they do not."""
    recorded = with_new_names({"data": manifest.provenance.settings.get("data", {})})
    try:
        data = Settings.model_validate_json(json.dumps(recorded)).data.model_copy(update={"download": False})
        with silently():
            raw = with_test_split(load_source(data), data).splits["test"]
            return list(raw.take(evenly_spaced(len(raw.labels_N), CHECKED)))
    except (PipelineError, CacheError, ValueError, OSError) as error:
        note(f"the test images are not at hand: {str(error).splitlines()[0]}")
        return []


def check_images(
    model: ExportedModel, predictor: Predictor, encoder: Encoder, items: Sequence[Item], what: str
) -> Parity:
    """The file against the run on images; on random pixels where none are given."""
    size = int(model.about.transform["size"])
    if not items:
        drawn = torch.randint(256, (CHECKED, size, size, 3), dtype=torch.uint8, generator=generator(0, "export"))
        items, what = [row.numpy() for row in drawn], "images of random pixels"
    features_BD, _, _ = encoder.features(items)
    pixels_BSS3, _, _ = pixels_of(items, model.about.transform)
    return parity(predictor.probabilities(features_BD), model.probabilities(pixels_BSS3), what)


def check_features(model: ExportedModel, predictor: Predictor, cache: FeatureCache) -> Parity:
    """The file against the run on cached rows of the test split, or of training where the cache has none."""
    split = "test" if "test" in cache.splits else "train"
    stored_ND = cache.features(split, "clean")
    features_BD = torch.from_numpy(stored_ND[evenly_spaced(len(stored_ND), CHECKED)].astype(np.float32))
    return parity(predictor.probabilities(features_BD), model.probabilities(features_BD), f"cached rows of {split}")
