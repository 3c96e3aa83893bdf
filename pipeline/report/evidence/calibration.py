"""How far confidence is from accuracy, before and after a temperature. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.metrics import expected_calibration_error
from pipeline.predict import fit_temperature
from pipeline.rng import generator

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Rows whose top-1 confidence lies in one bin: how many, their mean confidence and their accuracy, both in percent."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """The bins that hold rows, and the expected calibration error over them, in percent."""

    bins: tuple[Bin, ...]
    ece: float


@dataclass(frozen=True)
class Calibration:
    """A classifier's reliability as it is, and after its logits are divided by temperatures."""

    name: str
    rows: int
    before: Reliability
    after: Reliability
    temperatures: tuple[float, ...]
    how: str
    """What the temperatures were fitted on."""


def reliability(probabilities_NC: Tensor, labels_N: Tensor, bins: int = BINS) -> Reliability:
    """The reliability diagram of (N, C) probabilities (Guo et al., 2017): equal-width, right-closed bins on (0, 1]."""
    confidence_N, predicted_N = probabilities_NC.double().max(dim=1)
    correct_N = (predicted_N == labels_N).double()
    bin_N = (torch.ceil(confidence_N * bins).long() - 1).clamp(0, bins - 1)
    rows_K = torch.bincount(bin_N, minlength=bins)
    confidence_K = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_N, confidence_N)
    correct_K = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_N, correct_N)
    held = tuple(
        Bin(n, 100 * confidence / n, 100 * correct / n)
        for n, confidence, correct in zip(rows_K.tolist(), confidence_K.tolist(), correct_K.tolist(), strict=True)
        if n
    )
    return Reliability(held, expected_calibration_error(probabilities_NC, labels_N, bins))


def calibrate(
    name: str, logits_NC: Tensor, labels_N: Tensor, val: tuple[Tensor, Tensor] | None = None, seed: int = 0
) -> Calibration:
    """Reliability of (N, C) logits before and after a temperature that has not seen the rows it is measured on.

    Fitted on `val`, logits and labels, where there are such rows. Without, one half of the rows (seeded) has the temperature of
    the other half, and the other way round.
    """
    before = reliability(logits_NC.softmax(dim=1), labels_N)
    parts: Sequence[Tensor] = (torch.arange(len(labels_N)),)
    temperatures: tuple[float, ...]
    if val is not None:
        temperatures = (fit_temperature(val[0][None], val[1]),)
        how = f"the {len(val[1])} validation rows"
    else:
        parts = torch.randperm(len(labels_N), generator=generator(seed, "temperature")).chunk(2)
        others = reversed(parts)
        temperatures = tuple(fit_temperature(logits_NC[None, rows_B], labels_N[rows_B]) for rows_B in others)
        how = "one half of the test rows, measured on the other half, and the other way round"
    scaled_NC = logits_NC.clone()
    for rows_B, temperature in zip(parts, temperatures, strict=True):
        scaled_NC[rows_B] = logits_NC[rows_B] / temperature
    after = reliability(scaled_NC.softmax(dim=1), labels_N)
    return Calibration(name, len(labels_N), before, after, temperatures, how)
