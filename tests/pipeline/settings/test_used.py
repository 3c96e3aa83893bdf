"""Settings that cannot matter are refused by name, and only those that the user wrote on the command line."""

from typing import get_args

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.load import load
from pipeline.settings.section import Section
from pipeline.settings.stage3 import TRAINED, Retrain
from pipeline.settings.used import (
    AUGMENTATIONS,
    CONDITIONS,
    DRAW,
    FROM_IMAGES,
    HEADS,
    check_arms,
    check_compare,
    check_inspect,
    check_points,
    check_retrain,
    check_stages,
)

MADE = "the features of --cache are made already"


def no_effect(key, reason):
    return f"{key}: has no effect here: {reason}; leave it out"


def keys():
    """Every dotted key of a section."""
    sections = {name: type(section) for name, section in Settings() if isinstance(section, Section)}
    return [f"{name}.{key}" for name, section in sections.items() for key in section.model_fields]


def refused(check, *texts, cached=True, seed=None, **more):
    found = load(None, texts, seed)
    try:
        check(found.settings, found.given, cached, **more)
    except ConfigError as error:
        return list(error.lines)
    return []


def test_every_head_and_every_augmentation_has_a_row_of_settings_that_exist():
    assert set(HEADS) == set(get_args(Retrain.model_fields["head"].annotation))
    assert set(AUGMENTATIONS) == set(get_args(Retrain.model_fields["augmentation"].annotation))
    conditions = {condition.key for condition in CONDITIONS} | {condition.other for condition in CONDITIONS}
    named = frozenset().union(*HEADS.values(), *AUGMENTATIONS.values(), DRAW, conditions)
    assert named <= {*keys(), "seed"}
    # Every setting of stage 3 is of use to somebody.
    assert {key for key in keys() if key.startswith("retrain.")} - {"retrain.head"} <= named


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (
            ["retrain.head=ncm", "retrain.augmentation=dropout"],
            no_effect("retrain.augmentation", "retrain.head=ncm trains nothing, so nothing is augmented"),
        ),
        (
            ["retrain.head=ncm", "stg.epochs=3"],
            no_effect("stg.epochs", "retrain.head=ncm trains nothing, so nothing is augmented"),
        ),
        (
            ["retrain.tau=2"],
            no_effect("retrain.tau", "retrain.head=crt does not use it; it is for logit-adjustment, tau-norm, logistic, logit-adjusted"),
        ),
        (
            ["retrain.head=tau-norm", "retrain.seeds=3"],
            no_effect("retrain.seeds", "retrain.head=tau-norm does not use it; it is for heads that are trained"),
        ),
        (
            ["retrain.augmentation=dropout", "stg.epochs=3"],
            no_effect("stg.epochs", "retrain.augmentation=dropout does not use it; it is for stg"),
        ),
        (
            ["retrain.augmentation=noise", "retrain.dropout=0.1"],
            no_effect("retrain.dropout", "retrain.augmentation=noise does not use it; it is for dropout"),
        ),
        (
            ["retrain.augmentation=none", "retrain.strength=1"],
            no_effect("retrain.strength", "retrain.augmentation=none does not use it; it is for closed-form, stg"),
        ),
        (
            ["retrain.head=lws", "retrain.smoothing_head=0.1"],
            no_effect("retrain.smoothing_head", "retrain.head=lws does not use it; it is for generalized"),
        ),
        (
            ["retrain.momentum=0.5"],
            no_effect("retrain.momentum", "it is for retrain.optimizer=sgd, found adam"),
        ),
        (
            ["stg.full_statistics=true", "stg.memory=5"],
            no_effect("stg.memory", "it is for stg.full_statistics=false, found true"),
        ),
        (
            ["stg.similarity=soft", "stg.memory=5"],
            no_effect("stg.memory", "it is for stg.similarity=l2 or cosine or logit, found soft"),
        ),
        (
            ["retrain.augmentation=none", "retrain.borrow=2"],
            no_effect("retrain.borrow", "retrain.augmentation=none does not use it; it is for transfer"),
        ),
        (["stage1.epochs=3"], no_effect("stage1.epochs", MADE)),
        (["longtail.n_max=3"], no_effect("longtail.n_max", MADE)),
        (["data.workers=3"], no_effect("data.workers", MADE)),
    ],
)  # fmt: skip
def test_retrain_refuses_by_name(texts, problem):
    assert refused(check_retrain, *texts) == [problem]


@pytest.mark.parametrize(
    "texts",
    [
        ["retrain.head=tau-norm", "retrain.tau=2"],
        ["retrain.head=generalized", "retrain.smoothing_head=0.1", "stg.epochs=2", "retrain.strength=1"],
        ["retrain.augmentation=closed-form", "stg.head_classes=2", "retrain.threshold=0.1"],
        ["retrain.augmentation=none", "retrain.epochs=2", "retrain.seeds=2", "longtail.many_above=50", "ram_limit=1"],
        ["retrain.optimizer=sgd", "retrain.momentum=0.5"],
        [],
    ],
)
def test_retrain_takes_what_matters(texts):
    assert refused(check_retrain, *texts) == []


DRAWS_NOTHING = ("stage1", "logit-adjustment", "tau-norm", "ncm", "knn")


@pytest.mark.parametrize("head", HEADS)
def test_a_seed_is_refused_where_nothing_is_drawn(head):
    """With a config it also says which features; then it is never refused."""
    wanted = [no_effect("seed", f"retrain.head={head} draws nothing at random")]
    for seed, texts in ((3, ()), (None, ("seed=3",))):
        assert refused(check_retrain, f"retrain.head={head}", *texts, seed=seed) == wanted * (head in DRAWS_NOTHING)
    assert refused(check_retrain, f"retrain.head={head}", seed=3, draws=False) == wanted
    assert refused(check_retrain, f"retrain.head={head}", seed=3, cached=False) == []


def test_a_seed_given_twice_is_refused():
    with pytest.raises(ConfigError) as error:
        load(None, ["seed=3"], 4)
    assert str(error.value) == "--seed: seed is given twice; give it once"


def test_a_head_that_begins_anew_has_no_start():
    others = "heads that are trained, but for oltr"
    assert refused(check_retrain, "retrain.head=oltr", "retrain.start=fresh") == [
        no_effect("retrain.start", f"retrain.head=oltr does not use it; it is for {others}")
    ]
    assert refused(check_retrain, "retrain.head=lfme", "retrain.start=fresh") == []


def test_every_problem_is_named_at_once():
    assert len(refused(check_retrain, "retrain.tau=2", "stage1.epochs=3", "retrain.noise=1", "retrain.epochs=3")) == 3


def test_a_trained_generator_has_no_settings_left():
    assert refused(check_retrain, "stg.epochs=2", "stg.similarity=cosine", stg_given=True) == [
        no_effect("stg.epochs", "the generator of --stg is trained already")
    ]


def test_a_comparison_uses_what_any_of_its_arms_uses():
    assert refused(check_compare, "retrain.tau=2", "retrain.noise=1", "stg.epochs=3", "retrain.seeds=3") == []
    assert refused(check_compare, "retrain.head=ncm") == [
        no_effect(
            "retrain.head",
            f"ncm is compared anyway; wanted the head that is trained: {', '.join(TRAINED)}",
        )
    ]
    assert refused(check_compare, "retrain.smoothing_tail=0.2") == [
        no_effect("retrain.smoothing_tail", "retrain.head=crt does not use it; it is for generalized")
    ]
    assert refused(check_compare, "retrain.augmentation=noise", "retrain.dropout=0.2", "retrain.noise=1") == [
        no_effect("retrain.dropout", "retrain.augmentation=noise is compared with none alone; it is for dropout")
    ]
    assert len(refused(check_compare, "backbone.name=resnet20")) == 1
    assert refused(check_compare, "backbone.name=resnet20", cached=False) == []


def test_named_arms_use_what_one_of_them_uses():
    texts = ("retrain.tau=2", "retrain.noise=1", "retrain.seeds=3", "retrain.head=lws")
    named = refused(check_arms, *texts, methods=("ncm", "crt+noise"))
    own = "each arm has its own; name those that are wanted with --methods"
    tau = "none of the methods uses it; it is for logit-adjustment, tau-norm, logistic, logit-adjusted"
    assert named == [no_effect("retrain.tau", tau), no_effect("retrain.head", own)]
    assert refused(check_arms, "retrain.seeds=3", methods=("ncm",)) == [
        no_effect("retrain.seeds", "none of the methods uses it; it is for heads that are trained")
    ]
    assert refused(check_arms, seed=3, methods=("ncm", "knn")) == [
        no_effect("seed", "none of the methods draws anything at random")
    ]
    assert refused(check_arms, seed=3, methods=("ncm", "lda")) == refused(check_arms, seed=3, methods=()) == []
    assert refused(check_arms, *texts, methods=(), every=True) == []
    assert refused(check_arms, "retrain.head=lws", "retrain.augmentation=noise", methods=()) == [
        no_effect("retrain.head", own),
        no_effect("retrain.augmentation", own),
    ]
    assert len(refused(check_arms, "backbone.name=resnet20", methods=())) == 1


def test_what_is_given_beside_a_sweep_is_used_by_a_point():
    heads = [load(None, [f"retrain.head={head}"]).settings for head in ("ncm", "lda")]
    sgd = load(None, ["retrain.optimizer=sgd", "retrain.augmentation=none"]).settings

    def told(points, *given, cached=True, varied=("retrain.head",)):
        try:
            check_points(points, given, cached, varied, "my.toml")
        except ConfigError as error:
            return list(error.lines)
        return []

    assert told(heads, "retrain.shrinkage", "seed") == []
    assert told(heads[:1], "seed") == [no_effect("seed", "none of the methods draws anything at random")]
    assert told(heads[:1], "seed", cached=False) == []
    assert told(heads, "retrain.head", "retrain.hidden") == [
        no_effect("retrain.head", "my.toml gives it"),
        no_effect("retrain.hidden", "none of the methods uses it; it is for oltr"),
    ]
    assert told([*heads, sgd], "retrain.momentum") == []
    assert told([load(None, ["retrain.augmentation=none"]).settings], "retrain.momentum") == [
        no_effect("retrain.momentum", "it is for retrain.optimizer=sgd, found adam")
    ]


def test_inspect_refuses_what_is_about_training():
    nothing = "inspect trains nothing"
    assert refused(check_inspect, "retrain.tau=2", "longtail.few_below=3", "stg.epochs=2") == [
        no_effect("retrain.tau", nothing),
        no_effect("stg.epochs", nothing),
    ]
    assert refused(check_inspect, "data.workers=1", "backbone.name=resnet20", cached=False) == []
    seed = [no_effect("seed", "inspect draws nothing at random")]
    assert refused(check_inspect, seed=3) == refused(check_inspect, seed=3, cached=False) == seed
    assert refused(check_inspect, "longtail.profile=exponential", seed=3, cached=False) == []
    assert len(refused(check_inspect, "data.workers=1")) == 1


def test_stages_that_make_a_cache_take_what_later_ones_read_from_it():
    assert (
        refused(check_stages, "retrain.epochs=3", "stg.epochs=3", "stage1.epochs=2", "retrain.tau=2", cached=False)
        == []
    )
    assert refused(check_stages, "longtail.imbalance_factor=10", cached=False) == [
        no_effect("longtail.imbalance_factor", "it is for longtail.profile=exponential, found natural")
    ]
    assert refused(check_stages, "stage1.focal_gamma=2", "data.root=x", cached=False) == [
        no_effect("stage1.focal_gamma", "it is for stage1.loss=focal, found ce"),
        no_effect(
            "data.root",
            "it is for data.source=parquet or list or table or inaturalist or imagenet-lt or places-lt, found digits",
        ),
    ]


@pytest.mark.parametrize("check", [check_retrain, check_compare, check_stages])
def test_what_a_config_holds_is_never_refused(check, tmp_path):
    (tmp_path / "own.toml").write_text(
        "[stage1]\nfocal_gamma = 2\n[longtail]\nimbalance_factor = 10\n"
        '[retrain]\nhead = "ncm"\naugmentation = "dropout"\ntau = 2\n'
    )
    found = load(str(tmp_path / "own.toml"), preset=["retrain.seeds=5"])
    check(found.settings, found.given, True)
    assert found.given == ()


@pytest.mark.parametrize("key", [key for key in keys() if key.split(".")[0] in FROM_IMAGES])
def test_no_setting_of_the_images_goes_with_a_cache(key):
    for check in (check_retrain, check_compare, check_stages):
        with pytest.raises(ConfigError, match=f"^{key}: has no effect here: the features of --cache are made already"):
            check(Settings(), [key], True)
