"""What `compare` says of the methods on one cache."""

from pydantic import BaseModel, ConfigDict

SHOWN_FIGURES = ("accuracy", "balanced_accuracy", "many", "medium", "few", "worst_tenth", "ece")
"""The figures of an arm, in the table's order, percent."""
LEVEL = 0.05
"""The level of the tests, and one minus that of the intervals."""


class Contrast(BaseModel):
    """An arm's score minus another's on the same test rows, in points, with a 95 % interval over rows and seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float
    low: float
    high: float
    p: float
    """Two-sided, of the exact paired permutation test over test rows."""
    p_corrected: float
    """By Holm's method, for the number of arms."""

    @property
    def significant(self) -> bool:
        return self.p_corrected < LEVEL


class ComparedArm(BaseModel):
    """One method's figures, percent, and its differences from the baseline and from the best arm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    method: str
    run: str
    seeds: list[int]
    mean: dict[str, float | None]
    std: dict[str, float | None]
    seconds: float
    chosen: bool
    score: float
    """The metric of the comparison."""
    to_baseline: Contrast | None
    """None for the baseline itself."""
    to_best: Contrast | None
    """None for the best arm."""
    published: dict[str, float] = {}
    best_epoch: bool | None = None

    @property
    def among_the_best(self) -> bool:
        """Whether it is the best arm, or cannot be told from it."""
        return self.to_best is None or not self.to_best.significant


class AbsentArm(BaseModel):
    """A method that was not run, and why; with its published figures, if it has any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    reason: str
    published: dict[str, float] = {}
    best_epoch: bool | None = None


class MethodComparison(BaseModel):
    """All that `compare` found on one cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    dataset: str
    cache: str
    backbone: str
    """Digest of the backbone's weights."""
    stage1: str
    metric: str
    baseline: str
    test_rows: int
    test_views: int = 1
    """Over how many views of each test row the probabilities of every arm were averaged."""
    groups: dict[str, int]
    limits: tuple[int, int]
    replicates: int
    exact: bool
    """Whether the p-values are exact, which they are where all test rows count alike. Else they come from random sign flips."""
    arms: list[ComparedArm]
    left_out: list[AbsentArm]
    notes: list[str] = []
