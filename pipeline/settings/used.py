"""Which settings have an effect on a command. A setting given on the command line that has none is refused by name.

Settings in a config file are never refused, as one file serves every command. `register.py` lists what a head or an
augmentation uses.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from pipeline.errors import ConfigError
from pipeline.settings import Settings, register, stage1, stage3
from pipeline.settings.made_by import DRAW, FROM_IMAGES
from pipeline.settings.method_names import stage3_method
from pipeline.settings.stage2 import STG

_FOR_ALL = frozenset(f"retrain.{name}" for name in register.FOR_ALL)
TRAINED = frozenset(f"retrain.{name}" for name in register.TRAINING) | _FOR_ALL | register.SEED
"""What every head uses that is trained."""
HEADS: dict[str, frozenset[str]] = {name: row.uses | _FOR_ALL for name, row in register.HEADS.items()}
"""Head -> the settings that it uses. One with `retrain.augmentation` uses what that augmentation does, too."""
GENERATOR = frozenset(f"stg.{name}" for name in STG.model_fields)
AUGMENTATIONS: dict[str, frozenset[str]] = {name: row.uses for name, row in register.AUGMENTATIONS.items()}
"""Augmentation -> the settings it uses."""


@dataclass(frozen=True)
class Condition:
    """The setting `key` matters only where the setting `other` has one of these values."""

    key: str
    other: str
    values: tuple[object, ...]


IMAGE_SOURCES = get_args(stage1.Data.model_fields["source"].annotation)
PUBLISHED = ("inaturalist", "imagenet-lt", "places-lt")
"""Sources that find their own files of every split in the folder `data.train`."""
NEAREST = ("l2", "cosine", "logit")
SOFT = set(register.BORROWING)
"""What stg.similarity=soft uses of `stg`: a soft generator is learnt in its own way."""
MIXED = ("mixup", "remix", "cutmix")
CONDITIONS = (
    Condition("data.train", "data.source", tuple(name for name in IMAGE_SOURCES if name != "digits")),
    Condition("data.val", "data.source", ("parquet", "folder", "list", "table", "npz", "webdataset")),
    Condition("data.test", "data.source", ("parquet", "folder", "list", "table", "npz", "webdataset")),
    Condition("data.root", "data.source", ("parquet", "list", "table", *PUBLISHED)),
    Condition("data.image_column", "data.source", ("parquet", "table", "npz")),
    Condition("data.label_column", "data.source", ("parquet", "table", "npz", "webdataset")),
    Condition("data.split_column", "data.source", ("table",)),
    Condition("data.download", "data.source", ("cifar10", "cifar100")),
    Condition("data.ram_limit", "data.decoded", ("auto",)),
    Condition("longtail.imbalance_factor", "longtail.profile", ("exponential",)),
    Condition("longtail.draw", "longtail.profile", ("exponential",)),
    Condition("longtail.n_max", "longtail.profile", ("exponential",)),
    Condition("stage1.muon_rate", "stage1.optimizer", ("muon",)),
    Condition("stage1.muon_decay", "stage1.optimizer", ("muon",)),
    Condition("stage1.warmup_epochs", "stage1.schedule", ("steps", "cosine")),
    Condition("stage1.milestones", "stage1.schedule", ("steps",)),
    Condition("stage1.gamma", "stage1.schedule", ("steps",)),
    Condition("stage1.focal_gamma", "stage1.loss", ("focal",)),
    Condition("stage1.ldam_margin", "stage1.loss", ("ldam",)),
    Condition("stage1.cosine_scale", "stage1.loss", ("ldam",)),
    Condition("stage1.loss_tau", "stage1.loss", ("logit-adjusted",)),
    Condition("stage1.reweight_beta", "stage1.reweight", ("class-balanced", "drw")),
    Condition("stage1.drw_start", "stage1.reweight", ("drw",)),
    Condition("stage1.mixup_alpha", "stage1.mixing", MIXED),
    Condition("stage1.remix_kappa", "stage1.mixing", ("remix",)),
    Condition("stage1.remix_tau", "stage1.mixing", ("remix",)),
    Condition("stage1.ema_decay", "stage1.averaging", ("ema",)),
    Condition("stage1.swa_start", "stage1.averaging", ("swa",)),
    Condition("stage1.randaugment_operations", "stage1.policy", ("randaugment",)),
    Condition("stage1.randaugment_magnitude", "stage1.policy", ("randaugment",)),
    Condition("stg.head_above", "stg.head_classes", (0,)),
    Condition("stg.head_share_limit", "stg.head_classes", (0,)),
    Condition("stg.head_share", "stg.head_classes", (0,)),
    Condition("stg.memory", "stg.full_statistics", (False,)),
    *(Condition(f"stg.{name}", "stg.similarity", NEAREST) for name in sorted({*STG.model_fields} - SOFT)),
    Condition("stg.smoothing_momentum", "stg.smoothing", ("class", "sample")),
    Condition("retrain.momentum", "retrain.optimizer", ("sgd",)),
)
"""Settings that belong to one value of another."""


def check_retrain(
    settings: Settings, given: Iterable[str], cached: bool, stg_given: bool = False, draws: bool = True
) -> None:
    """Raise ConfigError for settings given to `retrain` that its head and augmentation do not use.

    `given`: dotted keys that the user wrote on the command line. `cached`: features come from a named cache. `stg_given`:
    the generator is one that is trained already. `draws`: whether a head that may draw something at random does so here.
    """
    head, augmentation = settings.retrain.head, settings.retrain.augmentation
    augments = "retrain.augmentation" in HEADS.get(head, TRAINED)
    used = HEADS.get(head, TRAINED) | (AUGMENTATIONS.get(augmentation, frozenset()) if augments else frozenset())
    if stg_given:
        used -= GENERATOR - {"stg.similarity"}

    def problem(key: str) -> str | None:
        if key == "seed" and cached and not (draws and key in used):
            return f"retrain.head={head} draws nothing at random"
        if key in used or key == "retrain.head" or _section(key) not in ("retrain", "stg"):
            return None
        if stg_given and key in GENERATOR:
            return "the generator of --stg is trained already"
        if augments and (users := _users(key, AUGMENTATIONS)):
            return f"retrain.augmentation={augmentation} does not use it; it is for {users}"
        if key == "retrain.augmentation" or not _users(key, HEADS):
            return f"retrain.head={head} trains nothing, so nothing is augmented"
        return f"retrain.head={head} does not use it; it is for {_users(key, HEADS)}"

    _check([settings], given, cached, problem)


def check_compare(settings: Settings, given: Collection[str], cached: bool) -> None:
    """Raise ConfigError for settings given to a comparison, which has every augmentation and every head post hoc."""

    def problem(key: str) -> str | None:
        if _section(key) == "retrain" and "retrain.augmentation" in given:
            augmentation = settings.retrain.augmentation
            users = _users(key, AUGMENTATIONS)
            if users and key not in AUGMENTATIONS.get(augmentation, frozenset()):
                return f"retrain.augmentation={augmentation} is compared with none alone; it is for {users}"
        if key == "retrain.head" and not settings.retrain.is_trained:
            return f"{settings.retrain.head} is compared anyway; wanted the head that is trained: {_trained_heads()}"
        head = settings.retrain.head
        trained_only = _users(key, {name: used for name, used in HEADS.items() if name in stage3.TRAINED})
        if any(key in used for name, used in HEADS.items() if name not in stage3.TRAINED):
            return None
        if trained_only and head in stage3.TRAINED and key not in HEADS.get(head, TRAINED):
            return f"retrain.head={head} does not use it; it is for {trained_only}"
        return None

    _check([settings], given, cached, problem)


def check_arms(
    settings: Settings, given: Iterable[str], cached: bool, methods: Collection[str], every: bool = False
) -> None:
    """Raise ConfigError for settings given to a comparison whose arms have their own heads and augmentations.

    `methods` are those that are named, such as `crt+stg`, none where a preset has its own. `every`: all heads are compared,
    and every augmentation with the head of the settings.
    """

    def problem(key: str) -> str | None:
        if key == "retrain.augmentation" or (key == "retrain.head" and not every):
            return "each arm has its own; name those that are wanted with --methods"
        return _unused_by(methods, key, cached) if methods else None

    _check([settings], given, cached, problem)


def check_points(
    points: Sequence[Settings], given: Iterable[str], cached: bool, varied: Collection[str], file: str
) -> None:
    """Raise ConfigError for settings given beside a sweep's file that no point uses, or that the file gives itself.

    `points`: the settings of each; `varied`: the keys in `file`.
    """
    methods = {stage3_method(point.retrain) for point in points}

    def problem(key: str) -> str | None:
        return f"{file} gives it" if key in varied else _unused_by(methods, key, cached)

    _check(points, given, cached, problem)


def _unused_by(methods: Collection[str], key: str, cached: bool) -> str | None:
    """Why a setting is of no use to any of these methods, such as `crt+stg`; None where it is of use."""
    used: frozenset[str] = frozenset()
    for method in methods:
        head, _, augmentation = method.partition("+")
        used |= HEADS.get(head, TRAINED) | AUGMENTATIONS.get(augmentation, frozenset())
    if key == "seed" and cached and key not in used:
        return "none of the methods draws anything at random"
    if key in used or _section(key) not in ("retrain", "stg"):
        return None
    users = _users(key, HEADS) or _users(key, AUGMENTATIONS)
    return f"none of the methods uses it; it is for {users}" if users else None


def check_inspect(settings: Settings, given: Iterable[str], cached: bool) -> None:
    """Raise ConfigError for settings given to `inspect` that are about training."""

    draws = not cached and settings.longtail.profile == "exponential"

    def problem(key: str) -> str | None:
        if key == "seed" and not draws:
            return "inspect draws nothing at random"
        of_images = _section(key) in (*FROM_IMAGES, "longtail") or key in ("seed", "name", "ram_limit")
        return None if of_images else "inspect trains nothing"

    _check([settings], given, cached, problem)


def check_stages(settings: Settings, given: Iterable[str], cached: bool) -> None:
    """Raise ConfigError for settings given to stage 1 or 2 that belong to another choice.

    Those of later stages go along: one set of options serves every stage, and a cache records them for `retrain --cache`.
    """
    _check([settings], given, cached, lambda key: None)


def check_stage1(settings: Settings, given: Iterable[str]) -> None:
    """As `check_stages`, and ConfigError for `device`, which no cache records."""
    reason = "it is for stages 2 and 3; for stage 1 set stage1.device"
    _check([settings], given, False, lambda key: reason if key == "device" else None)


def _check(
    variants: Sequence[Settings], given: Iterable[str], cached: bool, problem: Callable[[str], str | None]
) -> None:
    problems = []
    for key in given:
        if cached and (_section(key) in FROM_IMAGES or key in DRAW):
            reason: str | None = "the features of --cache are made already"
        else:
            unmet = [_unmet(settings, key) for settings in variants]
            reason = problem(key) or (unmet[0] if all(unmet) else None)
        if reason:
            problems.append(f"{key}: has no effect here: {reason}; leave it out")
    if problems:
        raise ConfigError(*problems)


def _unmet(settings: Settings, key: str) -> str | None:
    for condition in CONDITIONS:
        if condition.key != key:
            continue
        section, _, name = condition.other.partition(".")
        value = getattr(getattr(settings, section), name)
        if value not in condition.values:
            wanted = " or ".join(_shown(value) for value in condition.values)
            return f"it is for {condition.other}={wanted}, found {_shown(value)}"
    return None


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _users(key: str, table: dict[str, frozenset[str]]) -> str:
    """The names in the table that use the setting, unless all do."""
    users = [name for name, used in table.items() if key in used]
    if set(users) == set(stage3.TRAINED):
        return "heads that are trained"
    if users and set(users) < set(stage3.TRAINED) and len(users) > len(stage3.TRAINED) // 2:
        others = ", ".join(name for name in stage3.TRAINED if name not in users)
        return f"heads that are trained, but for {others}"
    return ", ".join(users) if len(users) < len(table) else ""


def _trained_heads() -> str:
    return ", ".join(stage3.TRAINED)


def _section(key: str) -> str:
    return key.partition(".")[0]
