"""Stages 2 and 3 on a small cache: figures, lineage, repeatability, and what is refused."""

import json
import math
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from conftest import ROOT, Blobs, write_cache

from cache.disk.locks import locked
from pipeline import retrain, run_cache
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.errors import ConfigError, DataError, LineageError, TrainingError
from pipeline.metrics import expected_calibration_error
from pipeline.progress import interrupted_text
from pipeline.settings.load import load
from pipeline.settings.method_names import label, stage3_method
from pipeline.settings.register import REVISIONS
from pipeline.settings.stage3 import ADDED, Retrain
from pipeline.stage2_stg import train_stg
from pipeline.stage3_retrain import evaluate_run, planned

FAST = [
    "stg.epochs=3", "stg.batch_size=64", "retrain.epochs=2", "retrain.batch_size=32",
    "longtail.few_below=10", "longtail.many_above=100", "stg.head_classes=2",
]  # fmt: skip


def _settings(*more):
    given = {setting.partition("=")[0] for setting in more}
    return load(overrides=[*(setting for setting in FAST if setting.partition("=")[0] not in given), *more]).settings


def test_train_stg_approaches_the_closed_form(stores, tmp_path):
    cache = write_cache(stores, Blobs(counts=(900, 700, 30, 12, 6)))
    folder, few = train_stg(_settings("stg.epochs=2"), cache, tmp_path / "runs")
    _, many = train_stg(_settings("stg.epochs=40"), cache, tmp_path / "runs")
    assert many.held_out.mean_cosine > 0.9
    assert many.held_out.mean_relative_error < 0.5 * few.held_out.mean_relative_error
    assert many.held_out.rows == 90 + 70
    assert many.head_classes == [0, 1]
    assert {path.name for path in folder.iterdir()} == {
        *("config.toml", "log.jsonl", "metrics.json", "stg.safetensors", ".lock")
    }


def test_artefacts_name_their_parents(cache, tmp_path):
    settings = _settings()
    stg_folder, stg = train_stg(settings, cache, tmp_path)
    folder, result = retrain(settings, cache, tmp_path)
    assert (stg.cache, result.cache, result.stg) == (cache.key, cache.key, stg.digest)
    tensors, metadata = checkpoint.load(folder / "classifier.safetensors")
    named = {
        "stage": "classifier",
        "architecture": "linear",
        "method": "crt+stg",
        "cache": cache.key,
        "stg": stg.digest,
    }
    assert metadata == named
    assert checkpoint.digest(tensors) == result.digest
    assert checkpoint.load(stg_folder / "stg.safetensors")[1]["cache"] == cache.key


def test_metrics_json_holds_what_others_rely_on(cache, tmp_path):
    folder, result = retrain(_settings("retrain.seeds=3"), cache, tmp_path)
    found = json.loads((folder / "metrics.json").read_text())
    assert found.pop("checksum") == folders.key_of(**found)
    assert found == result.model_dump(mode="json")
    wanted = {
        "method",
        "dataset",
        "cache",
        "seeds",
        "accuracy",
        "many",
        "medium",
        "few",
        "per_class",
        "balanced_accuracy",
    }
    assert wanted | {"ece", "seconds", "mean", "std"} <= set(found)
    assert found["seeds"] == [0, 1, 2]
    assert found["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in found["each_seed"]]))
    assert found["std"]["accuracy"] == pytest.approx(np.std([one["accuracy"] for one in found["each_seed"]], ddof=1))
    assert len(found["per_class"]) == 5


def test_the_figures_are_those_of_the_saved_classifier(cache, tmp_path):
    folder, result = retrain(_settings(), cache, tmp_path)
    tensors, _ = checkpoint.load(folder / "classifier.safetensors")
    features, labels = torch.from_numpy(cache.features("test")), torch.from_numpy(cache.labels("test"))
    probabilities = torch.softmax(features @ tensors["weight"][0].T + tensors["bias"][0], dim=1)
    correct = probabilities.argmax(dim=1) == labels
    assert result.accuracy == pytest.approx(100 * float(correct.float().mean()))
    assert result.few == pytest.approx(100 * float(correct[labels == 4].float().mean()))
    assert result.ece == pytest.approx(expected_calibration_error(probabilities, labels), abs=1e-3)


def test_equal_settings_give_equal_bits_and_equal_keys_are_not_run_again(cache, tmp_path):
    first, one = retrain(_settings("retrain.seeds=2"), cache, tmp_path / "a")
    _, two = retrain(_settings("retrain.seeds=2"), cache, tmp_path / "b")
    assert one.digest == two.digest
    assert one.model_dump(exclude={"seconds"}) == two.model_dump(exclude={"seconds"})
    written = (first / "metrics.json").stat().st_mtime_ns
    assert retrain(_settings("retrain.seeds=2"), cache, tmp_path / "a") == (first, one)
    assert (first / "metrics.json").stat().st_mtime_ns == written
    assert retrain(_settings("retrain.seeds=2", "retrain.strength=1"), cache, tmp_path / "a")[0] != first


def test_a_seed_alone_gives_the_figures_it_gives_among_others(cache, tmp_path):
    _, together = retrain(_settings("retrain.seeds=3"), cache, tmp_path)
    _, alone = retrain(_settings(), cache, tmp_path)
    assert together.each_seed[0].accuracy == alone.accuracy
    assert together.each_seed[0].ece == pytest.approx(alone.ece, abs=1e-3)


@pytest.mark.parametrize("head", ["crt", "lws", "generalized"])
@pytest.mark.parametrize("augmentation", ["stg", "closed-form", "none", "dropout", "noise", "transfer"])
def test_every_head_trains_with_every_augmentation(cache, tmp_path, head, augmentation):
    settings = _settings(f"retrain.head={head}", f"retrain.augmentation={augmentation}")
    _, result = retrain(settings, cache, tmp_path)
    assert result.method == stage3_method(settings.retrain)
    assert 20 < result.accuracy <= 100
    assert math.isfinite(result.ece)


def test_lambda_zero_is_the_plain_classifier(cache, tmp_path):
    _, plain = retrain(_settings("retrain.augmentation=none"), cache, tmp_path)
    for augmentation in ("stg", "closed-form"):
        _, zero = retrain(_settings(f"retrain.augmentation={augmentation}", "retrain.strength=0"), cache, tmp_path)
        assert zero.digest == plain.digest


def test_comparison_has_every_arm(cache, tmp_path):
    found = run_cache(_settings(), cache, tmp_path)
    assert [arm.method for arm in found.arms] == [
        "auto", "stage1", "logit-adjustment", "tau-norm", "ncm", "knn", "logistic", "lda", "transfer", "crt", "crt+dropout", "crt+noise", "crt+transfer", "crt+closed-form", "crt+stg",
    ]  # fmt: skip
    assert found.groups == {"many": 2, "medium": 2, "few": 1}
    assert [label(arm.method, found.stage1) for arm in found.arms[-2:]] == ["cRT + closed form", "cRT + STG"]
    assert label(found.arms[1].method, found.stage1) == "classifier (stage 1)"


def test_an_stg_from_another_cache_is_refused(cache, stores, tmp_path):
    other = write_cache(stores, Blobs(seed=1))
    folder, _ = train_stg(_settings(), other, tmp_path)
    with pytest.raises(LineageError) as error:
        retrain(_settings(), cache, tmp_path, folder)
    assert str(error.value) == (
        f"STG {folder}: learnt from cache {other.key[:12]} (blobs), wanted {cache.key[:12]} (blobs); "
        f"run train-stg --cache {cache.key[:12]}"
    )


def test_a_head_class_with_one_sample(stores, tmp_path):
    cache = write_cache(stores, Blobs(counts=(40, 1, 5)))
    with pytest.raises(DataError) as error:
        train_stg(load(overrides=["stg.head_classes=3"]).settings, cache, tmp_path)
    assert str(error.value).startswith("no tail class: all 3 classes are head classes")
    cache = write_cache(stores, Blobs(counts=(40, 1, 0, 0)))
    with pytest.raises(DataError) as error:
        train_stg(load(overrides=["stg.head_classes=2"]).settings, cache, tmp_path)
    assert str(error.value) == (
        "head class 'class-1' has 1 training sample: Eq. 1 wants 2 and one held out; "
        "raise stg.head_above or lower stg.head_classes"
    )


def test_a_tail_class_with_one_sample_is_retrained(stores, tmp_path):
    cache = write_cache(stores, Blobs(counts=(150, 120, 1)))
    _, result = retrain(_settings(), cache, tmp_path)
    assert result.per_class[2] is not None
    assert math.isfinite(result.ece)


@pytest.mark.parametrize(
    ("setting", "wanted_by", "remedy"),
    [
        ("retrain.head=logit-adjustment", "retrain.head=logit-adjustment", "use retrain.head=ncm or crt"),
        ("retrain.start=stage1", "retrain.start=stage1", "use --set retrain.start=fresh"),
    ],
)
def test_a_cache_without_a_classifier(stores, tmp_path, setting, wanted_by, remedy):
    cache = write_cache(stores, classifier=False)
    with pytest.raises(DataError) as error:
        retrain(_settings(setting, "retrain.augmentation=none"), cache, tmp_path)
    assert str(error.value) == f"{wanted_by}: wants the stage-1 classifier, cache {cache.key[:12]} holds none; {remedy}"
    retrain(_settings(), cache, tmp_path)  # `auto` starts from a new one


def test_the_similarity_is_part_of_the_key(cache, tmp_path):
    found = {retrain(_settings(f"stg.similarity={name}"), cache, tmp_path)[0] for name in ("l2", "cosine", "logit")}
    assert len(found) == 3


def test_a_setting_that_came_later_leaves_older_keys_alone():
    older = Retrain().model_dump(mode="json", exclude=set(ADDED))
    assert Retrain().keyed() == older
    assert Retrain(borrow=2).keyed() == older | {"borrow": 2.0}


def test_rows_move_by_the_law_that_is_asked_for(cache, tmp_path):
    settings = ["retrain.augmentation=transfer", "retrain.borrow=0"]
    _, plain = retrain(_settings("retrain.augmentation=none"), cache, tmp_path)
    _, unmoved = retrain(_settings(*settings), cache, tmp_path)
    assert unmoved.digest == plain.digest
    _, moved = retrain(_settings(settings[0], "retrain.borrow=log"), cache, tmp_path)
    assert moved.digest != plain.digest


@pytest.mark.parametrize("value", ["-1", "nan", "some", "true"])
def test_what_borrow_may_be(value):
    with pytest.raises(ConfigError) as error:
        load(overrides=[f"retrain.borrow={value}"])
    found = {"-1": "-1", "nan": "nan", "some": "'some'", "true": "True"}[value]
    assert str(error.value) == f"--set: retrain.borrow: wanted auto, log or a number of at least 0, found {found}"


def test_a_damaged_generator_is_refused(cache, tmp_path):
    folder, _ = train_stg(_settings(), cache, tmp_path)
    tensors, metadata = checkpoint.load(folder / "stg.safetensors")
    del tensors["stg.tokens_HD"]
    checkpoint.save(folder / "stg.safetensors", tensors, metadata)
    with pytest.raises(LineageError) as error:
        retrain(_settings(), cache, tmp_path, folder)
    assert str(error.value) == (
        f"STG {folder}/stg.safetensors: not a generator of this version ('tokens_HD'); run train-stg again"
    )


def test_a_metrics_file_of_another_kind_is_refused(cache, tmp_path):
    folder, _ = train_stg(_settings(), cache, tmp_path)
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(DataError) as error:
        train_stg(_settings(), cache, tmp_path)
    assert str(error.value) == (
        f"{folder}/metrics.json: dataset: Field required; delete the folder and run the command again"
    )


def test_a_finished_run_is_evaluated_on_any_split_of_its_cache(cache, tmp_path):
    folder, result = retrain(_settings("retrain.seeds=2"), cache, tmp_path)
    again = evaluate_run(folder, cache, "test")
    assert again.each_seed == result.each_seed
    assert evaluate_run(folder, cache, "train").split == "train"
    with pytest.raises(DataError, match=f"^cache {cache.key[:12]}: no split 'val', found train, test$"):
        evaluate_run(folder, cache, "val")


def test_auto_says_how_it_chose_and_never_looks_at_the_test_split(stores, cache, tmp_path):
    _, result = retrain(_settings("retrain.head=auto"), cache, tmp_path)
    assert result.chosen
    assert result.selection.on == "5-fold cross-validation"
    assert result.selection.score is not None
    assert abs(sum(result.selection.members.values()) - 1) < 1e-6
    assert result.settings["choice"] == {"metric": "balanced"}


@pytest.mark.parametrize(
    ("head", "key"),
    [
        ("crt", "7ac9540a101eac74"),
        ("tau-norm", "01a0aeb1dcf0a2b1"),
        ("transfer", "762283667df32090"),
    ],
)
def test_settings_that_came_later_change_no_run_s_key(head, key):
    """The parts of the keys that runs had before `auto` and `retrain.distance`, where no head chooses."""
    assert folders.key_of(retrain=Retrain(head=head).settled(chooses=False).keyed()).startswith(key)
    assert not folders.key_of(retrain=Retrain(head=head, distance="l2").settled(chooses=False).keyed()).startswith(key)
    chosen = folders.key_of(retrain=Retrain(head=head).settled(chooses=True).keyed())
    assert chosen.startswith(key) == (head != "transfer")


def test_logistic_has_another_key_since_its_penalty_is_another_on_rows_that_the_backbone_saw():
    logistic = Retrain(head="logistic")
    assert (logistic.settled(chooses=False).l2, logistic.settled(chooses=True).l2) == (0.003, "auto")
    assert Retrain(head="logistic", l2=0.03).settled(chooses=False).l2 == 0.03
    given = Retrain(head="logistic", l2=0.03).settled(chooses=False).keyed()
    assert folders.key_of(retrain=given).startswith("c388a556f46639a8")


def test_a_run_of_an_earlier_version_of_a_head_is_not_taken_for_this_one_s(cache, tmp_path, monkeypatch):
    def folders_of(*heads):
        made = [_settings(f"retrain.head={head}", "retrain.augmentation=none") for head in heads]
        return [planned(settings, cache, tmp_path).folder for settings in made]

    crt, knn = folders_of("crt", "knn")
    monkeypatch.setitem(REVISIONS, "knn", 4)
    assert folders_of("crt") == [crt]
    assert folders_of("knn") != [knn]


def test_a_prior_that_stage_1_corrected_is_not_corrected_again(stores, tmp_path):
    settings = {"stage1": {"loss": "logit-adjusted", "epochs": 3}}
    cache = write_cache(stores, Blobs(), settings)
    found = run_cache(_settings(), cache, tmp_path)
    assert "logit-adjustment" not in [arm.method for arm in found.arms]
    auto = next(arm for arm in found.arms if arm.chosen)
    assert auto.selection.on == "a fixed rule: the backbone was trained on these rows"


@pytest.mark.parametrize(
    ("work", "within", "kept"),
    [
        (
            train_stg,
            "pipeline.stage2_stg._learn",
            "of this generator nothing is kept, the same command learns it from the start; what was finished before it stays",
        ),
        (
            retrain,
            "pipeline.stage3_retrain.train_classifier",
            "of this classifier nothing is kept, the same command trains it from the start; what was finished before it stays",
        ),
    ],
)
def test_an_interrupt_says_what_the_next_start_does(cache, tmp_path, monkeypatch, work, within, kept):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(within, interrupted)
    with pytest.raises(KeyboardInterrupt):
        work(_settings("retrain.augmentation=none"), cache, tmp_path)
    assert interrupted_text() == f"interrupted; {kept}"


@pytest.mark.parametrize(("work", "what"), [(train_stg, "STG"), (retrain, "classifier")])
def test_a_second_process_waits_and_takes_what_the_first_has_made(cache, tmp_path, monkeypatch, work, what):
    settings = _settings("retrain.augmentation=none")
    folder, first = work(settings, cache, tmp_path / "runs")
    (folder / "metrics.json").rename(tmp_path / "metrics.json")
    said = []
    with ExitStack() as other:
        other.enter_context(locked(folder / ".lock", lambda: None))

        def heard(text, level=1):
            said.append(text)
            if text.endswith("waiting until it is done"):
                (tmp_path / "metrics.json").rename(folder / "metrics.json")
                other.close()

        monkeypatch.setattr(folders, "note", heard)
        assert work(settings, cache, tmp_path / "runs") == (folder, first)
    assert said == [
        f"{what} {folder}: another process works on it; waiting until it is done",
        f"{what} {folder}: done already, by another process",
    ]


@pytest.mark.parametrize(
    ("work", "given", "text"),
    [
        (
            train_stg,
            ("stg.learning_rate=1e30",),
            "train-stg: the loss is not finite in epoch 1 of 3 at rate 1e+30; lower stg.learning_rate or use stg.loss=mse-log",
        ),
        (
            train_stg,
            ("stg.learning_rate=1e3", "stg.epochs=1", "stg.batch_size=300"),
            "train-stg: on held-out head rows the generator's distance from the closed form is not finite; lower "
            "stg.learning_rate, found 1000",
        ),
        (
            retrain,
            ("retrain.head=logit-adjustment", "retrain.tau=1e38"),
            "retrain: on the test split the classifier's probabilities are not finite; of the settings that "
            "retrain.head=logit-adjustment uses, set back retrain.tau",
        ),
        (
            retrain,
            ("retrain.augmentation=none", "retrain.learning_rate=1e38"),
            "retrain: the loss is not finite by step 20 of 20 at rate 1e+38; lower retrain.learning_rate or retrain.strength",
        ),
    ],
)
def test_what_is_not_finite_is_one_line_and_nothing_is_published(cache, tmp_path, work, given, text):
    with pytest.raises(TrainingError) as error:
        work(_settings(*given), cache, tmp_path / "runs")
    assert str(error.value) == text
    left = {path.name for path in tmp_path.glob("runs/*/*/*")}
    assert left <= {"config.toml", "log.jsonl", ".lock"}


def test_an_augmentation_that_borrows_from_head_classes_makes_a_run_of_its_own_for_each_choice_of_them(cache, tmp_path):
    def planned_with(*more):
        overrides = ("retrain.head=crt", "retrain.augmentation=distribution-calibration", "retrain.epochs=1", *more)
        return planned(load(overrides=overrides).settings, cache, tmp_path).folder.name

    assert len({planned_with(f"stg.head_classes={heads}") for heads in (0, 2, 3)}) == 3
    assert planned_with("stg.memory=5") == planned_with()  # it does not use it
    assert planned_with() == "crt+distribution-calibration-ec5dd57f9d4e"  # its key, which holds


def test_they_do_without_torchvision(stores, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom cache import FeatureCache\nfrom pipeline import retrain\n"
        f"from pipeline.settings.load import load\nsettings = load(overrides={[*FAST, 'retrain.augmentation=stg']}).settings\n"
        f"retrain(settings, FeatureCache.open(Path({str(write_cache(stores).path)!r})), Path({str(tmp_path)!r}))\n"
        "print('torch' in sys.modules, 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
    assert len(list(tmp_path.glob("own/*/metrics.json"))) == 2
