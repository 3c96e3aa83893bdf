"""Figures under a class prior that the user states: Bayes' rule, what the texts mean, and what is refused."""

import json
import os

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline import retrain, run_cache
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.classifiers import train_classifier
from pipeline.classifiers.kinds import KINDS
from pipeline.errors import ConfigError, DataError
from pipeline.evaluate import PRIOR_BYTES, class_shares, prior_shift
from pipeline.predict import predictor_of
from pipeline.report.tables import comparison_text, retrained_table
from pipeline.settings.load import load
from pipeline.settings.stage3 import TRAINED
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import evaluate_run

COUNTS = torch.tensor([70, 20, 10])


def test_logits_under_any_training_prior_become_those_of_bayes_rule():
    """Three unit Gaussians on a line: their posterior is known under every prior."""
    x, centres = torch.linspace(-3, 3, 50)[:, None], torch.tensor([-1.0, 0.5, 1.0])
    likelihood = -0.5 * (x - centres).square()
    shares = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    wanted = (likelihood.double().exp() * shares) / (likelihood.double().exp() * shares).sum(dim=1, keepdim=True)
    for power in (0.0, 0.5, 1.0):
        logits = likelihood + power * (COUNTS / 100).log() + 7
        moved = (logits + prior_shift(shares, COUNTS, power)).softmax(dim=1)
        torch.testing.assert_close(moved.double(), wanted, rtol=1e-5, atol=1e-6)


def test_what_a_prior_s_text_means(tmp_path):
    names = ("cat", "dog", "owl")
    listed, named = tmp_path / "list.json", tmp_path / "named.json"
    listed.write_text("[2, 1, 1]")
    named.write_text(json.dumps({"owl": 0.25, "cat": 0.5, "dog": 0.25}))
    wanted = {
        "train": [0.7, 0.2, 0.1],
        "uniform": [1 / 3] * 3,
        "2,1,1": [0.5, 0.25, 0.25],
        str(listed): [0.5, 0.25, 0.25],
        str(named): [0.5, 0.25, 0.25],
    }
    for text, shares in wanted.items():
        torch.testing.assert_close(class_shares(text, names, COUNTS), torch.tensor(shares, dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trian", "evaluate.prior 'trian': wanted train, uniform, a .json file or a number a class, found 'trian'"),
        ("0.5,0.5", "evaluate.prior 0.5,0.5: wanted 3 shares, one a class, found 2"),
        ("1,-1,1", "evaluate.prior 1,-1,1: wanted shares of at least 0 that are not all 0, found -1 to 1"),
        ("0,0,0", "evaluate.prior 0,0,0: wanted shares of at least 0 that are not all 0, found 0 to 0"),
        ("nan,1,1", "evaluate.prior nan,1,1: wanted shares of at least 0 that are not all 0, found nan to nan"),
        ("{}", "evaluate.prior {path}: wanted a share for each of 3 classes, found no share of 'cat'"),
        ('{"cat": 1, "dog": 1, "owl": 1, "cow": 1}', "evaluate.prior {path}: wanted a share for each of 3 classes, found a share of 'cow', which is no class"),
        ("7", "evaluate.prior {path}: wanted a list or an object of shares, found int"),
        ("[1, true, 1]", "evaluate.prior {path}: wanted train, uniform, a .json file or a number a class, found 'True'"),
        ("[1,", "evaluate.prior {path}: cannot be read as JSON: "),
    ],
)  # fmt: skip
def test_what_is_no_prior_is_named(tmp_path, text, problem):
    path = tmp_path / "prior.json"
    if "{path}" in problem:
        path.write_text(text)
        text = str(path)
    with pytest.raises(ConfigError) as error:
        class_shares(text, ("cat", "dog", "owl"), COUNTS)
    assert str(error.value).startswith(problem.replace("{path}", str(path)))


def test_a_prior_that_is_a_pipe_or_too_large_is_refused_before_it_is_read(tmp_path):
    pipe, large = tmp_path / "pipe.json", tmp_path / "large.json"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(PRIOR_BYTES + 1)
    for path, problem in (
        (pipe, "wanted a JSON file, found no plain file"),
        (large, f"wanted a file of at most {PRIOR_BYTES} bytes, found {PRIOR_BYTES + 1}"),
    ):
        with pytest.raises(ConfigError) as error:
            class_shares(str(path), ("cat", "dog", "owl"), COUNTS)
        assert str(error.value) == f"evaluate.prior {path}: {problem}"


def settings(*more):
    return load(
        overrides=["retrain.augmentation=none", "retrain.epochs=2", "stg.head_classes=2", "stg.epochs=2", *more]
    ).settings


def test_figures_are_those_of_the_moved_logits_and_the_output_says_so(cache, tmp_path):
    folder, plain = retrain(settings("retrain.head=lda"), cache, tmp_path)
    moved_folder, moved = retrain(settings("retrain.head=lda", "evaluate.prior=train"), cache, tmp_path)
    assert moved_folder != folder
    assert (plain.prior, moved.prior, plain.prior_power) == ("", "train", 0.0)
    tensors, _ = checkpoint.load(moved_folder / "classifier.safetensors")
    assert torch.equal(tensors["bias"], checkpoint.load(folder / "classifier.safetensors")[0]["bias"])
    features, labels = torch.from_numpy(cache.features("test")), torch.from_numpy(cache.labels("test"))
    counts = torch.from_numpy(cache.counts("train")).float()
    logits = features @ tensors["weight"][0].T + tensors["bias"][0] + (counts / counts.sum()).log()
    assert moved.accuracy == pytest.approx(100 * float((logits.argmax(dim=1) == labels).float().mean()))
    assert evaluate_run(folder, cache, "test", "train").each_seed == moved.each_seed
    assert evaluate_run(moved_folder, cache, "test").each_seed == moved.each_seed
    assert evaluate_run(moved_folder, cache, "test", "").each_seed == plain.each_seed
    predicted = predictor_of(moved_folder, cache).probabilities(features)
    torch.testing.assert_close(predicted, logits.softmax(dim=1))
    with pytest.raises(
        DataError, match=r"made for the class prior train, which wants its cache's counts; name the cache$"
    ):
        predictor_of(moved_folder)
    title = retrained_table(moved, cache.manifest, moved_folder).title
    assert title == f"{moved.dataset}, test split, for the class prior train: {moved_folder}"


def test_a_prior_of_the_classifier_s_own_changes_nothing(cache, tmp_path):
    """Each head knows how much of the training prior its logits have."""
    train, uniform = (
        class_shares("train", cache.classes, torch.from_numpy(cache.counts("train"))),
        torch.full((5,), 0.2),
    )
    powers = {}
    for head in KINDS:
        asked = settings(f"retrain.head={head}")
        powers[head] = train_classifier(asked, cache, [0], None).prior_power
        own = {1.0: train, 0.0: uniform.double()}.get(powers[head])
        if own is not None:
            shift = prior_shift(own, torch.from_numpy(cache.counts("train")), powers[head])
            torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    assert powers["stage1"] == 1
    assert {head for head, power in powers.items() if power is None} == {"tau-norm", "ncm", "ridge"}
    assert powers["auto"] == powers["logit-adjustment"] == powers["lda"] == 0
    assert all(powers[head] == 0 for head in TRAINED)
    halved = train_classifier(settings("retrain.head=logit-adjustment", "retrain.tau=0.25"), cache, [0], None)
    assert halved.prior_power == 0.75
    natural = train_classifier(settings("retrain.head=crt", "retrain.sampling=instance"), cache, [0], None)
    assert natural.prior_power == 1


def test_scores_that_are_no_log_probabilities_are_left_or_refused(cache, tmp_path):
    folder, plain = retrain(settings("retrain.head=ncm"), cache, tmp_path)
    _, asked = retrain(settings("retrain.head=ncm", "evaluate.prior=train"), cache, tmp_path)
    assert (asked.prior, asked.each_seed) == ("", plain.each_seed)
    with pytest.raises(DataError) as error:
        evaluate_run(folder, cache, "test", "train")
    assert str(error.value) == (
        f"{folder}: the scores of ncm are not known to be log probabilities, so no prior can be put to them; run retrain again "
        "where it is of an earlier version, or leave out --prior"
    )
    assert folders.read_result(folder, RetrainResult).prior_power is None


def test_a_comparison_shows_what_arms_had_where_they_were_chosen(stores, tmp_path):
    cache = write_cache(stores, Blobs(counts=(60, 40, 20, 8, 4)))
    comparison = run_cache(settings("evaluate.prior=uniform"), cache, tmp_path)
    table, *lines = comparison_text(comparison)
    assert [column.name for column in table.columns][:3] == ["method", "held out", "all"]
    assert "on the test split, for the class prior uniform, last epoch" in table.title
    shown = {row[0]: row[1] for row in table.rows}
    for arm in comparison.arms:
        score = arm.selection.score
        name = {"auto": "> auto", "logistic": "logistic regression", "lda": "LDA", "ncm": "nearest class mean"}.get(
            arm.method
        )
        if name:
            assert shown[name] == ("–" if score is None else f"{score:.1f}")
    assert shown["nearest class mean"] == "–" != shown["LDA"]
    assert (
        "held out: balanced accuracy on the rows that the arm's settings were chosen on: 5-fold cross-validation"
        in lines
    )
