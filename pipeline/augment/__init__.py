"""Features of tail rows augmented: the settings' augmentation, and the paper's Eq. 3 and 4."""

import torch
from torch import Tensor

from pipeline.augment.kinds import UNCHANGED, Augmentation, class_strength, kind, mix, transform
from pipeline.augment.transfer import from_closed_form, from_generator, from_mixture, nearest_heads
from pipeline.errors import LineageError
from pipeline.features import Features
from pipeline.longtail import head_classes
from pipeline.settings import Settings
from pipeline.stg.soft import SoftGenerator
from pipeline.stg.statistics import head_statistics
from pipeline.stg.trained import TrainedSTG

__all__ = ["UNCHANGED", "Augmentation", "augmentation_for", "class_strength", "mix", "transform"]


def augmentation_for(
    settings: Settings,
    train: Features,
    stage1: tuple[Tensor, Tensor] | None,
    trained: TrainedSTG | None,
    shift_CD: Tensor | None = None,
) -> Augmentation:
    """The settings' augmentation on these training rows.

    `trained` is the generator of `stg`; without one, `closed-form` takes its place. `shift_CD` is how far `transfer` moves the
    rows of each class (`classifiers.mean_shift`).
    """
    retrain = settings.retrain
    if retrain.augmentation not in ("stg", "closed-form"):
        chosen_kind = kind(retrain.augmentation)
        generate = None if chosen_kind.make is None else chosen_kind.make(settings, train)
        return Augmentation(chosen_kind, None, torch.zeros(len(train.counts_C)), shift_CD, generate)
    soft = settings.stg.similarity == "soft"
    if trained is not None and soft != isinstance(trained.stg, SoftGenerator):
        made = "a soft mixture of head classes" if not soft else "the nearest head class"
        raise LineageError(
            f"stg.similarity={settings.stg.similarity}: the generator was learnt for {made}; run train-stg with the same setting"
        )
    chosen = trained.heads if trained else head_classes(train.counts_C.tolist(), settings.stg)
    beta_C = class_strength(train.counts_C)
    if retrain.augmented == "tail":
        beta_C[chosen] = 0.0
    statistics = head_statistics(train, chosen)
    if soft:
        beta_C[beta_C > 0] = 1.0  # what is lent falls with a class's rows already
        return Augmentation(kind(retrain.augmentation), from_mixture(train, chosen, statistics, trained), beta_C)
    centroids_HD = trained.centroids_HD if trained else statistics.mean_CD
    nearest_F = nearest_heads(settings.stg.similarity, stage1, train, centroids_HD, chosen)
    if trained is None or isinstance(trained.stg, SoftGenerator):
        return Augmentation(kind(retrain.augmentation), from_closed_form(nearest_F, statistics), beta_C)
    transformations = from_generator(trained.stg, train, nearest_F, beta_C[train.labels_N] > 0)
    return Augmentation(kind(retrain.augmentation), transformations, beta_C)
