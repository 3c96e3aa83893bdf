"""A sweep file: TOML whose lists and ranges are the values that a setting is tried at. From it, the points of a sweep. Pure.

methods = ["crt", "crt+stg"]                                            # a head, and an augmentation behind a +
seed = { from = 0, to = 7 }                                             # 0, 1, … 7
[retrain]
strength = [0.5, 1.0, 1.5]
learning_rate = { from = 1e-4, to = 1e-2, steps = 3, scale = "log" }    # 1e-4, 1e-3, 1e-2
batch_size = 256                                                        # one value: the same at every point
"""

import copy
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.comparing.arms import with_method
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import flat, read_toml
from pipeline.settings.problems import validate
from pipeline.settings.used import AUGMENTATIONS, HEADS, TRAINED

OWN_KEYS = ("config", "cache", "methods")
"""Keys of a sweep file that are no settings."""
METHOD = "method"
"""What the axis of `methods` is called in tables."""
RANGE_KEYS = {"from", "to", "step", "steps", "scale"}
MOST_POINTS = 10_000
"""Points that a sweep may have; a larger grid is a slip of the pen."""


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says."""

    path: Path
    text: str
    config: str | None = None
    cache: str | None = None
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Dotted key, or `method` -> the values it is tried at; one value each for what does not vary."""

    @property
    def varied(self) -> list[str]:
        """The axes of more than one value."""
        return [key for key, values in self.axes.items() if len(values) > 1]


@dataclass(frozen=True)
class GridPoint:
    """One place of the grid: its values of the varied axes, and the settings that they make."""

    values: Mapping[str, Any]
    settings: Settings

    def __str__(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "the only point"


def read_sweep(path: Path) -> SweepFile:
    """Read a sweep file. Raises ConfigError where it is no TOML, or a range does not hold."""
    content = read_toml(path)
    own = {key: content.pop(key) for key in OWN_KEYS if key in content}
    for key in ("config", "cache"):
        if key in own and not isinstance(own[key], str):
            raise ConfigError(f"{path}: {key}: wanted a name in quotes, found {own[key]!r}")
    tuples = {key for key, value in flat(Settings().model_dump()).items() if isinstance(value, tuple)}
    axes: dict[str, Sequence[Any]] = {}
    if "methods" in own:
        methods = own["methods"]
        if not isinstance(methods, list) or not methods or not all(isinstance(method, str) for method in methods):
            raise ConfigError(f'{path}: methods: wanted a list such as ["crt", "crt+stg"], found {methods!r}')
        axes[METHOD] = methods
    for key, value in _dotted(content).items():
        axes[key] = _values(f"{path}: {key}", value, key in tuples)
    if len(views := axes.get("retrain.test_views", ())) > 1:
        raise ConfigError(
            f"{path}: retrain.test_views: wanted one value, found {', '.join(map(str, views))}: figures of different numbers of "
            "views are not comparable; make a sweep of each"
        )
    size = math.prod(len(values) for values in axes.values())
    if size > MOST_POINTS:
        raise ConfigError(f"{path}: wanted at most {MOST_POINTS:,} points, found {size:,}; try fewer values")
    return SweepFile(path, path.read_text(encoding="utf-8"), own.get("config"), own.get("cache"), axes)


def _dotted(content: dict[str, Any]) -> dict[str, Any]:
    """Values by dotted key; a table is a section, unless it is a range."""
    dotted: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and not ("from" in value and "to" in value):
            dotted |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            dotted[key] = value
    return dotted


def _values(where: str, value: Any, is_tuple: bool) -> Sequence[Any]:
    """What a setting is tried at: a list's members, a range's numbers, or one value."""
    if isinstance(value, dict):
        return _range(where, value)
    if isinstance(value, list) and not (is_tuple and not any(isinstance(member, list) for member in value)):
        if not value:
            raise ConfigError(f"{where}: wanted one value at least, found an empty list")
        return value
    return [value]


def _range(where: str, value: dict[str, Any]) -> Sequence[Any]:
    start, stop = value.get("from"), value.get("to")
    numbers = (start, stop, value.get("step", 1), value.get("steps", 2))
    if set(value) - RANGE_KEYS or not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers):
        raise ConfigError(
            f"{where}: wanted a range {{ from, to, steps, scale }} or {{ from, to, step }}, found {value}"
        )
    assert isinstance(start, (int, float))
    assert isinstance(stop, (int, float))
    if not all(abs(n or 0) <= sys.float_info.max for n in numbers):
        raise ConfigError(f"{where}: wanted finite numbers, found {value}")
    steps = value.get("steps", 2)
    if "steps" in value and not (isinstance(steps, int) and 1 <= steps <= MOST_POINTS):
        raise ConfigError(f"{where}: steps: wanted a whole number from 1 to {MOST_POINTS}, found {steps}")
    scale = value.get("scale", "linear")
    if scale not in ("linear", "log") or (scale == "log" and min(start, stop) <= 0):
        raise ConfigError(f'{where}: wanted scale = "linear", or "log" between positive numbers, found {value}')
    if "steps" in value:
        return _spaced(start, stop, steps, scale, isinstance(start, int) and isinstance(stop, int))
    step = value.get("step", 1)
    if step <= 0 or stop < start or scale == "log":
        raise ConfigError(f"{where}: wanted from <= to, a step above 0, and steps for a log scale, found {value}")
    count = math.floor(min((stop - start) / step, MOST_POINTS) + 1e-9) + 1
    values = [start + number * step for number in range(count)]
    return [
        value if isinstance(value, int) else float(f"{value:.12g}") for value in values
    ]  # 0.3, not 0.30000000000000004


def _spaced(start: float, stop: float, steps: int, scale: str, whole: bool) -> list[Any]:
    shares = [number / (steps - 1) for number in range(steps)] if steps > 1 else [0.0]
    if scale == "log":
        values = [start * (stop / start) ** share for share in shares]
    else:
        values = [start + (stop - start) * share for share in shares]
    values[-1] = stop if steps > 1 else values[-1]
    if whole:
        return list(dict.fromkeys(round(value) for value in values))
    return [float(f"{value:.6g}") for value in values]


def points(sweep: SweepFile, settings: Settings) -> list[GridPoint]:
    """Every combination of the axes' values over the settings, in the file's order; equal ones once.

    A value of a setting that a point's head and augmentation do not use makes no point of its own. Raises ConfigError with the
    point's values where a combination does not hold, and for an axis that no point uses.
    """
    keys = list(sweep.axes)
    distinct: dict[str, GridPoint] = {}
    for combination in itertools.product(*sweep.axes.values()):
        given = dict(zip(keys, combination, strict=True))
        point = _point(sweep, settings, given)
        distinct.setdefault(point.settings.model_dump_json(), point)
    if unused := [key for key in sweep.varied if not any(key in point.values for point in distinct.values())]:
        raise ConfigError(
            *(
                f"{sweep.path}: {key}: has no effect here: no point's head and augmentation use it; leave it out"
                for key in unused
            )
        )
    return list(distinct.values())


def _point(sweep: SweepFile, settings: Settings, given: dict[str, Any]) -> GridPoint:
    method = given.pop(METHOD, None)
    try:
        base = settings if method is None else with_method(settings, method)
        values = copy.deepcopy(base.model_dump(mode="json"))
        # First what says which method it is, then what that method uses.
        for key in ("retrain.head", "retrain.augmentation"):
            if key in given:
                values["retrain"][key.partition(".")[2]] = given[key]
        used = _used(values["retrain"]["head"], values["retrain"]["augmentation"])
        kept = {key: value for key, value in given.items() if not _unused(key, used)}
        for key, value in kept.items():
            section, _, name = key.rpartition(".")
            (values.setdefault(section, {}) if section else values)[name] = value
        own = validate(values, dict.fromkeys(kept, str(sweep.path)), [])
    except ConfigError as error:
        shown = ", ".join(f"{key}={value}" for key, value in {METHOD: method, **given}.items() if value is not None)
        raise ConfigError(*(f"at {shown}: {line}" for line in error.lines)) from None
    varied = {key: value for key, value in kept.items() if key in sweep.varied}
    return GridPoint({**({METHOD: method} if METHOD in sweep.varied else {}), **varied}, own)


def _used(head: str, augmentation: str) -> frozenset[str]:
    own = HEADS.get(head, TRAINED)
    return own | AUGMENTATIONS.get(augmentation, frozenset()) if "retrain.augmentation" in own else own


def _unused(key: str, used: frozenset[str]) -> bool:
    """Whether a setting of stages 2 and 3 is one that this head and augmentation do not use."""
    known = frozenset().union(*HEADS.values(), *AUGMENTATIONS.values())
    return key in known and key not in used
