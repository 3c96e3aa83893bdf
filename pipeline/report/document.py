"""A report as parts without a format: HTML and Markdown render the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.progress import track
from pipeline.report.evidence import Evidence, gather
from pipeline.report.evidence.thumbnails import Error
from pipeline.report.evidence.words import shown_name
from pipeline.report.figures import PICTURES, drawn
from pipeline.report.figures.panel import Picture
from pipeline.report.layout import Table, names, tenths
from pipeline.report.lineage import changed_settings, commands, lineage
from pipeline.report.page import Page, Thumbnail
from pipeline.report.subject import Subject
from pipeline.report.summary import in_words
from pipeline.report.sweep_page import Swept, sweep_page
from pipeline.report.tables import SHOWN_OF_RUN, headings, results_table, taken_for
from pipeline.settings.method_names import stage1_label


@dataclass(frozen=True)
class Document:
    """One cache's report."""

    template: ClassVar[str] = "cache.html.j2"
    key: str
    title: str
    summary: str
    groups: Table
    results: Table
    reading: str
    pictures: dict[str, Picture]
    gallery: tuple[Thumbnail, ...]
    gallery_note: str
    lineage: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str, str], ...]
    commands: tuple[str, ...]


def documents(subjects: Sequence[Subject | Swept]) -> list[Document | Page]:
    """The report of each cache and sweep: computes the evidence and draws every figure."""
    with track(len(subjects) * (1 + len(PICTURES)), "report", "figures") as bar:
        made: list[Document | Page] = []
        for about in subjects:
            if isinstance(about, Swept):
                made.append(sweep_page(about))
                bar.advance(1 + len(PICTURES))
                continue
            evidence = gather(about)
            bar.advance()
            pictures = {}
            for name, picture in drawn(evidence):
                pictures[name] = picture
                bar.advance()
            made.append(_document(evidence, pictures))
        return made


def _document(evidence: Evidence, pictures: dict[str, Picture]) -> Document:
    about = evidence.about
    dataset = shown_name(about.cache.manifest.provenance.name, 60)
    results = [arm.result for arm in about.arms]
    table = results_table(results, stage1_label(about.cache.manifest), "The newest run of each method on this cache")
    reading = (
        "Percent on the test split. all: over rows; balanced, many, medium, few: means over classes; ECE: expected calibration "
        "error, less is better; ± over seeds; s: seconds. The row marked > was chosen without the test split."
    )
    if stated := taken_for(results):
        reading += f" Figures are those{stated}."
    if any(result.test_views > 1 for result in results):
        reading += " Pictures are of the clean view of each row."
    return Document(
        key=about.cache.key,
        title=f"{dataset}: {evidence.method.name}" + (f" beside {evidence.baseline.name}" if evidence.baseline else ""),
        summary=in_words(evidence),
        groups=_groups(evidence),
        results=table,
        reading=reading,
        pictures=pictures,
        gallery=tuple(
            Thumbnail(content, _described(evidence, error))
            for content, error in zip(evidence.images, evidence.errors, strict=False)
        ),
        gallery_note=_gallery_note(evidence),
        lineage=tuple(lineage(about)),
        settings=tuple(changed_settings(about.settings)),
        commands=tuple(commands(about)),
    )


def _groups(evidence: Evidence) -> Table:
    """Baseline, method and the gain, by group."""
    arms = [arm for arm in (evidence.baseline, evidence.method) if arm is not None]
    rows = [(arm.name, *(tenths(getattr(arm.result, field)) for field in SHOWN_OF_RUN)) for arm in arms]
    if evidence.baseline is not None:
        before, after = (arm.result for arm in arms)
        rows.append(("gain", *(_difference(getattr(before, field), getattr(after, field)) for field in SHOWN_OF_RUN)))
    return Table("Accuracy in %, by group", (*names("method"), *headings(SHOWN_OF_RUN)), tuple(rows))


def _difference(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{after - before:+.1f}"


def _described(evidence: Evidence, error: Error) -> str:
    true, taken = evidence.classes[error.true], evidence.classes[error.taken]
    sizes = evidence.counts
    return f"{true} ({sizes[error.true]}), taken for {taken} ({sizes[error.taken]}), {error.confidence:.0f} % sure"


def _gallery_note(evidence: Evidence) -> str:
    if evidence.images:
        return (
            f"Test images on which {evidence.method.name} is most confident and wrong; training rows stand in brackets."
        )
    if not evidence.errors:
        return "No test row is wrong, or the classifier is of an earlier version, so rows cannot be looked at anew."
    return evidence.no_images
