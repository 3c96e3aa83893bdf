"""One row a head: what it trains, its loss."""

from torch import Tensor
from torch.nn import functional

from pipeline import losses
from pipeline.classifiers.linear import LinearHeads
from pipeline.settings.stage3 import Retrain

VECTOR = 16
"""Numbers that a processor's widest instruction takes at a time, float32."""


def trainable_tensors(heads: LinearHeads, settings: Retrain) -> tuple[list[Tensor], list[float]]:
    """The tensors a head trains and each one's share of the learning rate."""
    chosen = {
        "crt": ([heads.weight_RCD, heads.bias_RC], [1.0, 1.0]),
        "lws": ([heads.scale_RC], [1.0]),
        "generalized": (
            [heads.weight_RCD, heads.bias_RC, heads.scale_RC],
            [settings.classifier_factor, settings.classifier_factor, 1.0],
        ),
    }[settings.head]
    for parameter in chosen[0]:
        parameter.requires_grad_(True)
    return chosen


def replica_loss(logits_RBC: Tensor, labels_RB: Tensor, settings: Retrain, smoothing_C: Tensor) -> Tensor:
    """Sum over replicas of the mean over the batch, so that replicas do not scale each other's gradients."""
    replicas, _, classes = logits_RBC.shape
    if classes < VECTOR and settings.head != "generalized":
        # The softmax then runs across the batch: along so few classes it would go value by value.
        return replicas * functional.cross_entropy(logits_RBC.transpose(1, 2), labels_RB)
    logits, labels = logits_RBC.flatten(0, 1), labels_RB.flatten()
    if settings.head == "generalized":
        return replicas * losses.label_aware_smoothing(logits, labels, smoothing_C)
    return replicas * functional.cross_entropy(logits, labels)
