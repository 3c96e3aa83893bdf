"""The register of heads and augmentations: what a row says is there, and run keys do not change with a setting that came later."""

import re
from pathlib import Path

import pytest

from pipeline.artefacts.folders import key_of
from pipeline.errors import ConfigError
from pipeline.settings.files import CONFIGS
from pipeline.settings.load import load
from pipeline.settings.register import AUGMENTATIONS, HEADS
from pipeline.settings.stage3 import ADDED, Retrain

METHODS = sorted(path.stem for path in (CONFIGS / "methods").glob("*.toml"))
CLASSIFIERS = Path(__file__).resolve().parents[3] / "pipeline" / "classifiers"


@pytest.mark.parametrize("name", HEADS)
def test_what_makes_a_head_is_named_by_file(name):
    file, _, function = HEADS[name].made_by.partition(".")
    assert function in (CLASSIFIERS / f"{file}.py").read_text()
    assert HEADS[name].label


def test_settings_that_a_row_names_exist():
    fields = {f"retrain.{name}" for name in Retrain.model_fields}
    for row in (*HEADS.values(), *AUGMENTATIONS.values()):
        assert {name for name in row.uses if name.startswith("retrain.")} <= fields


def test_a_setting_that_came_later_leaves_older_run_keys_alone():
    assert {name: getattr(Retrain(), name) for name in ADDED} == ADDED
    assert set(Retrain().keyed()) == set(Retrain.model_fields) - set(ADDED)
    assert key_of(retrain=Retrain().settled(False).keyed()) == (
        "7ac9540a101eac7475dcab6a8ff6b53befa30eb759f3781e104c7aa126f4b3dd"
    )
    changed = Retrain(head="marc", warmup_steps=800)
    assert changed.keyed()["warmup_steps"] == 800
    assert key_of(retrain=changed.keyed()) != key_of(retrain=Retrain(head="marc").keyed())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_over_a_config(method):
    before, after = load("cifar100-lt").settings, load(f"cifar100-lt+{method}").settings
    assert after.name == "cifar100-lt"
    assert after != before or method == "mixup"  # which the config has already
    if after.retrain != before.retrain:  # a method of stage 3 leaves what a cache is made from alone
        kept = {"data", "longtail", "backbone", "stage1", "extract", "stg"}
        assert after.model_dump(include=kept) == before.model_dump(include=kept)


def test_a_method_alone_goes_over_what_a_cache_records():
    base = ("cache abc", {"name": "own", "retrain": {"tau": 0.5, "epochs": 3}})
    found = load("+marc", base=base).settings
    assert (found.name, found.retrain.head, found.retrain.tau, found.retrain.steps) == ("own", "marc", 0.5, 2000)
    with pytest.raises(ConfigError) as error:
        load("+marc")
    assert str(error.value) == (
        "config +marc: a method alone goes over what a cache records; name the cache with --cache, or put a config before "
        "it, such as cifar10-lt+marc"
    )


@pytest.mark.parametrize("head", [name for name, row in HEADS.items() if row.prior_aware])
def test_the_prior_is_corrected_once(head):
    assert Retrain(head=head).sampled == "instance"
    wanted = (
        f"retrain.head={head} corrects the training prior in its loss, and retrain.sampling=balanced would correct it again; "
        "set retrain.sampling=instance or auto"
    )
    with pytest.raises(ValueError, match=re.escape(wanted)):
        Retrain(head=head, sampling="balanced")


@pytest.mark.parametrize(
    ("method", "override", "wanted"),
    [
        (
            "bbn",
            "stage1.loss=logit-adjusted",
            "backbone.ending=bbn samples rare classes more often, and stage1.loss=logit-adjusted would correct the training "
            "prior again; set either back",
        ),
        (
            "bbn",
            "stage1.reweight=drw",
            "backbone.ending=bbn samples rare classes more often, and stage1.reweight=drw would correct the training prior "
            "again; set either back",
        ),
        (
            "balanced-softmax",
            "stage1.reweight=drw",
            "stage1.loss=logit-adjusted corrects the training prior, and stage1.reweight=drw would correct it again; set "
            "either back",
        ),
    ],
)
def test_stage_1_corrects_the_prior_once(method, override, wanted):
    with pytest.raises(ConfigError) as error:
        load(f"digits-lt+{method}", [override])
    assert [line.partition(": ")[2] for line in error.value.lines] == [wanted]
