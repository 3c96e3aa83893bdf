"""What the classifiers of a finished run predict for each test row: read from its folder, or computed again."""

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.classifiers import train_classifier
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored
from pipeline.errors import DataError
from pipeline.evaluate import measure
from pipeline.stage3_record import RetrainResult, saved_classifier
from pipeline.stage3_retrain import PREDICTIONS, Run, seeds_of

REMEDY = "delete the file and run the command again"
TOLERANCE = 0.01
"""Percent by which an accuracy may differ from the recorded one."""


def predictions(run: Run, result: RetrainResult, cache: FeatureCache) -> Tensor:
    """The class that each seed's classifier predicts for each test row, int32 (R, N).

    A run that was made before predictions were kept gets them now. Raises DataError where they are not those whose digest the
    run recorded, or do not give the accuracy that it recorded.
    """
    path = run.folder / PREDICTIONS
    if path.is_file():
        tensors, _ = checkpoint.load(path)
        if result.predictions is not None:
            folders.prove(path, checkpoint.digest(tensors), result.predictions, REMEDY)
        predicted_RN = tensors.get("test", torch.zeros(0, 0))
    else:
        classifier = classifier_of(run, result, cache)
        predicted_RN = measure(cache, "test", classifier, run.settings, result.prior, result.test_views).predicted_RN
        tensors = {"test": predicted_RN}
        if result.predictions in (None, checkpoint.digest(tensors)):
            checkpoint.save(path, tensors, {"cache": cache.key})
    labels_N = torch.from_numpy(cache.labels("test"))
    wanted = (len(result.seeds), len(labels_N))
    agree = tuple(predicted_RN.shape) == wanted and all(
        abs(100 * float(hits) - metrics.accuracy) <= TOLERANCE
        for hits, metrics in zip((predicted_RN == labels_N).double().mean(dim=1), result.each_seed, strict=True)
    )
    if not agree:
        raise DataError(
            f"{path}: wanted predictions of {wanted[0]} seeds for {wanted[1]} rows that give the accuracy in metrics.json, "
            f"found others, {list(predicted_RN.shape)}; {REMEDY}"
        )
    return predicted_RN


def classifier_of(run: Run, result: RetrainResult, cache: FeatureCache) -> Classifier | Scored:
    """The finished run's classifier, from its file; computed again where the file does not hold all of it."""
    saved = saved_classifier(run.folder, result)
    return saved or train_classifier(run.settings, cache, seeds_of(run.settings), run.generator)
