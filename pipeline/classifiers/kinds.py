"""The heads, one row each. A new head is a file, a row here, its name in `settings/stage3.py`, and a test."""

from collections.abc import Callable

from pipeline.classifiers import computed, post_hoc, trained
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.present import on_present
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.scored import Scored
from pipeline.classifiers.trained import Training

TRAININGS: dict[str, Training] = {
    "crt": Training(trained.weights_and_bias, trained.cross_entropy),
    "lws": Training(trained.scales, trained.cross_entropy, wants_trained=True),
    "generalized": Training(trained.scales_first, trained.label_aware, wants_trained=True),
    "logit-adjusted": Training(trained.weights_and_bias, trained.under_the_prior),
}
"""Heads that are trained step by step: what each trains, its loss."""
KINDS: dict[str, Callable[[Problem], Classifier | Scored]] = {
    "stage1": post_hoc.stage1,
    "logit-adjustment": post_hoc.adjusted,
    "tau-norm": post_hoc.tau_norm,
    "scaling": computed.scaling,
    "ncm": post_hoc.ncm,
    "knn": computed.knn,
    "ridge": computed.ridge,
    "logistic": on_present(computed.logistic),
    "lda": on_present(computed.lda),
    "transfer": on_present(computed.transfer),
    "auto": on_present(computed.auto),
    **{name: trained.head(training) for name, training in TRAININGS.items()},
}


def kind(head: str) -> Callable[[Problem], Classifier | Scored]:
    """What makes a classifier of this kind; ValueError, listing all, for a name that has no row."""
    if head not in KINDS:
        raise ValueError(f"head {head!r}: no such head; wanted one of {', '.join(KINDS)}")
    return KINDS[head]
