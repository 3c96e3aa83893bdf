"""Suspicious labels, rows in two splits and confused classes as a page, with the first images where they are at hand."""

from typing import TYPE_CHECKING

from pipeline.inspecting.label_errors import LABEL_FOLDS, LISTED, LabelFindings
from pipeline.report.evidence.thumbnails import thumbnails
from pipeline.report.evidence.words import shown_name, shown_table
from pipeline.report.label_findings import confused_table, not_judged, shared_table, suspicious_table
from pipeline.report.page import Chapter, Page, Thumbnail

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.settings import Settings

SHOWN_IMAGES = 60
"""Images of suspicious rows that are shown."""
SHOWN_PAIRS = 20
"""Rows of two splits that are shown, each beside its training row."""
ID_LENGTH = 60
"""Characters of a sample's id."""


def label_page(cache: "FeatureCache", settings: "Settings", findings: LabelFindings) -> Page:
    """What was found in the labels of a cache. Images are those that the settings name, held to the cache's ids and labels."""
    suspicious, shared = findings.suspicious[:SHOWN_IMAGES], findings.shared[:SHOWN_PAIRS]
    wanted = [("train", row.row) for row in suspicious]
    wanted += [place for pair in shared for place in ((pair.split, pair.row), ("train", pair.train_row))]
    images, no_images = thumbnails(cache, settings, wanted) if wanted else ([], "")
    shown = tuple(Thumbnail(*pair) for pair in zip(images, _texts(findings), strict=True)) if images else ()
    sections = [
        _suspicious(findings, shown[: len(suspicious)], no_images),
        _shared(findings, shown[len(suspicious) :], no_images),
        _confused(findings),
    ]
    dataset = shown_name(cache.manifest.provenance.name, 60)
    title = f"{dataset}: labels that may be wrong"
    return Page(f"labels-{cache.key[:12]}", title, _summary(cache, findings), tuple(sections))


def _texts(findings: LabelFindings) -> list[str]:
    """What stands under each image, in the order in which they are asked for."""
    texts = [
        f"{shown_name(row.label)}, looks like {shown_name(row.taken_for)} ({row.margin:+.2f}): {_id(row.sample_id)}"
        for row in findings.suspicious[:SHOWN_IMAGES]
    ]
    for pair in findings.shared[:SHOWN_PAIRS]:
        label = "of the same label" if pair.same_label else "OF ANOTHER LABEL"
        texts += [f"{pair.split}: {_id(pair.sample_id)}", f"its training row, {label}: {_id(pair.train_sample_id)}"]
    return texts


def _id(sample_id: str) -> str:
    return shown_name(sample_id, ID_LENGTH)


def _summary(cache: "FeatureCache", findings: LabelFindings) -> str:
    rows = cache.manifest.identity.splits["train"].rows
    sentences = [
        f"Of the {rows:,} training rows of cache {cache.key[:12]}, {_rows(findings.negative)} more like another class to a "
        "classifier that did not see them. Most of these need not be wrong: some are unusual, some show two things. Look at the "
        "first in the list first.",
        f"Rows of other splits that are a training row, or all but equal to one: {findings.in_two_splits:,}."
        if findings.shared
        else "No row of another split was found among the training rows.",
    ]
    if findings.unranked:
        sentences.append(f"{not_judged(findings).capitalize()}.")
    return " ".join(sentences)


def _rows(number: int) -> str:
    return "1 looks" if number == 1 else f"{number:,} look"


def _suspicious(findings: LabelFindings, shown: tuple[Thumbnail, ...], no_images: str) -> Chapter:
    heading = "Labels that may be wrong"
    if not findings.suspicious:
        return Chapter(heading, "None was found.")
    text = (
        f"Each row was judged by a logistic regression that was fitted without it ({LABEL_FOLDS} folds), in which every class "
        "weighs alike. The margin is the probability of the row's own label less that of the class that it looks like; the "
        f"lowest possible is -1. At most {LISTED} are listed, the lowest first. {no_images}"
    )
    return Chapter(
        heading, text.rstrip(), table=shown_table(suspicious_table(findings, LISTED), ID_LENGTH), gallery=shown
    )


def _shared(findings: LabelFindings, shown: tuple[Thumbnail, ...], no_images: str) -> Chapter:
    heading = "Rows that stand in two splits"
    if not findings.shared:
        return Chapter(heading, "None was found among the rows that were compared.")
    text = f"Figures on these rows say nothing of new images: the classifier was trained on the same image. {no_images}"
    return Chapter(heading, text.rstrip(), table=shown_table(shared_table(findings, LISTED), ID_LENGTH), gallery=shown)


def _confused(findings: LabelFindings) -> Chapter:
    heading = "Classes that are hard to tell apart"
    if not findings.confused:
        return Chapter(heading, "None was found.")
    text = "The share of the training rows of both classes, in percent, that the classifier above takes for the other of the two."
    return Chapter(heading, text, table=shown_table(confused_table(findings, LISTED), ID_LENGTH))
