"""Figures of a backbone or a classifier on a split."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline import features
from pipeline.backbones.classifier import ImageClassifier
from pipeline.backbones.inference import blocks, outputs
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored
from pipeline.images.dataset import Dataset
from pipeline.metrics import Metrics, evaluate
from pipeline.progress import track
from pipeline.settings import Settings

EVALUATION_BATCH = 500


def measured(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """What the figures hang on beside the weights; where it has changed, they are measured again."""
    groups = settings.longtail
    return {"test": dataset.splits["test"].content_digest(), "groups": [groups.many_above, groups.few_below]}


def backbone_figures(settings: Settings, dataset: Dataset, model: ImageClassifier) -> dict[str, Any]:
    test = dataset.splits["test"]
    model.eval()
    with track(len(test), "test images", "images") as progress:
        logits = []
        for logits_BC in outputs(
            model, test, blocks(0, len(test), EVALUATION_BATCH), settings.data, settings.stage1.amp
        ):
            logits.append(logits_BC)
            progress.advance(len(logits_BC))
    groups = settings.longtail
    found = evaluate(
        torch.cat(logits).softmax(dim=1),
        torch.from_numpy(test.labels_N),
        dataset.counts(),
        groups.many_above,
        groups.few_below,
    )
    return {**found.model_dump(mode="json"), "measured": measured(settings, dataset)}


@dataclass(frozen=True)
class Measured:
    """Each replica's metrics on a split, and the class that it predicts for each row, int32 (R, N)."""

    metrics: list[Metrics]
    predicted_RN: Tensor


def figures(cache: FeatureCache, split: str, classifier: Classifier | Scored, settings: Settings) -> list[Metrics]:
    """Each replica's metrics on a split's clean features; groups by the training counts."""
    return measure(cache, split, classifier, settings).metrics


@torch.no_grad()
def measure(cache: FeatureCache, split: str, classifier: Classifier | Scored, settings: Settings) -> Measured:
    """As `figures`, with the predictions that they were taken from."""
    rows = features.load(cache, split, views=False, ram_limit=settings.ram_limit)
    logits_RNC = torch.cat([classifier.logits(rows.gather(0, rows_B)) for rows_B in rows.blocks()], dim=1)
    return measured_logits(logits_RNC, rows.labels_N, cache.counts("train").tolist(), settings)


def measured_logits(logits_RNC: Tensor, labels_N: Tensor, counts: list[int], settings: Settings) -> Measured:
    """Metrics and predictions of logits (R, N, C); `counts` are the training rows of each class."""
    groups = settings.longtail
    metrics = [
        evaluate(logits_NC.softmax(dim=1), labels_N, counts, groups.many_above, groups.few_below)
        for logits_NC in logits_RNC
    ]
    return Measured(metrics, logits_RNC.argmax(dim=2).int())
