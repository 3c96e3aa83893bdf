"""Compare, results."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.done import say_if_done
from pipeline.commands.exports import Exports, export_options
from pipeline.commands.options import Choice, Command, Options, common, output_options
from pipeline.commands.output import show
from pipeline.report.layout import Part

if TYPE_CHECKING:
    from pipeline.comparing.arms import Chosen


@click.command(cls=Command)
@common
@click.option(
    "--cache", "references", multiple=True, help="A cache's folder, key or start of it; give it more than once."
)
@click.option(
    "--methods",
    metavar="A,B+C,…",
    help="Heads, each with an augmentation behind a +; by default all that the cache allows.",
)
@click.option(
    "--preset", help="A table of the paper: paper-table1 to -table4, ablation-memory, ablation-strength, divergence."
)
@click.option("--seeds", type=click.IntRange(1, 1000), help="How many seeds each trained method has.  [default: 5]")
@click.option("--baseline", help="The method that the others are compared with; by default crt.")
@click.option(
    "--metric",
    type=Choice(["accuracy", "balanced"]),
    default="accuracy",
    show_default=True,
    help="What is compared: every row counts alike, or every class.",
)
@export_options("csv", "parquet", "md", "latex")
def compare(
    options: Options,
    references: tuple[str, ...],
    methods: str | None,
    preset: str | None,
    seeds: int | None,
    baseline: str | None,
    metric: str,
    csv: str | None,
    parquet: str | None,
    md: str | None,
    latex: str | None,
) -> None:
    """Which method is best on these features, by how much, and is it noise: every method x seed, tested on the same rows."""
    exports = Exports.of(options.as_json, csv=csv, parquet=parquet, md=md, latex=latex)
    if methods is not None and preset is not None:
        raise click.UsageError("--methods and --preset exclude each other")
    if not references and options.config is None:
        raise click.UsageError("--cache or --config is wanted: which features to compare on")
    chosen_seeds = ("retrain.seeds=5",) if seeds is None else (f"retrain.seeds={seeds}",)
    options = replace(options, preset=chosen_seeds) if seeds is None else replace(options, chosen=chosen_seeds)
    from pipeline.comparing.arms import Chosen
    from pipeline.comparing.presets import DIVERGENCE, check_preset

    names = tuple(name.strip() for name in methods.split(",") if name.strip()) if methods else ()
    if methods is not None and not names:
        raise click.UsageError("--methods: wanted names such as crt,crt+stg, found none")
    chosen = Chosen(names, preset, baseline, metric)
    if preset is not None:
        check_preset(preset)
    if preset == DIVERGENCE:
        _divergence(options, references, exports)
        return
    _compare(options, references, chosen, exports)


def _compare(options: Options, references: tuple[str, ...], chosen: "Chosen", exports: Exports) -> None:
    import polars as pl

    import pipeline
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.commands.which_cache import resolved_with_cache
    from pipeline.comparing.several import one_backbone_note, overview
    from pipeline.report.compared import (
        comparison_frame,
        comparison_lines,
        methods_table,
        overview_lines,
        overview_table,
    )
    from pipeline.settings.used import check_arms

    started = time.time()
    runs, comparisons = runs_folder(), []
    for reference in references or (None,):
        resolved, cache = resolved_with_cache(options, reference, stores_folder())
        methods = (*chosen.methods, *([chosen.baseline] if chosen.methods and chosen.baseline else []))
        every = not chosen.methods and chosen.preset is None
        check_arms(resolved.settings, resolved.given, reference is not None, methods, every)
        comparisons.append(pipeline.compare_arms(resolved.settings, cache, runs, chosen)[0])
    say_if_done((Path(arm.run) / "metrics.json" for each in comparisons for arm in each.arms), started)
    parts: list[Part] = []
    for comparison in comparisons:
        parts += [*comparison_lines(comparison), ""]
    over = overview(comparisons) if len(comparisons) > 1 else None
    parts += overview_lines(over) if over else []
    note = one_backbone_note(comparisons)
    parts += [note] if note else []
    frames = [comparison_frame(comparison) for comparison in comparisons]
    exports.write(
        pl.concat(frames, how="diagonal_relaxed"), overview_table(over) if over else methods_table(comparisons[0])
    )
    documents = [comparison.model_dump() for comparison in comparisons]
    document = {"comparisons": documents, "overview": over and over.model_dump(), "note": note}
    if not exports.take_stdout:
        show(document, options.as_json, parts)


def _divergence(options: Options, references: tuple[str, ...], exports: Exports) -> None:
    import polars as pl

    import pipeline
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.commands.which_cache import resolved_with_cache
    from pipeline.report.compared import divergence_lines, divergence_table

    if len(references) > 1:
        raise click.UsageError("--preset divergence takes one cache")
    resolved, cache = resolved_with_cache(options, references[0] if references else None, stores_folder())
    divergence = pipeline.divergence_of(resolved.settings, cache, runs_folder())
    columns = {
        f"sample {number + 1}": column for number, column in enumerate(zip(*divergence.divergences, strict=True))
    }
    exports.write(
        pl.DataFrame({"row": divergence.rows, "nearest": divergence.nearest, **columns}), divergence_table(divergence)
    )
    if not exports.take_stdout:
        show(divergence.model_dump(), options.as_json, divergence_lines(divergence))


@click.command(cls=Command)
@output_options
@click.option("--cache", help="Runs on this cache: its key, or the start of it.")
@click.option("--dataset", help="Runs on this data set.")
@click.option("--head", help="Runs of this head.")
@click.option("--augmentation", help="Runs of this augmentation.")
@click.option("--split", help="Figures on this split.")
@click.option("--settings", help="Runs of these settings: a digest, or the start of it.")
@click.option("--seed", type=int, help="Figures of this seed.")
@export_options("csv", "parquet", "md", "latex")
def results(
    as_json: bool,
    seed: int | None,
    csv: str | None,
    parquet: str | None,
    md: str | None,
    latex: str | None,
    **wanted: str | None,
) -> None:
    """The figures of every finished run: a row a method, settings and split; files have a row a seed."""
    exports = Exports.of(as_json, csv=csv, parquet=parquet, md=md, latex=latex)
    from pipeline.artefacts.folders import runs_folder
    from pipeline.progress import note
    from pipeline.report.tables import runs_table
    from pipeline.results import check_method, collect, select, unmatched

    check_method(wanted["head"], wanted["augmentation"])
    root = runs_folder()
    every = collect(root, note)
    rows = select(every, seed, **wanted)
    table = runs_table(rows, f"runs in {root}: top-1 % and ECE %, mean ± spread over seeds")
    exports.write(rows, table)
    if not exports.take_stdout:
        empty = [f"no finished run of stage 3 in {root} matches", *unmatched(every, seed, **wanted)]
        show({"runs": str(root), "rows": rows.to_dicts()}, as_json, [table] if len(rows) else empty)
