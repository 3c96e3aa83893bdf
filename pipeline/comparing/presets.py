"""Presets: the arms of a table of the paper, with the figures that were printed beside them. Files in `configs/presets/`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cache import FeatureCache
from pipeline.comparing.arms import LeftOut, MethodArm, missing, with_method
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import CONFIGS, read_toml
from pipeline.settings.method_names import RECORDED, stage1_method
from pipeline.settings.suggesting import did_you_mean

PRESETS = CONFIGS / "presets"
DIVERGENCE = "divergence"
"""The preset without arms: it measures how the transformations of five samples differ (the paper's Table 5)."""
SAME_FACTOR = 1.15
"""A cache's imbalance factor may differ from the table's by this ratio: counts are truncated."""


class PresetArm(BaseModel):
    """A row of a table: its name there, the method that it is here, and its printed figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    method: str
    stage1: str | None = None
    """What the cache's backbone must have been trained with, such as `mixup`; None: whatever it was."""
    changes: dict[str, Any] = {}
    """Settings of this arm by dotted key."""
    published: dict[str, float] = {}
    """By column of the table: an imbalance factor, or a figure such as `all`."""
    best_epoch: bool | None = None
    """Whether the printed figure is of the best epoch on the test split, as the method's public code reports it."""


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
            own = with_method(settings, row.method, row.changes)
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
    counts = cache.counts("train")
    factor = float(counts.max()) / max(1.0, float(counts[counts > 0].min()))
    near = [column for column in row.published if 1 / SAME_FACTOR < factor / float(column) < SAME_FACTOR]
    return {f"IF {column}": row.published[column] for column in near}
