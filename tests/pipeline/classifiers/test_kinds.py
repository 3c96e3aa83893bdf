"""The register of heads: every head that settings may name has a row, and a new one is a row away."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch.nn import functional
from toy_heads import toy_problem

from pipeline.augment import kinds as augmentations
from pipeline.classifiers.kinds import KINDS, TRAININGS, kind
from pipeline.errors import DataError
from pipeline.settings import register, stage3
from pipeline.settings.stage3 import Retrain


def test_every_head_and_augmentation_has_a_row():
    assert set(KINDS) == set(register.HEADS) == set(stage3.HEADS) == set(get_args(stage3.HeadName))
    assert set(TRAININGS) == set(stage3.TRAINED)
    assert set(augmentations.KINDS) == set(register.AUGMENTATIONS) == set(get_args(stage3.AugmentationName))
    assert set(augmentations.KINDS) == {"none", *stage3.AUGMENTATIONS}


def test_a_name_without_a_row_lists_the_rows():
    with pytest.raises(ValueError, match="head 'svm': no such head; wanted one of stage1, logit-adjustment"):
        kind("svm")
    with pytest.raises(ValueError, match="augmentation 'cutmix': no such augmentation; wanted one of none, dropout"):
        augmentations.kind("cutmix")


def test_the_logit_adjusted_loss_is_cross_entropy_under_the_training_prior():
    """Menon et al. (2021), Eq. 10, written out."""
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 8, 20, generator=g), torch.randint(20, (2, 8), generator=g)
    counts = torch.arange(1, 21)
    found = TRAININGS["logit-adjusted"].loss(Retrain(tau=0.7), counts)(logits, labels)
    adjusted = logits + 0.7 * (counts / counts.sum()).log()
    wanted = sum(functional.cross_entropy(adjusted[r], labels[r]) for r in range(2))
    torch.testing.assert_close(found, wanted)


def test_the_prior_is_corrected_once():
    assert Retrain(head="logit-adjusted").sampled == "instance"
    assert Retrain(head="crt").sampled == "balanced"
    with pytest.raises(ValueError, match=r"retrain\.sampling=balanced would correct it again"):
        Retrain(head="logit-adjusted", sampling="balanced")


@pytest.mark.parametrize(
    ("head", "start", "remedy"),
    [("logit-adjustment", "stage1", "retrain.head=stage1"), ("crt", "adjusted", "--set retrain.start=stage1")],
)
def test_a_classifier_that_corrects_the_prior_is_not_adjusted_again(head, start, remedy):
    problem = replace(toy_problem(head, start=start, epochs=1), corrected=True)
    what = "retrain.head=logit-adjustment" if start == "stage1" else "retrain.start=adjusted"
    with pytest.raises(DataError) as error:
        kind(head)(problem)
    assert str(error.value) == (
        f"{what}: the stage-1 classifier of toy was trained with the prior in its loss, and adjusting it would correct it "
        f"again; use {remedy}"
    )
