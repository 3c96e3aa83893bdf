"""Reliability diagrams and temperatures."""

import pytest
import torch

from pipeline.metrics import expected_calibration_error
from pipeline.predict import fit_temperature
from pipeline.report.evidence.calibration import calibrate, reliability


@pytest.fixture(scope="module")
def confident():
    """Logits three times as sure as they should be, and labels drawn from the honest ones."""
    draw = torch.Generator().manual_seed(0)
    honest_NC = 2 * torch.randn(20_000, 5, generator=draw)
    labels_N = torch.multinomial(honest_NC.softmax(dim=1), 1, generator=draw)[:, 0]
    return 3 * honest_NC, labels_N


def test_bins_hold_every_row_and_add_up_to_the_error(confident):
    logits_NC, labels_N = confident
    found = reliability(logits_NC.softmax(dim=1), labels_N)
    rows = sum(one.rows for one in found.bins)
    assert rows == len(labels_N)
    by_hand = sum(one.rows * abs(one.accuracy - one.confidence) for one in found.bins) / rows
    assert found.ece == pytest.approx(by_hand)
    right = sum(one.rows * one.accuracy for one in found.bins) / rows
    assert right == pytest.approx(100 * float((logits_NC.argmax(dim=1) == labels_N).double().mean()))


def test_each_half_has_the_temperature_of_the_other(confident):
    logits_NC, labels_N = (part[:301] for part in confident)
    found = calibrate("example", logits_NC, labels_N)
    assert len(found.temperatures) == 2
    assert found.after.ece < found.before.ece
    assert found.how.startswith("one half of the test rows")
    # The rows of one half may change without moving the temperature that they get themselves.
    from pipeline.rng import generator

    first_B, second_B = torch.randperm(301, generator=generator(0, "temperature")).chunk(2)
    assert found.temperatures[0] == fit_temperature(logits_NC[None, second_B], labels_N[second_B])
    assert found.temperatures[1] == fit_temperature(logits_NC[None, first_B], labels_N[first_B])


def test_validation_rows_give_one_temperature_to_all(confident):
    logits_NC, labels_N = confident
    found = calibrate("example", logits_NC[:100], labels_N[:100], (logits_NC[100:], labels_N[100:]))
    assert found.how == "the 19900 validation rows"
    (temperature,) = found.temperatures
    scaled = (logits_NC[:100] / temperature).softmax(dim=1)
    assert found.after.ece == pytest.approx(expected_calibration_error(scaled, labels_N[:100]))
