"""The arms of a comparison: every head and augmentation that a cache allows, those that are named, or a preset's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cache import FeatureCache
from pipeline.classifiers.kinds import KINDS
from pipeline.errors import ConfigError
from pipeline.features import corrects_the_prior
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.method_names import label, stage1_label, stage3_method
from pipeline.settings.problems import validate
from pipeline.settings.stage3 import AUGMENTATIONS, DEAR, HEADS, PRIOR_AWARE, READS_MAPS, TRAINED
from pipeline.settings.suggesting import did_you_mean

STAGE1_HEADS = ("stage1", "logit-adjustment", "tau-norm")
"""Heads that want the classifier of stage 1 in the cache."""
PLAIN_HEAD = "crt"
"""The head that augmentations are compared on where the head of the settings is not trained step by step."""


@dataclass(frozen=True)
class MethodArm:
    """One method of a comparison."""

    name: str
    """What the table calls it."""
    settings: Settings
    published: Mapping[str, float] = field(default_factory=dict)
    """Figures that were printed of it, by column."""
    best_epoch: bool | None = None
    """Whether those are of the best epoch on the test split; None: not said."""

    @property
    def method(self) -> str:
        return stage3_method(self.settings.retrain)

    def is_called(self, name: str) -> bool:
        """Whether this is the arm's name or its method, where `crt+none` is `crt`."""
        return name == self.name or name.removesuffix("+none") == self.method


@dataclass(frozen=True)
class LeftOut:
    """A method that cannot be run on this cache or in this version, and the reason."""

    name: str
    reason: str
    published: Mapping[str, float] = field(default_factory=dict)
    best_epoch: bool | None = None
    method: str = ""
    """Such as `crt+stg`, where it is one."""


@dataclass(frozen=True)
class Chosen:
    """Which methods are compared, with what, and by which metric."""

    methods: tuple[str, ...] = ()
    """Such as `crt+stg`; none: every arm that the cache allows, or those of the preset."""
    preset: str | None = None
    baseline: str | None = None
    """A method, or an arm's name; None: the preset's, else cRT."""
    metric: str = "accuracy"


def every(
    settings: Settings, cache: FeatureCache, baseline: str | None = None
) -> tuple[list[MethodArm], list[LeftOut]]:
    """All heads that the cache allows, and the head of the settings (by default `crt`) with every augmentation.

    Where the settings have class-balanced sampling, heads whose loss corrects the prior are trained on rows as they are.
    """
    if settings.retrain.sampling == "balanced":
        note(f"{', '.join(PRIOR_AWARE)}: on rows as they are, since their loss corrects the training prior")
        settings = settings.model_copy(update={"retrain": settings.retrain.model_copy(update={"sampling": "auto"})})
    head = settings.retrain.head if settings.retrain.is_trained else PLAIN_HEAD
    methods = [name for name in KINDS if name not in TRAINED]
    methods += [name for name in KINDS if name in TRAINED and name not in DEAR]
    methods += [f"{head}+{augmentation}" for augmentation in AUGMENTATIONS]
    arms, left_out = named(settings, cache, methods, baseline)
    there = {arm.settings.retrain.head for arm in arms}
    dear = [LeftOut(HEADS[name], "it takes long: name it with --methods") for name in DEAR if name not in there]
    return arms, left_out + dear


def named(
    settings: Settings, cache: FeatureCache, methods: Sequence[str], baseline: str | None = None
) -> tuple[list[MethodArm], list[LeftOut]]:
    """The arms of these methods, and of the baseline where none of them is called so; those that the cache does not allow are
    left out. A method that is named twice, such as `crt` and `crt+none`, is one arm.

    Raises ConfigError for a method there is not, or for a baseline that is neither an arm nor a method.
    """
    arms: list[MethodArm] = []
    for method in dict.fromkeys(methods):
        arm = _arm(settings, cache, method)
        if any(arm.method == other.method for other in arms):
            note(f"{method}: the same method as {_first(methods, arm)}, which is compared already")
        else:
            arms.append(arm)
    if baseline and not any(arm.is_called(baseline) for arm in arms):
        arms.append(_baseline(settings, cache, baseline, arms))
    reasons = [missing(arm.settings, cache) for arm in arms]
    left_out = [
        LeftOut(arm.name, reason, method=arm.method) for arm, reason in zip(arms, reasons, strict=True) if reason
    ]
    return [arm for arm, reason in zip(arms, reasons, strict=True) if not reason], left_out


def _arm(settings: Settings, cache: FeatureCache, method: str) -> MethodArm:
    own = with_method(settings, method)
    return MethodArm(label(stage3_method(own.retrain), stage1_label(cache.manifest)), own)


def _first(methods: Sequence[str], arm: MethodArm) -> str:
    return next(method for method in methods if arm.is_called(method))


def _baseline(settings: Settings, cache: FeatureCache, baseline: str, arms: Sequence[MethodArm]) -> MethodArm:
    if baseline.partition("+")[0] in KINDS:
        return _arm(settings, cache, baseline)
    raise ConfigError(
        f"--baseline {baseline}: neither an arm nor a method; wanted an arm: {names_of(arms)}; or another method, such as "
        f"{PLAIN_HEAD}"
    )


def names_of(arms: Sequence[MethodArm]) -> str:
    """`cRT (crt), NCM (ncm)`: what each arm may be called."""
    return ", ".join(f"{arm.name} ({arm.method})" for arm in arms)


def missing(settings: Settings, cache: FeatureCache) -> str | None:
    """Why this cache cannot have such an arm; None where it can."""
    head = settings.retrain.head
    if head in STAGE1_HEADS and cache.classifier() is None:
        return "the cache holds no stage-1 classifier"
    reads_maps = settings.retrain.is_trained and settings.retrain.augmentation in READS_MAPS
    if reads_maps and not cache.manifest.identity.maps:
        return "the cache holds no feature maps: extract it with extract.maps=true"
    if reads_maps and cache.classifier() is None:
        return "the cache holds no stage-1 classifier"
    if head == "logit-adjustment" and corrects_the_prior(cache):
        return "stage 1 was trained with the prior in its loss, which this would correct twice"
    return None


def with_method(settings: Settings, method: str, changes: Mapping[str, Any] | None = None) -> Settings:
    """The settings with the head and augmentation of a method such as `crt+stg`, and other changes by dotted key.

    Raises ConfigError for a head, an augmentation or a key there is not, and for class-balanced sampling with a head whose loss
    corrects the prior.
    """
    head, _, augmentation = method.partition("+")
    _known(f"method {method}: head", head, list(KINDS))
    if augmentation:
        _known(f"method {method}: augmentation", augmentation, ["none", *AUGMENTATIONS])
        if head not in TRAINED:
            raise ConfigError(
                f"method {method}: {head} is computed, so nothing is augmented; wanted a head that is trained before the +: "
                f"{', '.join(TRAINED)}"
            )
    values = settings.model_dump(mode="json")
    values["retrain"] |= {"head": head, "augmentation": augmentation or "none"}
    for key, value in (changes or {}).items():
        section, _, name = key.rpartition(".")
        (values.setdefault(section, {}) if section else values)[name] = value
    return validate(values, {"retrain.head": f"method {method}"}, [])


def _known(what: str, name: str, names: list[str]) -> None:
    if name in names:
        return
    hint = did_you_mean(name, names)
    raise ConfigError(f"{what} {name!r}: no such one; {hint}wanted one of {', '.join(names)}")
