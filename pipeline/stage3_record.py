"""What a stage-3 run folder holds: the figures in metrics.json, and the classifier that they are of."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import Field, field_validator

from pipeline.artefacts import folders, tensors
from pipeline.artefacts.figures import Digest, Percent, Seconds
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.saved import from_tensors
from pipeline.classifiers.scored import Scored, Selection
from pipeline.errors import DataError
from pipeline.metrics import Metrics

CLASSIFIER = "classifier.safetensors"
INCOMPLETE = "of an earlier version, which did not keep all of this head; delete the folder and run retrain again"
"""What is said of a file from which no classifier can be made."""
FIGURES = ("accuracy", "many", "medium", "few", "balanced_accuracy", "ece")


class RetrainResult(Metrics):
    """What metrics.json of a stage-3 run holds: the mean over seeds, its spread, and each seed's figures, in percent."""

    method: str
    dataset: str
    cache: str
    stg: str | None
    digest: Digest
    predictions: Digest | None = None
    """Of the tensors of predictions.safetensors. Earlier runs do not say it."""
    split: str
    selection: Selection
    chosen: bool = False
    """Whether `auto` made it: without the test split, as `selection` says."""
    seeds: list[int]
    classes: list[str]
    mean: dict[str, Percent | None]
    std: dict[str, Percent | None]
    each_seed: list[Metrics]
    settings: dict[str, Any] = Field(default_factory=dict)
    """Every setting that made it, by section."""
    prior: str = ""
    """The class prior that the figures are for, as `evaluate.prior` names it; empty for the classifier as it is."""
    prior_power: float | None = None
    """How much of the training prior is in the logits, as in `Classifier.prior_power`. Earlier runs do not say it."""
    test_views: Annotated[int, Field(ge=1)] = 1
    """Over how many views of each row probabilities were averaged. Figures of other numbers of views are other figures."""
    seconds: Seconds

    @field_validator("mean", "std")
    @classmethod
    def _every_figure(cls, by_name: dict[str, float | None]) -> dict[str, float | None]:
        if by_name.keys() != set(FIGURES):
            raise ValueError(f"wanted {', '.join(FIGURES)}")
        return by_name

    def beside_figures(self) -> dict[str, Any]:
        """What holds of the classifier on whatever rows it is measured: all fields but figures, seeds and predictions."""
        figures = {*Metrics.model_fields, "mean", "std", "each_seed", "seeds", "predictions"}
        return self.model_dump(exclude=figures)


def summarise(each_seed: list[Metrics], seeds: list[int], **rest: object) -> RetrainResult:
    """Mean over seeds as the figures, with the spread (sample standard deviation, 0 for one seed)."""
    columns = {name: [getattr(metrics, name) for metrics in each_seed] for name in FIGURES}
    per_class = list(zip(*(metrics.per_class for metrics in each_seed), strict=True))
    means = {name: None if values[0] is None else mean(values) for name, values in columns.items()}
    spreads = {
        name: None if values[0] is None else stdev(values) if len(values) > 1 else 0.0
        for name, values in columns.items()
    }
    return RetrainResult.model_validate(
        {
            **rest,
            **means,
            "seeds": seeds,
            "per_class": [None if values[0] is None else mean(values) for values in per_class],
            "mean": means,
            "std": spreads,
            "each_seed": [metrics.model_dump() for metrics in each_seed],
        }
    )


def is_of_stage3(metrics: Mapping[str, Any]) -> bool:
    """Whether the content of a metrics.json is that of a classifier, and not of a backbone or a generator."""
    return "method" in metrics and "each_seed" in metrics


def saved_classifier(folder: Path, result: RetrainResult) -> Classifier | Scored | None:
    """The classifiers of a finished run, one a seed; None for one of an earlier version, whose file does not hold all of it.

    Raises DataError where the tensors are not those whose digest the run recorded, or do not fit together.
    """
    path = folder / CLASSIFIER
    saved, _ = tensors.load(path)
    folders.prove(path, tensors.digest(saved), result.digest)
    try:
        return from_tensors(saved, result.prior_power)
    except ValueError as error:
        raise DataError(f"{path}: {error}; {folders.AGAIN}") from None
