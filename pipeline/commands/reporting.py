"""Report, and the report that `run` and `demo` end with."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import Command, HomePath, output_options
from pipeline.commands.output import show
from pipeline.commands.run_cache import cache_of_key, opened_cache

if TYPE_CHECKING:
    from pipeline.compare import Comparison
    from pipeline.report.subject import Subject
    from pipeline.report.sweep_page import Swept


@click.command(cls=Command)
@click.argument("references", nargs=-1, required=True, metavar="RUN|SWEEP|CACHE…")
@click.option("--md", "as_markdown", is_flag=True, help="Markdown and PNG files in place of HTML.")
@click.option("--output", type=HomePath(), help="Where to write it; by default beside the runs.")
@click.option("--method", help="The method that is shown, such as crt+stg; by default what auto chose.")
@click.option("--baseline", help="What it is shown beside; by default the stage-1 classifier.")
@click.option("--cache", "reference", help="The cache of a run, where it is not in stores/ under its key.")
@output_options
def report(
    references: tuple[str, ...],
    as_markdown: bool,
    output: Path | None,
    method: str | None,
    baseline: str | None,
    reference: str | None,
    as_json: bool,
) -> None:
    """What a method did to which classes, with figures, as one HTML file: coattail report 6806.

    RUN is a run folder of retrain, SWEEP the folder of a sweep, which sweep prints last. CACHE is a cache's folder, key, start
    of its key, or a sample's name: all its finished runs.
    """
    started = time.monotonic()
    for option, name in (("--method", method), ("--baseline", baseline)):
        if name == "":
            raise click.UsageError(f"{option}: wanted a method, such as crt+stg, found an empty text")
    from pipeline.report.sweep_page import Swept
    from pipeline.report.write import write_report

    subjects = [_subject(each, reference, method, baseline) for each in dict.fromkeys(references)]
    path = write_report(subjects, output, as_markdown)
    seconds = round(time.monotonic() - started, 1)
    document = {
        "report": str(path),
        "caches": [about.result.cache if isinstance(about, Swept) else about.cache.key for about in subjects],
        "methods": [about.method.result.method for about in subjects if not isinstance(about, Swept)],
        "sweeps": [str(about.folder) for about in subjects if isinstance(about, Swept)],
    }
    show({**document, "seconds": seconds}, as_json, [f"report: {path} ({seconds:.1f} s)"])


def report_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--no-report`."""
    return click.option("--no-report", is_flag=True, help="Do not write the report with figures.")(command)


def report_of(comparison: "Comparison", reference: str | None) -> Path | None:
    """Write the report of a comparison that is done; a report that fails is a line on stderr and no failure of the run."""
    from pipeline.progress import note

    try:
        from pipeline.artefacts.folders import runs_folder
        from pipeline.report.subject import subject
        from pipeline.report.write import write_report

        cache = cache_of_key(comparison.cache, reference)
        digests = {arm.digest for arm in comparison.arms}
        return write_report([subject(cache, runs_folder(), digests=digests)])
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        note(f"no report: {reason[:300]}; the figures above stand; coattail report {comparison.cache[:12]} tries again")
        return None


def _subject(text: str, reference: str | None, method: str | None, baseline: str | None) -> "Subject | Swept":
    from pipeline.artefacts.folders import read_result, runs_folder
    from pipeline.errors import ConfigError, DataError
    from pipeline.report.subject import subject
    from pipeline.report.sweep_page import is_sweep, read_swept
    from pipeline.stage3_record import RetrainResult

    folder = Path(text).expanduser() if "://" not in text else Path("/nowhere")
    if is_sweep(folder):
        if method or baseline:
            raise ConfigError(f"{text}: is a sweep, whose report shows every method; leave out --method and --baseline")
        return read_swept(folder)
    if folder.suffix == ".toml":
        raise ConfigError(f"{text}: wanted the folder of a sweep, such as runs/NAME/sweep-KEY, which sweep prints last")
    if not (folder / "metrics.json").is_file():
        if reference is not None:
            raise click.UsageError(f"--cache is for a run folder, and {text} is none: a cache is named without it")
        return subject(opened_cache(text), runs_folder(), method=method, baseline=baseline)
    folder = folder.absolute()
    try:
        result = read_result(folder, RetrainResult)
    except DataError as error:
        raise DataError(f"{error}; report wants a run folder of retrain, or a cache") from None
    return subject(
        cache_of_key(result.cache, reference), folder.parent.parent, folder, method=method, baseline=baseline
    )
