"""The output of `compare`: the table of methods, the meaning of its signs, the overview of several caches, Table 5."""

from collections.abc import Sequence

import polars as pl

from pipeline.comparing.divergence import Divergence
from pipeline.comparing.record import SHOWN_FIGURES, AbsentArm, ComparedArm, Contrast, MethodComparison
from pipeline.comparing.several import Overview
from pipeline.report.layout import Part, Table, figures, names, tenths
from pipeline.report.tables import CHOSEN, headings, over_views

BEST, NEAR_BEST = "** ", "* "
"""Before the name of the best arm, and of those that cannot be told from it."""
BEST_EPOCH = " *"
"""Behind a published figure that is of the best epoch on the test split."""
UNSEEN = 1e-10
"""p-values below this are shown as that."""


def methods_table(comparison: MethodComparison) -> Table:
    """A row a method, best first: figures as mean ± spread over seeds, and the difference to the baseline."""
    rows_published: list[ComparedArm | AbsentArm] = [*comparison.arms, *comparison.left_out]
    published = list(dict.fromkeys(column for arm in rows_published for column in arm.published))
    columns = (
        *names("method"),
        *headings(SHOWN_FIGURES),
        *figures("seeds", "s"),
        *figures(f"to {comparison.baseline}", "95 % interval", "p (Holm)"),
        *figures(*(f"published, {column}" for column in published)),
    )
    rows = [
        (
            _marked(arm),
            *(_cell(arm, name) for name in SHOWN_FIGURES),
            str(len(arm.seeds)),
            f"{arm.seconds:.1f}",
            *_contrast_cells(arm.to_baseline),
            *_published_cells(arm, published),
        )
        for arm in sorted(comparison.arms, key=lambda arm: -arm.score)
    ]
    empty = ("–",) * (len(SHOWN_FIGURES) + 5)
    rows += [(arm.name, *empty, *_published_cells(arm, published)) for arm in comparison.left_out if arm.published]
    what = f"percent on the test split{over_views(comparison.test_views)}"
    title = f"{comparison.title}, cache {comparison.cache[:12]}, {comparison.stage1}: {what}"
    return Table(title, columns, tuple(rows))


def comparison_lines(comparison: MethodComparison) -> list[Part]:
    """The table and what it means."""
    many_above, few_below = comparison.limits
    sizes = {"many": f"> {many_above}", "medium": f"{few_below} to {many_above}", "few": f"< {few_below}"}
    groups = ", ".join(f"{name} {count} ({sizes[name]} rows)" for name, count in comparison.groups.items())
    test = (
        "the exact paired permutation test over test rows (with one seed, McNemar's)"
        if comparison.exact
        else "the paired permutation test over test rows, by 20,000 random sign flips"
    )
    metric = "all" if comparison.metric == "accuracy" else "balanced"
    others = max(0, len(comparison.arms) - 1)
    lines: list[Part] = [
        methods_table(comparison),
        "",
        f"{BEST.strip()} best by {metric}, {NEAR_BEST.strip()} not distinguishable from it (p >= 0.05, Holm-corrected); "
        f"{CHOSEN.strip()} chosen without the test split; ± over seeds; classes: {groups}",
        f"difference in points of {metric} on the same {comparison.test_rows:,} test rows; interval by "
        f"{comparison.replicates:,} bootstrap draws of test rows and of seeds; p of {test}, "
        f"corrected by Holm's method for {others} other arm{'' if others == 1 else 's'}",
    ]
    if comparison.test_views > 1:
        lines.append("figures without averaging over views, published ones among them, are other figures")
    lines += [f"left out: {arm.name}: {arm.reason}" for arm in comparison.left_out]
    return [*lines, *comparison.notes]


def _marked(arm: ComparedArm) -> str:
    mark = BEST if arm.to_best is None else NEAR_BEST if arm.among_the_best else ""
    return f"{mark}{CHOSEN if arm.chosen else ''}{arm.name}"


def _cell(arm: ComparedArm, name: str) -> str:
    value, spread = arm.mean[name], arm.std[name]
    if value is None or spread is None:
        return "–"
    return f"{value:.1f}" if len(arm.seeds) == 1 else f"{value:.1f} ± {spread:.1f}"


def _contrast_cells(contrast: Contrast | None) -> tuple[str, str, str]:
    if contrast is None:
        return "baseline", "–", "–"
    p = contrast.p_corrected
    shown = f"< {UNSEEN:.0e}" if p < UNSEEN else f"{p:.1e}" if p < 0.001 else f"{p:.3f}"
    return f"{contrast.difference:+.2f}", f"{contrast.low:+.2f} to {contrast.high:+.2f}", shown


def _published_cells(arm: ComparedArm | AbsentArm, columns: Sequence[str]) -> tuple[str, ...]:
    mark = BEST_EPOCH if arm.best_epoch else ""
    return tuple(f"{arm.published[column]:g}{mark}" if column in arm.published else "–" for column in columns)


def comparison_frame(comparison: MethodComparison) -> pl.DataFrame:
    """The same as figures, a row a method, for CSV and Parquet."""
    rows = []
    for arm in comparison.arms:
        spreads = {f"{name}_std": value for name, value in arm.std.items()}
        contrast = {} if arm.to_baseline is None else arm.to_baseline.model_dump()
        to_baseline = {f"to_baseline_{name}": contrast.get(name) for name in Contrast.model_fields}
        rows.append(
            {
                "dataset": comparison.dataset,
                "cache": comparison.cache,
                "test_views": comparison.test_views,
                "method": arm.method,
                "name": arm.name,
                "seeds": len(arm.seeds),
                **arm.mean,
                **spreads,
                "seconds": arm.seconds,
                "baseline": comparison.baseline,
                **to_baseline,
                "best": arm.to_best is None,
                "among_the_best": arm.among_the_best,
                "run": arm.run,
                **{f"published_{column}": value for column, value in arm.published.items()},
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def overview_table(overview: Overview) -> Table:
    """A row a method, by its mean rank over the caches."""
    columns = (
        *names("method"),
        *figures("mean rank", "mean", "± over backbones", "mean regret", "wins", "losses", "apart"),
    )
    rows = tuple(
        (
            row.name,
            f"{row.mean_rank:.2f}",
            f"{row.mean_score:.1f}",
            tenths(row.spread),
            f"{row.mean_regret:.2f}",
            str(row.wins),
            str(row.losses),
            "yes" if row.apart else "",
        )
        for row in overview.standings
    )
    return Table(f"{len(overview.caches)} caches, {overview.metric}", columns, rows)


def overview_lines(overview: Overview) -> list[Part]:
    """The table of several caches and what it means."""
    arms = len(overview.standings)
    lines: list[Part] = [
        overview_table(overview),
        "",
        f"wins and losses against {overview.baseline}; regret: points below the best arm of a cache; apart: its mean rank is "
        f"more than the critical difference {overview.critical_difference:.2f} behind the best",
        f"critical difference (Nemenyi): q(0.05, {arms} arms) x sqrt({arms} x {arms + 1} / (6 x {len(overview.caches)} caches)), "
        "q of the studentised range over sqrt(2)",
    ]
    if overview.not_everywhere:
        lines.append(f"not on every cache, so not ranked: {', '.join(overview.not_everywhere)}")
    return lines


def divergence_table(distances: Divergence) -> Table:
    """The paper's Table 5 on this cache."""
    numbers = range(1, len(distances.rows) + 1)
    columns = (*names("KL of row from column"), *figures(*(f"sample {number}" for number in numbers)))
    rows = [
        (f"sample {number} (row {row})", *("0" if value == 0 else f"{value:.1f}" for value in values))
        for number, row, values in zip(numbers, distances.rows, distances.divergences, strict=True)
    ]
    rows.append(("nearest head class", *distances.nearest))
    where = f"{distances.dataset}, cache {distances.cache[:12]}"
    title = f"{where}: transformations of {len(distances.rows)} training rows of {distances.tail_class}, nats"
    return Table(title, columns, tuple(rows))


def divergence_lines(distances: Divergence) -> list[Part]:
    """Table 5 and the one number that it is about."""

    def mean(value: float | None) -> str:
        return "no such pair" if value is None else f"{value:.1f} nats"

    return [
        divergence_table(distances),
        "",
        f"mean over pairs that share their nearest head class: {mean(distances.same_head)}; over the others: "
        f"{mean(distances.other_head)}",
        "published (CIFAR-100-LT, imbalance factor 100, raw features): 22.2 and 27.4 for the pair that shares one, 28.1 to "
        "69.5 for the others",
    ]
