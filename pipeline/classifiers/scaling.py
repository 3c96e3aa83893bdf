"""Vector scaling of a classifier's logits: two numbers a class, learnt on rows that the classifier has not seen. Pure."""

import torch
from torch import Tensor

from pipeline.classifiers.selection import row_weights


def fit_scaling(
    logits_NC: Tensor, labels_N: Tensor, norms_C: Tensor, metric: str = "balanced", penalty: float = 0.01
) -> tuple[Tensor, Tensor]:
    """a (C,) and b (C,) of the logits a_c z_c + b_c |w_c|, float32 (MARC: Wang et al., Margin Calibration for Long-Tailed
    Visual Recognition, 2022, Eq. 7), from logits (N, C) and the norms of the classifier's weights (C,).

    They minimise the cross entropy of the rows, weighted by `metric`: for `balanced`, each class counts alike. L-BFGS in float64
    starts at a = 1, b = 0, the classifier as it is; `penalty` draws both towards that, so that a class of few rows stays near it.
    Norms are divided by their mean and shifts multiplied by the logits' standard deviation, so no unit matters. A class whose
    logits are -inf, one without training rows, keeps a = 1 and b = 0.
    """
    classes = logits_NC.shape[1]
    known_C = torch.isfinite(logits_NC).all(dim=0)
    weight_N = row_weights(labels_N, classes, metric).masked_fill(~known_C[labels_N], 0.0)
    finite_NC = logits_NC.double().masked_fill(~known_C, 0.0)
    unit = float(finite_NC[:, known_C].std()) if int(known_C.sum()) > 1 and len(logits_NC) > 1 else 1.0
    unit = unit if unit > 0 else 1.0
    size_C = norms_C.double() / norms_C.double().mean().clamp(min=1e-30)
    move_2C = torch.zeros(2, classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([move_2C], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scaled_NC = (1 + move_2C[0]) * finite_NC + unit * move_2C[1] * size_C
        log_NC = scaled_NC.masked_fill(~known_C, -1e30).log_softmax(dim=1)
        value = (
            -(weight_N * log_NC.gather(1, labels_N[:, None])[:, 0]).sum() + penalty * move_2C.square().sum() / classes
        )
        value.backward()
        return value

    optimizer.step(loss)
    scale_C, shift_C = move_2C.detach().masked_fill(~known_C, 0.0)
    return (1 + scale_C).float(), (unit * shift_C / norms_C.double().mean().clamp(min=1e-30)).float()


def scaled(weight_CD: Tensor, bias_C: Tensor, scale_C: Tensor, shift_C: Tensor) -> tuple[Tensor, Tensor]:
    """The classifier of a_c (w_c x + b_c) + b'_c |w_c|: weight (C, D) and bias (C,)."""
    return weight_CD * scale_C[:, None], bias_C * scale_C + shift_C * weight_CD.norm(dim=1)
