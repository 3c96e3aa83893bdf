"""Report, and the report that `run` and `demo` end with."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import Command, Options, output_options
from pipeline.commands.output import show

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.compare import Comparison
    from pipeline.report.subject import Subject


@click.command(cls=Command)
@click.argument("references", nargs=-1, required=True, metavar="RUN|CACHE…")
@click.option("--md", "as_markdown", is_flag=True, help="Markdown and PNG files in place of HTML.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write it; by default beside the runs.")
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
    """What a method did to which classes, with figures, as one HTML file: coattail report 612d.

    RUN is a run folder of retrain. CACHE is a cache's folder, key, start of its key, or a sample's name: all its finished runs.
    """
    started = time.monotonic()
    from pipeline.report.document import elapsed
    from pipeline.report.write import write_report

    subjects = [_subject(each, reference, method, baseline) for each in dict.fromkeys(references)]
    path = write_report(subjects, output, as_markdown)
    seconds = elapsed(started)
    methods = [about.method.result.method for about in subjects]
    document = {"report": str(path), "caches": [about.cache.key for about in subjects], "methods": methods}
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

        cache = _cache(comparison.cache, reference)
        digests = {arm.digest for arm in comparison.arms}
        return write_report([subject(cache, runs_folder(), digests=digests)])
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        note(f"no report: {reason[:300]}; the figures above stand; coattail report {comparison.cache[:12]} tries again")
        return None


def _subject(text: str, reference: str | None, method: str | None, baseline: str | None) -> "Subject":
    from pipeline.artefacts.folders import read_result, runs_folder
    from pipeline.errors import DataError
    from pipeline.report.subject import subject
    from pipeline.stage3_record import RetrainResult

    folder = Path(text).expanduser() if "://" not in text else Path("/nowhere")
    if not (folder / "metrics.json").is_file():
        return subject(_opened(text), runs_folder(), method=method, baseline=baseline)
    folder = folder.absolute()
    try:
        result = read_result(folder, RetrainResult)
    except DataError as error:
        raise DataError(f"{error}; report wants a run folder of retrain, or a cache") from None
    return subject(_cache(result.cache, reference), folder.parent.parent, folder, method=method, baseline=baseline)


def _cache(key: str, reference: str | None) -> "FeatureCache":
    """The cache of this key: the one that `reference` names, or one in stores/, or a sample that ships with coattail."""
    from cache import FeatureCache, catalog
    from cache.catalog import read_manifest
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import available, sample_path
    from pipeline.errors import DataError, LineageError

    if reference is not None:
        opened = _opened(reference)
        if opened.key != key:
            raise LineageError(
                f"--cache {reference}: is {opened.key[:12]}, wanted {key[:12]}, which the run was made from"
            )
        return opened
    samples: Iterable[Path] = (sample_path(name) for name in available())
    path = catalog.published(stores_folder(), key)
    path = path or next((path for path in samples if read_manifest(path).key == key), None)
    if path is None:
        raise DataError(f"cache {key[:12]}: not in {stores_folder()}; name its folder with --cache")
    return FeatureCache.open(path)


def _opened(reference: str) -> "FeatureCache":
    """The cache that a reference names, a sample's name included."""
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import available, resolved_with_cache, sample_path

    reference = str(sample_path(reference)) if reference in available() else reference
    return resolved_with_cache(Options(), reference, stores_folder())[1]
