"""A method has one name in metrics.json, and a cache names its own stage 1 in every table made from it."""

import pytest
import toy_caches as toys

from cache import Provenance, catalog
from pipeline.settings import Settings
from pipeline.settings.load import load
from pipeline.settings.method_names import stage1_label, stage1_method


def made(ending="plain", **stage1):
    return Settings.model_validate({"backbone": {"ending": ending}, "stage1": {"mixing": "none", **stage1}})


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The label of a cache with these recorded settings."""
    stores = tmp_path_factory.mktemp("stores")
    manifests = {bn: catalog.read_manifest(toys.make(stores, toys.identity(bn=bn))) for bn in ("plain", "shifted")}

    def label(recorded, bn="plain"):
        provenance = Provenance(name="toy", settings=recorded)
        return stage1_label(manifests[bn].model_copy(update={"provenance": provenance}))

    return label


@pytest.mark.parametrize(
    ("settings", "name", "label"),
    [
        (made(), "ce", "CE"),
        (Settings(), "mixup", "mixup"),
        (made(reweight="drw"), "ce-drw", "CE-DRW"),
        (made(reweight="class-balanced"), "ce-cb", "CE-CB"),
        (made(loss="focal", reweight="drw"), "focal-drw", "focal-DRW"),
        (made(loss="ldam", reweight="drw"), "ldam-drw", "LDAM-DRW"),
        (made(mixing="remix", reweight="drw"), "remix-drw", "Remix-DRW"),
        (made(mixing="mixup", reweight="drw"), "mixup-drw", "mixup-DRW"),
        (made(mixing="cutmix"), "cutmix", "CutMix"),
        (made(loss="logit-adjusted"), "balanced-softmax", "balanced softmax"),
        (made(loss="logit-adjusted", loss_tau=2), "logit-adjusted", "logit-adjusted"),
        (made("bbn"), "bbn", "BBN"),
        (made("new-block", mixing="mixup"), "mixup+new-block", "mixup + new block"),
        (made(sam_rho=0.05, averaging="ema"), "ce+sam+ema", "CE + SAM + EMA"),
        (made(averaging="swa", weight_decay=5e-4), "ce+swa+weight-decay", "CE + SWA + weight decay 0.0005"),
        (made(body_factor=0.1), "ce+fine-tune", "CE + fine-tuning"),
        (made(policy="randaugment", cutout=8), "ce+randaugment+cutout", "CE + RandAugment + Cutout"),
        (
            made(policy="trivialaugment", label_smoothing=0.1),
            "ce+label-smoothing+trivialaugment",
            "CE + label smoothing + TrivialAugment",
        ),
    ],
)
def test_methods_are_called_as_the_literature_calls_them(settings, name, label, labelled):
    assert stage1_method(settings) == name
    assert labelled(settings.model_dump(mode="json")) == f"{label} (stage 1)"


def test_a_backbone_that_is_not_trained_is_called_by_its_name(labelled):
    recorded = {"backbone": {"name": "efficientnet-lite0", "weights": "pretrained"}, "stage1": {"epochs": 0}}
    assert labelled(recorded) == "frozen efficientnet-lite0 (stage 1)"
    assert labelled(recorded, "shifted") == "frozen efficientnet-lite0 + shifted BN (stage 1)"


def test_shifted_statistics_are_the_cache_s(labelled):
    settings = load("cifar10-lt+shifted-bn").settings
    assert stage1_method(settings) == "mixup"  # the backbone's own figures are without them
    assert labelled(settings.model_dump(mode="json"), "shifted") == "mixup + shifted BN (stage 1)"


@pytest.mark.parametrize(
    "recorded", [{}, {"name": "imported"}, {"stage1": None}, {"stage1": {"later": 1}}, {"stage1": {"sam_rho": "x"}}]
)
def test_what_is_not_known_is_not_called_anything(labelled, recorded):
    assert labelled(recorded) == "classifier (stage 1)"
