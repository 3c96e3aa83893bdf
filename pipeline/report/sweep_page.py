"""The report of a sweep: what was varied, the score against it, every place of the grid, the choice, what failed."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artefacts import folders
from pipeline.errors import ConfigError, DataError
from pipeline.report.evidence.grid import score_name, scores_by_setting
from pipeline.report.evidence.words import shown_name, shown_table
from pipeline.report.figures.grid import scores
from pipeline.report.layout import Table, figures, names, tenths
from pipeline.report.lineage import DIGITS, changed_settings
from pipeline.report.page import Chapter, Page
from pipeline.report.subject import run_settings
from pipeline.report.swept import sweep_table
from pipeline.report.tables import CHOSEN
from pipeline.stage3_record import RetrainResult
from pipeline.sweeping.record import GridPlace, SweepResult

RESULT, FILE = "sweep.json", "sweep.toml"
"""What a sweep's folder holds: its result, and the file that it was made from."""
LISTED_VALUES = 12
"""Values of a setting that are listed; of more, the first and how many there are."""

CELL_LENGTH = 60
"""Characters of a value, and of a setting's name."""


@dataclass(frozen=True)
class Swept:
    """A finished sweep: its folder and its result."""

    folder: Path
    result: SweepResult

    @property
    def home(self) -> Path:
        """The folder that a report of it is written to."""
        return self.folder.parent

    @property
    def short(self) -> str:
        """What a report of it is called by."""
        return self.folder.name


def is_sweep(folder: Path) -> bool:
    """Whether the folder is one that `sweep` has written."""
    return (folder / RESULT).is_file()


def read_swept(folder: Path) -> Swept:
    """The sweep of a folder. Raises DataError where it was changed, or is of another version."""
    folder = folder.absolute()
    return Swept(folder, folders.read_result(folder, SweepResult, RESULT))


def sweep_page(about: Swept) -> Page:
    """What the sweep varied, found and chose. Nothing is trained."""
    result = about.result
    title = f"{shown_name(result.dataset, 60)}: the sweep {shown_name(Path(result.file).name, 60)}"
    table = shown_table(sweep_table(result), CELL_LENGTH)
    reading = (
        "Percent. all: over rows; balanced, many, medium, few: means over classes of the test split; ECE: expected calibration "
        f"error, less is better; s: seconds of all seeds. The row marked {CHOSEN.strip()} was chosen."
    )
    sections = [
        Chapter("What was varied", table=_varied(result)),
        Chapter("The score against what was varied", picture=scores(scores_by_setting(result), score_name(result))),
        Chapter("Every place of the grid" + (", best first" if result.selected_on else ""), reading, table=table),
    ]
    if result.failures:
        failed = tuple((shown_name(each.point, 200), shown_name(each.error, 400)) for each in result.failures)
        sections.append(Chapter("What failed", table=Table("", names("point", "why"), failed)))
    sections += [*_chosen_settings(about), *_repeat(about)]
    return Page(about.short, title, _summary(result), tuple(sections))


def _summary(result: SweepResult) -> str:
    done = sum(len(place.runs) for place in result.places)
    failed = f", {len(result.failures)} of them failed" if result.failures else ""
    sentences = [
        f"{result.points:,} combinations of settings were to be trained on cache {result.cache[:DIGITS]}{failed}; {done:,} are "
        f"done, in {len(result.places):,} places of the grid: a place is one combination, whatever its seed."
    ]
    chosen = next((place for place in result.places if place.chosen), None)
    if chosen is None:
        sentences.append(f"Nothing is chosen: {result.why_not or 'no point is done'}.")
        return " ".join(sentences)
    sentences.append(f"{_named(chosen)} is chosen by {score_name(result)}: {tenths(chosen.score)} % there.")
    others = [place.score for place in result.places if place is not chosen and place.score is not None]
    if others and chosen.score is not None:
        sentences.append(f"The next place is {chosen.score - max(others):.1f} points below it.")
    if result.selected_on != "test":
        accuracy, few = chosen.mean.get("accuracy"), chosen.mean.get("few")
        sentences.append(
            f"On the test split, which chose nothing, it is right on {tenths(accuracy)} % of the rows"
            + ("." if few is None else f", and on {few:.1f} % in the mean of the few-shot classes.")
        )
    if result.warning:
        sentences.append(f"Warning: {result.warning}.")
    return " ".join(sentences)


def _named(place: GridPlace) -> str:
    values = ", ".join(f"{key} = {value}" for key, value in place.values.items() if key != "method")
    return shown_name(f"{place.method} with {values}" if values else place.method, 120)


def _varied(result: SweepResult) -> Table:
    rows = []
    for key in result.varied:
        if key == "seed":
            values: Sequence[object] = sorted({seed for place in result.places for seed in place.seeds})
        else:
            values = list(
                {str(place.values[key]): place.values[key] for place in result.places if key in place.values}.values()
            )
        shown = ", ".join(shown_name(value, CELL_LENGTH) for value in values[:LISTED_VALUES]) + (
            ", …" if len(values) > LISTED_VALUES else ""
        )
        rows.append((shown_name(key, CELL_LENGTH), shown, f"{len(values):,}"))
    return Table("", (*names("setting", "values that are done"), *figures("number")), tuple(rows))


def _chosen_settings(about: Swept) -> list[Chapter]:
    """The settings of the chosen place, where its run folder is at hand, or why they cannot be read there."""
    chosen = next((place for place in about.result.places if place.chosen and place.runs), None)
    if chosen is None:
        return []
    folder = about.folder.parent / Path(chosen.runs[0]).name
    if not folders.is_done(folder):
        return []
    heading = "Settings of the chosen place that are not the defaults"
    try:
        changed = changed_settings(run_settings(folder, folders.read_result(folder, RetrainResult)))
    except (ConfigError, DataError) as error:
        return [Chapter(heading, f"Not shown: {shown_name(error, 400)}.")]
    table = Table("", names("setting", "value", "default"), tuple(changed))
    return [Chapter(heading, f"Of its first seed: {folder.name}.", table=table)]


def _repeat(about: Swept) -> list[Chapter]:
    key = about.result.cache[:DIGITS]
    where = shlex.quote("/".join(about.folder.parts[-3:]))  # from the folder that the runs lie in
    lines = (f"coattail sweep {where}/{FILE} --cache {key}", f"coattail report {where}")
    text = (
        "In the folder that holds the runs. What --config and --set gave beside the file must be given again; it is in the "
        "config.toml of each run folder. Points that are done are taken as they are."
    )
    sections = [Chapter("To repeat it", text, lines=lines)]
    try:
        content = (about.folder / FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return sections
    shown = tuple(shown_name(line, 120) for line in content.splitlines()[:200])
    return [Chapter("The file of the sweep", lines=shown), *sections]
