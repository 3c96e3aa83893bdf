"""The comparison that every run ends with: the method beside the baselines that cost nothing, from one cache."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from cache import FeatureCache, Manifest
from pipeline.classifiers import POST_HOC
from pipeline.longtail import shot_groups
from pipeline.method_names import stage1_label
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.stage2_stg import Distance, train_stg
from pipeline.stage3_retrain import RetrainResult, retrain

LABELS = {
    "tau-norm": "tau-normalisation",
    "ncm": "nearest class mean",
    "logit-adjustment": "logit adjustment",
    "none": "retrained",
    "dropout": "+ dropout",
    "noise": "+ noise",
    "closed-form": "+ closed form",
    "stg": "+ STG",
}
HEAD_NAMES = {"crt": "cRT", "lws": "LWS", "generalized": "generalised classifier"}


class Comparison(BaseModel):
    """All arms on one cache, and how far the generator is from its closed form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    cache: str
    stage1: str
    """What the cache's backbone was trained with, as the table has it."""
    groups: dict[str, int]
    held_out: Distance
    arms: list[RetrainResult]


def arms(settings: Settings, classifier: bool = True) -> list[Settings]:
    """The settings of each arm: post-hoc classifiers, then the configured head with each augmentation.

    Without a stage-1 `classifier` in the cache, of those post hoc only the nearest class mean.
    """
    head = settings.retrain.head if settings.retrain.head not in POST_HOC else "crt"
    changes: list[dict[str, Any]] = [{"head": name} for name in POST_HOC if classifier or name == "ncm"]
    changes += [{"head": head, "augmentation": name} for name in ("none", "dropout", "noise", "closed-form", "stg")]
    return [settings.model_copy(update={"retrain": settings.retrain.model_copy(update=change)}) for change in changes]


def compare(settings: Settings, cache: FeatureCache, root: Path) -> Comparison:
    """Run every arm on the cache, taking those that an equal key says are done."""
    groups = shot_groups(cache.counts("train").tolist(), settings.longtail.many_above, settings.longtail.few_below)
    classifier = cache.classifier() is not None
    if not classifier:
        note("the cache holds no stage-1 classifier: it, logit adjustment and tau-normalisation are left out")
    stg_folder, stg = train_stg(settings, cache, root)
    results = [retrain(arm, cache, root, stg_folder)[1] for arm in arms(settings, classifier)]
    return Comparison(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        stage1=stage1_label(cache.manifest),
        groups={name: len(members) for name, members in groups.items()},
        held_out=stg.held_out,
        arms=results,
    )


def label(result: RetrainResult, stage1: str) -> str:
    """The arm's name as people say it; that of stage 1 is given."""
    if result.method == "stage1":
        return stage1
    head, _, augmentation = result.method.partition("+")
    if not augmentation:
        return HEAD_NAMES.get(head, LABELS.get(head, head))
    return f"{HEAD_NAMES.get(head, head)} {LABELS.get(augmentation, augmentation)}"


def results_table(results: list[RetrainResult], stage1: str, title: str) -> Table:
    """Percent on the test split, mean ± spread over seeds."""
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for name in ("all", "many", "medium", "few", "ECE", "seeds", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        cells = [_cell(result, name) for name in ("accuracy", "many", "medium", "few", "ece")]
        table.add_row(label(result, stage1), *cells, str(len(result.seeds)), f"{result.seconds:.1f}")
    return table


def retrained_table(result: RetrainResult, manifest: Manifest, folder: Path) -> Table:
    """The table of one run of stage 3 on the cache of this manifest."""
    return results_table([result], stage1_label(manifest), f"{result.dataset}: {folder}")


def _cell(result: RetrainResult, name: str) -> str:
    value, spread = result.mean[name], result.std[name]
    if value is None or spread is None:
        return "–"
    return f"{value:.1f}" if len(result.seeds) == 1 else f"{value:.1f} ± {spread:.1f}"


def comparison_text(comparison: Comparison) -> Group:
    """The table of a comparison with what its columns mean, for a terminal."""
    groups = ", ".join(f"{name} {count}" for name, count in comparison.groups.items())
    title = f"{comparison.dataset}, cache {comparison.cache[:12]}: top-1 % and ECE % on the test split, last epoch"
    return Group(
        results_table(comparison.arms, comparison.stage1, title),
        f"classes: {groups}; ± is the spread over seeds",
        distance_line(comparison.held_out),
    )


def distance_line(distance: Distance) -> str:
    """One sentence on the generator against its closed form."""
    return (
        f"STG on {distance.rows} held-out head samples, against the closed form: cosine of the means "
        f"{distance.mean_cosine:.3f}, norm ratio {distance.mean_norm_ratio:.2f}, relative error of the means "
        f"{distance.mean_relative_error:.3f}, of the log variances {distance.log_variance_relative_error:.3f}"
    )
