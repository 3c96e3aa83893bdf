"""What a report shows of a sweep: the score of each place of its grid against each setting that was varied. Pure."""

from dataclasses import dataclass
from statistics import mean
from typing import Any

from pipeline.report.evidence.words import shown_name
from pipeline.sweeping.plan import METHOD
from pipeline.sweeping.record import GridPlace, SweepResult

MOST_SERIES = 10
"""Colours that can be told apart; of more series, none has a colour of its own."""
LOGARITHMIC = 10
"""Positive numbers whose largest is so many times the smallest are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Series:
    """The places that share a method, or a value of the other setting. `level` is the score of those that do not use this one."""

    name: str
    points: tuple[tuple[float, float, bool], ...]
    """Place on the axis, score in percent, whether it was chosen."""
    line: tuple[tuple[float, float], ...]
    """Place on the axis, mean score there, in percent."""
    level: float | None = None


@dataclass(frozen=True)
class ScoresBySetting:
    """The scores against one setting."""

    setting: str
    series: tuple[Series, ...]
    told_apart_by: str
    """What the series differ in, empty where there is one."""
    ticks: tuple[str, ...]
    """The values, where they are no numbers: place 0, 1, …"""
    logarithmic: bool


def score_name(result: SweepResult) -> str:
    """What the scores are, such as `balanced accuracy on val`."""
    metric = "accuracy" if result.metric == "accuracy" else "balanced accuracy"
    return f"{metric} on {'the test split' if result.selected_on in (None, 'test') else result.selected_on}"


def score_of(result: SweepResult, place: GridPlace) -> float | None:
    """What a place was chosen by; where nothing was chosen, its figure on the test split. Percent."""
    if result.selected_on is not None:
        return place.score
    return place.mean.get("accuracy" if result.metric == "accuracy" else "balanced_accuracy")


def scores_by_setting(result: SweepResult) -> tuple[ScoresBySetting, ...]:
    """A drawing for each varied setting, in the file's order; of the methods, where nothing else but the seed was varied."""
    varied = [key for key in result.varied if key != "seed"]
    settings = [key for key in varied if key != METHOD] or varied
    return tuple(_against(result, setting, _told_apart_by(setting, varied)) for setting in settings)


def _told_apart_by(setting: str, varied: list[str]) -> str:
    """Of two varied settings, the other one; of more, the method."""
    others = [key for key in varied if key != setting]
    return others[0] if len(others) == 1 else METHOD if METHOD in others else ""


def _against(result: SweepResult, setting: str, told_apart_by: str) -> ScoresBySetting:
    scored = [(place, score) for place in result.places if (score := score_of(result, place)) is not None]
    values = _distinct([place.values[setting] for place, _ in scored if setting in place.values])
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    values = sorted(values) if numeric else values
    by_name: dict[str, list[tuple[GridPlace, float]]] = {}
    for place, score in scored:
        name = place.method if told_apart_by == METHOD else _shown(place.values.get(told_apart_by, "not used"))
        by_name.setdefault(name if told_apart_by else "", []).append((place, score))
    if len(by_name) > MOST_SERIES:
        by_name, told_apart_by = {"": scored}, ""
    where = {_shown(value): float(value) if numeric else float(number) for number, value in enumerate(values)}
    return ScoresBySetting(
        setting=shown_name(setting, 60),
        series=tuple(_series(name, places, setting, where) for name, places in by_name.items()),
        told_apart_by=shown_name(told_apart_by, 60),
        ticks=() if numeric else tuple(shown_name(value, 18) for value in where),
        logarithmic=numeric and bool(values) and values[0] > 0 and values[-1] >= LOGARITHMIC * values[0],
    )


def _series(name: str, places: list[tuple[GridPlace, float]], setting: str, where: dict[str, float]) -> Series:
    used = [(place, score) for place, score in places if setting in place.values]
    points = [(where[_shown(place.values[setting])], score, place.chosen) for place, score in used]
    unused = [score for place, score in places if setting not in place.values]
    means = [(x, mean(score for at, score, _ in points if at == x)) for x in sorted({at for at, *_ in points})]
    return Series(shown_name(name), tuple(points), tuple(means), mean(unused) if unused else None)


def _distinct(values: list[Any]) -> list[Any]:
    return list({_shown(value): value for value in values}.values())


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
