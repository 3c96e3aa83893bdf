"""Presets: the arms of a table of the paper, with the figures that were printed beside them. Files in `configs/presets/`."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from cache import FeatureCache
from pipeline.comparing.arms import LeftOut, MethodArm, missing, with_method
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import CONFIGS, flat, read_toml
from pipeline.settings.method_names import RECORDED, stage1_method, stage3_method
from pipeline.settings.problems import validate
from pipeline.settings.suggesting import did_you_mean

PRESETS = CONFIGS / "presets"
DIVERGENCE = "divergence"
"""The preset without arms: it measures how the transformations of five samples differ (the paper's Table 5)."""
OF_A_CONFIG = ("stg", "retrain")
"""The sections of a row's config that are taken: those of stages 2 and 3. Stage 1 is the cache's."""
SAME_FACTOR = 1.15
"""A cache's imbalance factor may differ from the table's by this ratio: counts are truncated."""


class PresetArm(BaseModel):
    """A row of a table: its name there, the method that it is here, and its printed figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    method: str | None = None
    """Such as `crt+stg`, at the settings of the comparison."""
    config: str | None = None
    """In place of `method`: a file of `configs/methods/` or `configs/`, whose head, augmentation and settings this arm has."""
    stage1: str | None = None
    """What the cache's backbone must have been trained with, such as `mixup`; None: whatever it was."""
    changes: dict[str, Any] = {}
    """Settings of this arm by dotted key."""
    at: dict[str, dict[str, Any]] = {}
    """By imbalance factor: settings that differ there."""
    published: dict[str, float] = {}
    """By column of the table: an imbalance factor, or a figure such as `all`."""
    best_epoch: bool | None = None
    """Whether the printed figure is of the best epoch on the test split, as the method's public code reports it."""

    @model_validator(mode="after")
    def _method_or_config(self) -> "PresetArm":
        if (self.method is None) == (self.config is None):
            raise ValueError(
                f"{self.name}: wanted a method, such as crt+stg, or a config, such as mislas; one of the two"
            )
        return self


class Preset(BaseModel):
    """A table of the paper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    baseline: str
    by_imbalance: bool = False
    """Whether the columns of `published` are imbalance factors; else they are figures."""
    notes: list[str] = []
    arm: list[PresetArm]


def available_presets() -> list[str]:
    """The names that `--preset` takes."""
    return sorted([*(path.stem for path in PRESETS.glob("*.toml")), DIVERGENCE])


def check_preset(name: str) -> None:
    """Raises ConfigError, with the closest name, where there is no such preset."""
    if name not in available_presets():
        hint = did_you_mean(name, available_presets())
        raise ConfigError(f"--preset {name}: no such preset; {hint}wanted one of {', '.join(available_presets())}")


def read_preset(name: str) -> Preset:
    """The preset of this name, but for `divergence`, which has no arms."""
    check_preset(name)
    path = PRESETS / f"{name}.toml"
    try:
        return Preset.model_validate(read_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def preset_arms(preset: Preset, settings: Settings, cache: FeatureCache) -> tuple[list[MethodArm], list[LeftOut]]:
    """The preset's arms on this cache; left out, with the reason, are those that it or this version does not allow."""
    stage1 = recorded_stage1(cache)
    arms, left_out = [], []
    for row in preset.arm:
        published = _published(preset, row, cache)
        try:
            own = _settings(row, settings, cache)
            reason = missing(own, cache)
        except ConfigError as error:  # a head or a setting that this version has not
            own, reason = settings, str(error)
        if row.stage1 is not None and row.stage1 != stage1:
            reason = f"wants a cache whose stage 1 is {row.stage1}, this one's is {stage1 or 'not recorded'}"
        if reason:
            left_out.append(LeftOut(row.name, reason, published, row.best_epoch))
        else:
            arms.append(MethodArm(row.name, own, published, row.best_epoch))
    return arms, left_out


def _settings(row: PresetArm, settings: Settings, cache: FeatureCache) -> Settings:
    """The settings of a row on this cache: the comparison's, then its config's, then its own."""
    changes = row.changes | {key: value for column in _near(row.at, cache) for key, value in row.at[column].items()}
    if row.config is None:
        assert row.method is not None
        return with_method(settings, row.method, changes)
    values = {name: value for name, value in _config(row.config).items() if name in OF_A_CONFIG}
    method = stage3_method(validate(values, {}, []).retrain)
    of_config = {
        key: value for key, value in flat(values).items() if key not in ("retrain.head", "retrain.augmentation")
    }
    return with_method(settings, method, of_config | changes)


def _config(name: str) -> dict[str, Any]:
    method = CONFIGS / "methods" / f"{name}.toml"
    return read_toml(method if method.is_file() else CONFIGS / f"{name}.toml")


def recorded_stage1(cache: FeatureCache) -> str | None:
    """What the cache's backbone was trained with, as `configs/methods/` names it; None where that is not recorded."""
    recorded = cache.manifest.provenance.settings
    if "stage1" not in recorded:
        return None
    try:
        return stage1_method(Settings.model_validate({name: recorded[name] for name in RECORDED if name in recorded}))
    except ValidationError:  # of another version
        return None


def _published(preset: Preset, row: PresetArm, cache: FeatureCache) -> Mapping[str, float]:
    """The printed figures by the column of our table: those at the cache's imbalance factor, or all."""
    if not preset.by_imbalance:
        return row.published
    return {f"IF {column}": row.published[column] for column in _near(row.published, cache)}


def _near(factors: Iterable[str], cache: FeatureCache) -> list[str]:
    """Those imbalance factors that are the cache's."""
    counts = cache.counts("train")
    own = float(counts.max()) / max(1.0, float(counts[counts > 0].min()))
    return [factor for factor in factors if 1 / SAME_FACTOR < own / float(factor) < SAME_FACTOR]
