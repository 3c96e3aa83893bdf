"""The figures of a report. PICTURES: a name, which is also its file's, -> the function that draws it of the evidence."""

from collections.abc import Iterator

from pipeline.report.evidence import Evidence
from pipeline.report.figures import classes, features, pairs, training
from pipeline.report.figures.panel import LOOK, Drawer, Picture

PICTURES: dict[str, Drawer] = {
    "class-counts": classes.rows_by_class,
    "accuracy-by-class": classes.accuracy_by_class,
    "pairs": pairs.mistaken_pairs,
    "reliability": training.reliability_diagrams,
    "class-or-sample": features.class_or_sample,
    "training-features": features.training_features,
    "decisions": features.decisions,
    "divergence": features.divergence_map,
    "training-curves": training.training_curves,
}
"""In the order of the report."""


def drawn(evidence: Evidence) -> Iterator[tuple[str, Picture]]:
    """Every figure of the register, in its order."""
    import matplotlib

    for name, drawer in PICTURES.items():
        with matplotlib.rc_context(LOOK):
            picture = drawer(evidence)
        yield name, picture
