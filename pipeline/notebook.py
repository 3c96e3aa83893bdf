"""What a notebook needs: a cache as numpy, torch and polars; retrain and compare on it; a picture.

from pipeline import notebook

cache = notebook.open_cache("configs/samples/cifar100-lt")
features_ND, labels_N = cache.features("train"), cache.labels("train")
rows = notebook.feature_frame(cache, "test")
loader = torch.utils.data.DataLoader(notebook.FeatureDataset(cache, "train"), batch_size=256, shuffle=True)
folder, result = notebook.retrain(cache, head="lda")
figures = notebook.compare(cache, ["ncm", "lda", "logistic"])
notebook.accuracy_figure(cache, [result])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

import pipeline
from cache import FeatureCache, catalog
from pipeline import results
from pipeline.artefacts import folders
from pipeline.comparing.arms import Chosen
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.load import load, recorded_settings
from pipeline.stage3_record import RetrainResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def open_cache(reference: str | Path) -> FeatureCache:
    """The cache of a folder, a key in stores/, or the first digits of its key, 4 or more. Raises CacheError for none."""
    return FeatureCache.open(catalog.resolve(folders.stores_folder(), str(reference)))


class FeatureDataset(Dataset[tuple[Tensor, int]]):
    """A split as a torch Dataset: row -> (features float32 (D,), class). The split lies in RAM as the cache stores it."""

    def __init__(self, cache: FeatureCache, split: str = "train", view: str = "clean") -> None:
        self.features_ND = torch.from_numpy(cache.features(split, view))
        self.labels_N = torch.from_numpy(cache.labels(split))
        self.classes = cache.classes

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.features_ND[row].float(), int(self.labels_N[row])


def feature_frame(cache: FeatureCache, split: str = "train", view: str = "clean") -> pl.DataFrame:
    """The table of a split's rows, with the name of the `class` and the `features`, an Array of D float32 a row."""
    features_ND = cache.features(split, view).astype(np.float32)
    classes = pl.Series(cache.classes, dtype=pl.String)
    rows = cache.rows(split)
    return rows.with_columns(
        classes.gather(rows["label"]).alias("class"),
        pl.Series("features", features_ND, dtype=pl.Array(pl.Float32, features_ND.shape[1])),
    )


def settings_on(cache: FeatureCache, **options: Any) -> Settings:
    """The settings that a cache was made with, and these of `retrain` by name; `seed` is the run's.

    Raises ConfigError, which lists the settings there are, for one that is none of `retrain`.
    """
    resolved = load(None, [], options.pop("seed", None), recorded_settings(cache.manifest)).settings
    own = resolved.retrain.model_dump()
    if unknown := sorted(options.keys() - own.keys()):
        raise ConfigError(f"retrain: no setting {', '.join(unknown)}; wanted of {', '.join(own)}, or seed")
    retrained = type(resolved.retrain).model_validate({**own, **options})
    return resolved.model_copy(update={"retrain": retrained})


def retrain(cache: FeatureCache, runs: Path | None = None, **options: Any) -> tuple[Path, RetrainResult]:
    """Stage 3 on a cache: `retrain(cache, head="lda")`; a generator is learnt first where the settings want one.

    `options` as in `settings_on`; `runs`: by default runs/. A run of equal settings is taken as it is.
    """
    return pipeline.retrain(settings_on(cache, **options), cache, runs or folders.runs_folder())


def compare(cache: FeatureCache, methods: Sequence[str] = (), runs: Path | None = None, **options: Any) -> pl.DataFrame:
    """Figures of several methods, such as `crt+stg`, on one cache: a row a method and seed, with the columns of `results`.

    Without methods, every one that the cache allows.
    """
    chosen = Chosen(methods=tuple(methods))
    _, finished = pipeline.compare_arms(settings_on(cache, **options), cache, runs or folders.runs_folder(), chosen)
    return results.frame((folder, result) for folder, result in finished)


def accuracy_figure(cache: FeatureCache, compared: Sequence[RetrainResult]) -> "Figure":
    """Accuracy of each class against its training rows, a colour a result. A class without rows in the split has no mark."""
    from matplotlib.figure import Figure

    counts_C = cache.counts("train")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for result in compared:
        measured = [
            (count, value) for count, value in zip(counts_C, result.per_class, strict=True) if value is not None
        ]
        rows, accuracies = zip(*measured, strict=True)
        axes.scatter(rows, accuracies, s=14, alpha=0.7, label=f"{result.method}: {result.accuracy:.1f} %")
    axes.set(xscale="log", xlabel="training rows of the class", ylabel="accuracy in %", ylim=(-3, 103))
    axes.legend(title="mean over rows")
    return figure
