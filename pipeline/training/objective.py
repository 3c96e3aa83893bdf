"""The objective of stage 1: a loss, class weights and mixed images, each chosen by a setting."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline import losses
from pipeline.losses import class_balanced
from pipeline.settings import Settings
from pipeline.training import schedule
from pipeline.training.mixing import Mix, mixed, remix_shares
from pipeline.training.schedule import is_weighted

Forward = Callable[..., Tensor]


class Objective:
    """The settings' loss of a batch, for training counts (C,)."""

    def __init__(self, settings: Settings, counts_C: Tensor) -> None:
        self.stage1 = settings.stage1
        self.bilateral = settings.backbone.ending == "bbn"
        self.counts_C = counts_C
        self.weight_C = class_balanced(counts_C.cpu(), self.stage1.reweight_beta).to(counts_C.device)
        self.margins_C = self.stage1.cosine_scale * losses.ldam_margins(counts_C, self.stage1.ldam_margin)

    def __call__(self, forward: Forward, inputs_B3SS: Tensor, labels_B: Tensor, epoch: int, mix: Mix) -> Tensor:
        """The loss of a 0-based epoch's batch, a scalar; `forward` gives logits (B, C).

        Under BBN what the batch would be mixed with is the reversed branch's.
        """
        weight_C = self.weight_C if is_weighted(self.stage1, epoch) else None
        if self.bilateral:
            share = schedule.conventional_share(epoch, self.stage1.epochs)
            both_B3SS = torch.cat([inputs_B3SS, mix.partner_B3SS])
            logits_BC = forward(both_B3SS, torch.tensor(share, device=inputs_B3SS.device))
            return self._two(logits_BC, labels_B, mix.partner_labels_B, share, weight_C)
        if self.stage1.mixing == "none":
            return self.loss(forward(inputs_B3SS), labels_B, weight_C)
        mixed_B3SS, share = mixed(inputs_B3SS, mix, self.stage1.mixing)
        logits_BC = forward(mixed_B3SS)
        if self.stage1.mixing == "remix":
            return self._remix(logits_BC, labels_B, mix.partner_labels_B, share, weight_C)
        return self._two(logits_BC, labels_B, mix.partner_labels_B, share, weight_C)

    def loss(self, logits_BC: Tensor, labels_B: Tensor, weight_C: Tensor | None, reduction: str = "mean") -> Tensor:
        """The settings' loss: a mean weighted by class, or with `none` the weighted rows, (B,)."""
        stage1 = self.stage1
        if stage1.loss == "focal":
            return losses.focal(logits_BC, labels_B, stage1.focal_gamma, weight_C, reduction)
        if stage1.loss == "ldam":
            # The cosine classifier's logits have the scale in them already, so the margin gets it too.
            return losses.ldam(logits_BC, labels_B, self.margins_C, 1.0, weight_C, reduction)
        if stage1.loss == "logit-adjusted":
            return losses.logit_adjusted(logits_BC, labels_B, self.counts_C, stage1.loss_tau, weight_C, reduction)
        return F.cross_entropy(
            logits_BC, labels_B, weight=weight_C, reduction=reduction, label_smoothing=stage1.label_smoothing
        )

    def _two(
        self, logits_BC: Tensor, first_B: Tensor, second_B: Tensor, share: float, weight_C: Tensor | None
    ) -> Tensor:
        """l loss(y) + (1 - l) loss(y') (Zhang et al., 2018)."""
        first, second = self.loss(logits_BC, first_B, weight_C), self.loss(logits_BC, second_B, weight_C)
        return share * first + (1 - share) * second

    def _remix(
        self, logits_BC: Tensor, labels_B: Tensor, partner_labels_B: Tensor, share: float, weight_C: Tensor | None
    ) -> Tensor:
        """l_y loss(y) + (1 - l_y) loss(y') with an l_y a row; the mean is weighted as that of unmixed rows is."""
        own_B = remix_shares(labels_B, partner_labels_B, self.counts_C, share, self.stage1).to(logits_BC.dtype)
        own = own_B * self.loss(logits_BC, labels_B, weight_C, "none")
        partners = (1 - own_B) * self.loss(logits_BC, partner_labels_B, weight_C, "none")
        if weight_C is None or self.stage1.loss == "focal":
            return (own + partners).mean()
        weight_B = own_B * weight_C[labels_B] + (1 - own_B) * weight_C[partner_labels_B]
        return (own + partners).sum() / weight_B.sum()
