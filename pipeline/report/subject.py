"""What a report is about: the finished runs of one cache, which of them is the method, and which the baseline."""

import glob
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored
from pipeline.errors import ConfigError, DataError
from pipeline.evaluate import shift_to
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.load import load
from pipeline.settings.method_names import label, stage1_label
from pipeline.settings.suggesting import did_you_mean
from pipeline.stage3_record import RetrainResult, is_of_stage3, saved_classifier
from pipeline.stg.trained import STGResult

BASELINES = ("stage1", "crt", "lws", "logistic", "ncm")
"""What the method is shown beside, the first of these that there is."""


@dataclass(frozen=True)
class ArmRun:
    """A finished run of stage 3: its folder, its figures, and its name as people say it."""

    folder: Path
    result: RetrainResult
    name: str


@dataclass(frozen=True)
class Subject:
    """The finished runs of one cache, in the order of tables; `baseline` is None where there is nothing beside the method."""

    cache: FeatureCache
    runs: Path
    arms: tuple[ArmRun, ...]
    method: ArmRun
    baseline: ArmRun | None
    settings: Settings
    """Those of the method."""

    @property
    def home(self) -> Path:
        """The folder that a report of it is written to."""
        return self.method.folder.parent

    @property
    def short(self) -> str:
        """What a report of it is called by."""
        return self.cache.key[:12]

    def arm(self, method: str) -> ArmRun | None:
        """The arm of this method, such as `crt+stg`."""
        return next((arm for arm in self.arms if arm.result.method == method), None)


def subject(
    cache: FeatureCache,
    runs: Path,
    chosen: Path | None = None,
    digests: Collection[str] | None = None,
    method: str | None = None,
    baseline: str | None = None,
) -> Subject:
    """The runs of a cache among those in `runs`; of several of one method the newest, or the one of `chosen`, a run folder.

    All have as many views of each test row as the newest or `chosen`: other figures stand in no table beside them.

    `digests`: those of the classifiers that are meant, None for all. `method` and `baseline` name arms, such as `crt+stg`;
    by default the arm that `auto` chose, beside the stage-1 classifier. Raises DataError where no run of the cache is
    finished, ConfigError for a name that no run has.
    """
    of_stage1 = stage1_label(cache.manifest)
    newest: dict[str, ArmRun] = {}
    meant = [
        (folder, result)
        for folder, result in _finished(runs, cache.key, chosen)
        if digests is None or result.digest in digests or folder == chosen
    ]
    for folder, result in meant:
        if result.test_views == meant[-1][1].test_views:
            newest[result.method] = ArmRun(folder, result, label(result.method, of_stage1))
    if not newest:
        raise DataError(
            f"cache {cache.key[:12]}: no finished run of stage 3 in {runs}; run coattail run --cache {cache.key[:12]}"
        )
    wanted = method or (None if chosen is None else folders.read_result(chosen, RetrainResult).method)
    made = _named(newest, wanted, "--method") if wanted else _default(newest)
    beside = [newest[name] for name in BASELINES if name in newest and newest[name] is not made]
    other = _named(newest, baseline, "--baseline") if baseline else beside[0] if beside else None
    arms = tuple(sorted(newest.values(), key=lambda arm: _place(arm.result)))
    return Subject(cache, runs, arms, made, other, run_settings(made.folder, made.result))


def _finished(runs: Path, key: str, chosen: Path | None) -> Iterator[tuple[Path, RetrainResult]]:
    """The finished runs of the cache, the oldest first, `chosen` last."""
    newest_last = sorted(runs.glob("*/*/metrics.json"), key=lambda path: (path.stat().st_mtime, path))
    places = [path.parent for path in newest_last if path.parent != chosen]
    for folder in [*places, *([chosen] if chosen else [])]:
        try:
            if not is_of_stage3(folders.read_json(folder / "metrics.json")):
                continue
            result = folders.read_result(folder, RetrainResult)
        except DataError as error:
            note(f"left out: {error}")
            continue
        if result.cache == key and result.split == "test":
            yield folder, result


def _default(arms: dict[str, ArmRun]) -> ArmRun:
    chosen = [arm for arm in arms.values() if arm.result.chosen]
    with_stg = [arm for arm in arms.values() if arm.result.stg is not None]
    return (chosen or with_stg or list(arms.values()))[-1]


def _named(arms: dict[str, ArmRun], name: str, option: str) -> ArmRun:
    if name not in arms:
        hint = did_you_mean(name, list(arms))
        raise ConfigError(
            f"{option} {name}: no finished run of this cache has it; {hint}wanted one of {', '.join(arms)}"
        )
    return arms[name]


def _place(result: RetrainResult) -> tuple[int, str]:
    """Chosen first, then what trains nothing, then what is trained."""
    trained = "+" in result.method or len(result.seeds) > 1
    return (0 if result.chosen else 1 if result.method == "stage1" else 3 if trained else 2, result.method)


def run_settings(folder: Path, result: RetrainResult) -> Settings:
    """The settings that a run was made with. Raises DataError where its config.toml cannot be read, or says other settings than
    the run recorded."""
    try:
        settings = load(str(folder / "config.toml")).settings
    except ConfigError as error:
        raise DataError(f"{error.lines[0]}; {folders.AGAIN}") from None
    folders.prove_settings(folder, settings, result.settings)
    return settings


def shown_classifier(arm: ArmRun, cache: FeatureCache) -> Classifier | Scored | None:
    """The arm's classifier for the class prior that its figures are for; None where its file does not hold all of it.

    Raises DataError where its tensors are not those whose digest the run recorded.
    """
    classifier = saved_classifier(arm.folder, arm.result)
    shift_C = shift_to(arm.result.prior, cache, arm.result.prior_power)
    if classifier is None or shift_C is None:
        return classifier
    return classifier.moved(shift_C)


def generator_folder(about: Subject) -> Path | None:
    """The stage-2 run folder of the generator that the arms used, the method's own first.

    Raises DataError where its metrics.json was changed.
    """
    digests: Sequence[str] = [arm.result.stg for arm in (about.method, *about.arms) if arm.result.stg]
    if not digests:
        return None
    for path in sorted(about.runs.glob("*/stg-*/metrics.json")):
        try:
            content = folders.read_json(path)
        except DataError:
            continue
        if content.get("digest") == digests[0] and content.get("cache") == about.cache.key:
            folders.read_result(path.parent, STGResult)
            return path.parent
    return None


def backbone_folder(about: Subject) -> Path | None:
    """The stage-1 run folder that the cache was made from, where it is at hand."""
    name = about.cache.manifest.provenance.backbone_run
    if not name or name in (".", "..") or Path(name).name != name:
        return None
    return next((path for path in sorted(about.runs.glob(f"*/{glob.escape(name)}")) if folders.is_done(path)), None)
