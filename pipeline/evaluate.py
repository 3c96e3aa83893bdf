"""Figures of a backbone or a classifier on a split."""

from typing import Any

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline import features
from pipeline.backbones.classifier import ImageClassifier
from pipeline.backbones.inference import blocks, outputs
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored
from pipeline.errors import TrainingError
from pipeline.images.dataset import Dataset
from pipeline.metrics import Metrics, evaluate
from pipeline.progress import track
from pipeline.settings import Settings
from pipeline.settings.stage1 import LongTail

EVALUATION_BATCH = 500
"""Images that go through a backbone at a time."""


class NotFinite(ArithmeticError):
    """A classifier's probabilities are not finite, so no figure can be given of it; which setting did it, the stage knows."""


def measured(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """What a backbone's figures depend on beside its weights; where that has changed, they are measured again."""
    groups = settings.longtail
    return {"test": dataset.splits["test"].content_digest(), "groups": [groups.many_above, groups.few_below]}


def backbone_figures(settings: Settings, dataset: Dataset, model: ImageClassifier) -> dict[str, Any]:
    """The metrics of a backbone and its classifier on the test images, with what was `measured`.

    Raises TrainingError where its probabilities are not finite.
    """
    test = dataset.splits["test"]
    model.eval()
    blocks_of_rows = blocks(0, len(test), EVALUATION_BATCH)
    with track(len(test), "test images", "images") as progress:
        logits = []
        for logits_BC in outputs(model, test, blocks_of_rows, settings.data, settings.stage1.amp):
            logits.append(logits_BC)
            progress.advance(len(logits_BC))
    labels_N = torch.from_numpy(test.labels_N)
    try:
        metrics = _metrics(torch.cat(logits), labels_N, "test", dataset.counts(), settings.longtail)
    except NotFinite as error:
        raise TrainingError(
            f"stage 1: {error}; lower stage1.learning_rate, found {settings.stage1.learning_rate:g}, or set stage1.amp=off"
        ) from None
    return {**metrics.model_dump(mode="json"), "measured": measured(settings, dataset)}


@torch.no_grad()
def figures(
    cache: FeatureCache, split: str, classifier: Classifier | Scored, groups: LongTail, ram_limit: float = 0.0
) -> list[Metrics]:
    """Each replica's metrics on a split's clean features; `groups` has the limits between many, medium and few.

    `ram_limit` is in GiB, as for `features.load`. Raises NotFinite where a probability is not finite.
    """
    rows = features.load(cache, split, views=False, ram_limit=ram_limit)
    counts = cache.counts("train").tolist()
    logits_RNC = torch.cat([classifier.logits(rows.gather(0, rows_B)) for rows_B in rows.blocks()], dim=1)
    return [_metrics(logits_NC, rows.labels_N, split, counts, groups) for logits_NC in logits_RNC]


def _metrics(logits_NC: Tensor, labels_N: Tensor, split: str, counts: list[int], groups: LongTail) -> Metrics:
    probabilities_NC = logits_NC.softmax(dim=1)
    if not bool(torch.isfinite(probabilities_NC).all()):
        raise NotFinite(f"on the {split} split the classifier's probabilities are not finite")
    return evaluate(probabilities_NC, labels_N, counts, groups.many_above, groups.few_below)
