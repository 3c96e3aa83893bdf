"""The arms of a whole run: those that the cache allows, by the rule that `compare` has."""

import pytest
from conftest import Blobs, write_cache

from pipeline.compare import COMPUTED, arms
from pipeline.comparing.arms import named
from pipeline.settings.load import load

CORRECTED = {"stage1": {"epochs": 5, "loss": "logit-adjusted"}}
"""Of a cache whose stage 1 took the prior into its loss."""


@pytest.mark.parametrize(
    ("made", "left_out"),
    [
        ({}, []),
        ({"classifier": False}, ["classifier (stage 1)", "logit adjustment", "tau-normalisation"]),
        ({"settings": CORRECTED}, ["logit adjustment"]),
    ],
)
def test_a_run_and_a_comparison_leave_out_the_same_arms_for_the_same_reasons(stores, made, left_out):
    cache, settings = write_cache(stores, Blobs(), **made), load().settings
    allowed, lost = arms(settings, cache)
    compared, lost_there = named(settings, cache, COMPUTED)
    assert [arm.name for arm in lost] == left_out
    assert lost == lost_there
    assert [own.retrain.head for own in allowed][: len(compared)] == [arm.method for arm in compared]
