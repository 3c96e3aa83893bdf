"""Results."""

import click

from pipeline.commands.exports import Exports, export_options
from pipeline.commands.options import Command, output_options
from pipeline.commands.output import show


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
    from pipeline.results import check_head, collect, select

    check_head(wanted["head"])
    root = runs_folder()
    rows = select(collect(root, note), seed, **wanted)
    table = runs_table(rows, f"runs in {root}: top-1 % and ECE %, mean ± spread over seeds")
    exports.write(rows, table)
    if not exports.take_stdout:
        empty = [f"no finished run of stage 3 in {root} matches"]
        show({"runs": str(root), "rows": rows.to_dicts()}, as_json, [table] if len(rows) else empty)
