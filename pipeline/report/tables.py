"""The comparison that every run ends with: the method beside the baselines that cost nothing, from one cache."""

from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

import polars as pl

from cache import Manifest
from pipeline.compare import Comparison
from pipeline.report.layout import Column, Part, Table, figures, names, tenths
from pipeline.settings.method_names import label, stage1_label
from pipeline.stage3_record import FIGURES, RetrainResult
from pipeline.stg.distance import Distance

NOT_LEARNT = " (not learnt)"
"""Put to the name of an arm whose generator predicts no better than no shift."""
WHERE_CHOSEN = "held out"
"""The column of what an arm has on the rows that it was chosen on, in the metric of the choice."""
HEADINGS = {
    "accuracy": "all",
    "balanced_accuracy": "balanced",
    "many": "many",
    "medium": "medium",
    "few": "few",
    "worst_tenth": "worst 10th",
    "ece": "ECE",
}
"""A figure -> what its column is called, in the order of every table and page."""
SHOWN_OF_RUN = tuple(name for name in HEADINGS if name in FIGURES)
"""The figures that a run records, in that order."""
CHOSEN = "> "
"""Put before the name of the arm that was chosen without the test split."""


def headings(shown: Iterable[str]) -> tuple[Column, ...]:
    """The columns of these figures."""
    return figures(*(HEADINGS[name] for name in shown))


def results_table(results: list[RetrainResult], stage1: str, title: str, learnt: bool = True) -> Table:
    """Percent on the test split, mean ± spread over seeds; `learnt`: whether the generator predicts better than no shift.

    Where arms were compared on held-out rows, a column has their figure there beside those on the test split.
    """
    compared = figures(WHERE_CHOSEN) if any(result.selection.score is not None for result in results) else ()
    columns = (*names("method"), *compared, *headings(SHOWN_OF_RUN), *figures("seeds", "s"))
    return Table(title, columns, tuple(_row(result, stage1, learnt, bool(compared)) for result in results))


def retrained_table(result: RetrainResult, manifest: Manifest, folder: Path) -> Table:
    """The table of one run of stage 3 on the cache of this manifest."""
    return results_table(
        [result], stage1_label(manifest), f"{result.dataset}, {result.split} split{taken_for([result])}: {folder}"
    )


def taken_for(results: list[RetrainResult]) -> str:
    """`, for the class prior uniform` where figures are for a prior that the user states, then `over_views`."""
    stated = next((result.prior for result in results if result.prior), "")
    prior = f", for the class prior {stated}" if stated else ""
    return prior + over_views(max((result.test_views for result in results), default=1))


def over_views(test_views: int) -> str:
    """What a title says where probabilities were averaged over several views of each row; else nothing."""
    return f", averaged over {test_views} views of each row" if test_views > 1 else ""


def _row(result: RetrainResult, stage1: str, learnt: bool, compared: bool) -> tuple[str, ...]:
    percent = [_cell(result, name) for name in SHOWN_OF_RUN]
    name = (CHOSEN if result.chosen else "") + label(result.method, stage1)
    name += "" if learnt or result.stg is None else NOT_LEARNT
    held_out = (tenths(result.selection.score),) if compared else ()
    return name, *held_out, *percent, str(len(result.seeds)), f"{result.seconds:.1f}"


def _cell(result: RetrainResult, name: str) -> str:
    value, spread = result.mean[name], result.std[name]
    if value is None or spread is None:
        return "–"
    return f"{value:.1f}" if len(result.seeds) == 1 else f"{value:.1f} ± {spread:.1f}"


def comparison_text(comparison: Comparison) -> list[Part]:
    """The table of a comparison with what its columns mean, for a terminal."""
    many_above, few_below = comparison.limits
    sizes = {"many": f"> {many_above}", "medium": f"{few_below} to {many_above}", "few": f"< {few_below}"}
    groups = ", ".join(f"{name} {count} ({sizes[name]} rows)" for name, count in comparison.groups.items())
    where = "on the test split"
    if comparison.folds:
        where = f"by {comparison.folds}-fold cross-validation, {comparison.tested:,} rows tested once each"
    on = f"{where}{taken_for(comparison.arms)}, last epoch"
    title = f"{comparison.dataset}, cache {comparison.cache[:12]}: top-1 % and ECE % {on}"
    return [
        results_table(comparison.arms, comparison.stage1, title, comparison.held_out.learnt),
        "",
        f"all: over rows; balanced, many, medium, few: means over the classes with test rows: {groups}; ± over seeds",
        *_choice_lines(comparison.arms, comparison.stage1),
        distance_line(comparison.held_out),
    ]


def _choice_lines(arms: list[RetrainResult], stage1: str) -> list[str]:
    """What was chosen without the test split, how, how sure, and what hindsight says of it."""
    lines = []
    scored = next((arm.selection for arm in arms if arm.selection.score is not None), None)
    if scored is not None:
        metric = "accuracy" if scored.metric == "accuracy" else "balanced accuracy"
        lines.append(f"{WHERE_CHOSEN}: {metric} on the rows that the arm's settings were chosen on: {scored.on}")
    for arm in (arm for arm in arms if arm.chosen):
        selection = arm.selection
        metric = "accuracy" if selection.metric == "accuracy" else "balanced_accuracy"
        best = max(arms, key=lambda other: getattr(other, metric))
        score = "" if selection.score is None else f", {selection.score:.1f} % there"
        sure = (
            ""
            if selection.certain is None
            else ", clearly"
            if selection.certain
            else ", its first members within the noise"
        )
        regret = getattr(best, metric) - getattr(arm, metric)
        lines.append(
            f"{CHOSEN}{label(arm.method, stage1)} is chosen on {selection.on}{score}{sure}; best in hindsight: "
            f"{label(best.method, stage1)}, {regret:.1f} above it"
        )
    return lines


def distance_line(distance: Distance) -> str:
    """One sentence on the generator against its closed form."""
    if distance.closed_form_ratio is not None:
        return (
            f"soft STG on {distance.rows} episodes of held-out head classes: error of the means {distance.zero_shift_ratio:.3f} "
            f"of that of no shift, its closed form's {distance.closed_form_ratio:.3f}; cosine {distance.mean_cosine:.3f}, "
            f"norm ratio {distance.mean_norm_ratio:.2f}"
        )
    return (
        f"STG on {distance.rows} held-out head samples, against the closed form: cosine of the means "
        f"{distance.mean_cosine:.3f}, norm ratio {distance.mean_norm_ratio:.2f}, relative error of the means "
        f"{distance.mean_relative_error:.3f}, of the log variances {distance.log_variance_relative_error:.3f}"
    )


def runs_table(rows: pl.DataFrame, title: str) -> Table:
    """A row a method, settings and split of `pipeline.results`' rows: percent, mean ± spread over the seeds.

    Where probabilities of any were averaged over views of each row, a column has the number of views.
    """
    averaged = bool((rows["test_views"] > 1).any())
    columns = (
        *names("method", "data set", "cache", "run", "split"),
        *(figures("views") if averaged else ()),
        *headings(HEADINGS),
        *figures("seeds", "s"),
    )
    by = ["dataset", "cache", "method", "run", "split"]
    grouped = rows.group_by(by, maintain_order=True)
    return Table(title, columns, tuple(_run_row(part, averaged) for _, part in grouped))


def _run_row(part: pl.DataFrame, averaged: bool) -> tuple[str, ...]:
    first = part.row(0, named=True)
    words = (first["method"], first["dataset"], first["cache"][:12], first["run"], first["split"])
    views = (str(first["test_views"]),) if averaged else ()
    cells = [mean_cell(part[name].drop_nulls().to_list()) for name in HEADINGS]
    return *words, *views, *cells, str(len(part)), f"{part['seconds'].sum():.1f}"


def mean_cell(values: list[float]) -> str:
    """Mean ± sample standard deviation; the value alone where there is one, a dash where there is none."""
    if not values:
        return "–"
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"
