"""Probabilities averaged over views of test rows: the formula, the record, and what is not compared."""

import numpy as np
import pytest
import torch
from conftest import Blobs, write_cache
from in_process import run

from pipeline import compare_arms, retrain
from pipeline.artefacts import tensors
from pipeline.comparing.arms import Chosen
from pipeline.comparing.several import overview
from pipeline.errors import ConfigError, DataError
from pipeline.metrics import expected_calibration_error
from pipeline.report.compared import comparison_lines, methods_table
from pipeline.report.subject import subject
from pipeline.report.tables import retrained_table, runs_table
from pipeline.results import collect
from pipeline.settings import Retrain
from pipeline.settings.load import load
from pipeline.stage3_predictions import predictions
from pipeline.stage3_retrain import evaluate_run, planned


def settings(*more):
    return load(overrides=["retrain.augmentation=none", "retrain.epochs=1", "retrain.seeds=2", *more]).settings


@pytest.fixture
def three_views(stores):
    return write_cache(stores, Blobs(scale=0.3), test_views=3, val=True)


def _reference(cache, folder, views, shift_C=0.0):
    """Mean probabilities of each seed (R, N, C), by the textbook, in float64."""
    saved, _ = tensors.load(folder / "classifier.safetensors")
    weight_RCD, bias_RC = (saved[name].double().numpy() for name in ("weight", "bias"))
    means = 0.0
    for view in cache.views("test")[:views]:
        features_ND = cache.features("test", view).astype(np.float64)
        odds = np.exp(np.einsum("nd,rcd->rnc", features_ND, weight_RCD) + bias_RC[:, None] + shift_C)
        means = means + odds / odds.sum(axis=2, keepdims=True) / views
    return means


def _accuracies(cache, probabilities_RNC):
    return (100 * (probabilities_RNC.argmax(axis=2) == cache.labels("test")).mean(axis=1)).tolist()


@pytest.mark.parametrize(("asked", "views"), [("1", 1), ("2", 2), ("all", 3)])
def test_figures_are_those_of_mean_probabilities(three_views, tmp_path, asked, views):
    own = settings(f"retrain.test_views={asked}")
    folder, result = retrain(own, three_views, tmp_path)
    assert result.test_views == views
    wanted_RNC = _reference(three_views, folder, views)
    assert [metrics.accuracy for metrics in result.each_seed] == pytest.approx(_accuracies(three_views, wanted_RNC))
    labels = torch.from_numpy(three_views.labels("test"))
    wanted = [expected_calibration_error(torch.from_numpy(each).float(), labels) for each in wanted_RNC]
    assert [metrics.ece for metrics in result.each_seed] == pytest.approx(wanted, abs=0.01)
    (folder / "predictions.safetensors").unlink()  # computed again, over the same views
    found = predictions(planned(own, three_views, tmp_path), result, three_views)
    assert torch.equal(found, torch.from_numpy(wanted_RNC.argmax(axis=2)).int())


def test_a_prior_is_put_to_each_view(three_views, tmp_path):
    folder, result = retrain(
        settings("retrain.head=lda", "evaluate.prior=0.1,0.1,0.1,0.3,0.4", "retrain.test_views=3"),
        three_views,
        tmp_path,
    )
    shift_C = np.log([0.1, 0.1, 0.1, 0.3, 0.4])
    wanted = _accuracies(three_views, _reference(three_views, folder, 3, shift_C))
    assert [metrics.accuracy for metrics in result.each_seed] == pytest.approx(wanted)


@pytest.mark.parametrize("head", ["knn", "ncm", "ridge"])
def test_heads_of_every_kind_are_averaged(three_views, tmp_path, head):
    plain, averaged = (
        retrain(settings(f"retrain.head={head}", f"retrain.test_views={views}"), three_views, tmp_path)[1]
        for views in (1, 3)
    )
    assert averaged.digest == plain.digest
    assert averaged.each_seed != plain.each_seed


def test_the_clean_view_keeps_older_keys_and_all_is_the_number_that_it_is(three_views, tmp_path):
    assert "test_views" not in Retrain().keyed()
    one, three, every = (
        planned(settings(f"retrain.test_views={views}"), three_views, tmp_path).folder for views in (1, 3, "all")
    )
    assert one == planned(settings(), three_views, tmp_path).folder
    assert three == every != one


def test_more_views_than_there_are_is_refused(cache, tmp_path):
    with pytest.raises(DataError) as caught:
        retrain(settings("retrain.test_views=4"), cache, tmp_path)
    assert str(caught.value) == (
        f"cache {cache.key[:12]}, split test: wanted 4 views of each row, found 1; extract again with --set "
        "extract.test_views=4, or ask for 1 with retrain.test_views or --test-views"
    )
    assert not list(tmp_path.glob("own/crt*"))


@pytest.mark.parametrize("wrong", ["0", "1.5", "some", "true"])
def test_what_is_no_number_of_views_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"retrain.test_views: wanted all or a whole number of at least 1, found "):
        settings(f"retrain.test_views={wrong}")


def test_evaluate_takes_the_clean_view_unless_asked(three_views, tmp_path, monkeypatch):
    folder, averaged = retrain(settings("retrain.test_views=all"), three_views, tmp_path / "runs")
    plain = evaluate_run(folder, three_views, "test")
    assert plain.test_views == 1
    assert [m.accuracy for m in plain.each_seed] == pytest.approx(
        _accuracies(three_views, _reference(three_views, folder, 1))
    )
    asked = evaluate_run(folder, three_views, "test", views="all")
    assert (asked.test_views, asked.each_seed) == (3, averaged.each_seed)
    assert evaluate_run(folder, three_views, "val", views=2).test_views == 2
    monkeypatch.setenv("COATTAIL_STORES", str(three_views.path.parent))
    done = run(monkeypatch, "evaluate", "--run", str(folder), "--test-views", "2")
    assert done.code == 0, done.err
    assert ", test split, averaged over 2 views of each row: " in done.out
    done = run(monkeypatch, "evaluate", "--run", str(folder), "--test-views", "none")
    assert (done.code, "'--test-views': wanted all or a whole number of at least 1, found 'none'" in done.err) == (
        2,
        True,
    )
    done = run(monkeypatch, "evaluate", "--run", str(folder), "--test-views", "2", "--data", "digits-lt")
    assert (done.code, "--test-views is for a split of the cache" in done.err) == (2, True)


def test_tables_say_over_how_many_views(three_views, tmp_path):
    folder, averaged = retrain(settings("retrain.test_views=3"), three_views, tmp_path)
    retrain(settings(), three_views, tmp_path)
    title = retrained_table(averaged, three_views.manifest, folder).title
    assert title == f"blobs, test split, averaged over 3 views of each row: {folder}"
    rows = collect(tmp_path, pytest.fail)
    assert sorted(rows["test_views"].to_list()) == [1, 1, 3, 3]
    table = runs_table(rows, "runs")
    assert [column.name for column in table.columns][5:7] == ["views", "all"]
    assert sorted(row[5] for row in table.rows) == ["1", "3"]
    plain = runs_table(rows.filter(rows["test_views"] == 1), "runs")
    assert "views" not in [column.name for column in plain.columns]


def test_a_comparison_has_one_number_of_views_and_several_caches_share_it(three_views, cache, tmp_path):
    def compared(of, *more):
        return compare_arms(settings(*more), of, tmp_path, Chosen(("crt", "ncm")))[0]

    averaged, plain = compared(three_views, "retrain.test_views=all"), compared(cache)
    assert (averaged.test_views, plain.test_views) == (3, 1)
    assert methods_table(averaged).title.endswith(": percent on the test split, averaged over 3 views of each row")
    assert methods_table(plain).title.endswith(": percent on the test split")
    note = "figures without averaging over views, published ones among them, are other figures"
    assert note in comparison_lines(averaged)
    assert note not in comparison_lines(plain)
    with pytest.raises(ConfigError) as caught:
        overview([averaged, plain])
    assert str(caught.value) == (
        "retrain.test_views: wanted one number of views for all caches, found 1 and 3: such figures are not comparable; set "
        "retrain.test_views=1"
    )


def test_a_report_has_runs_of_one_number_of_views(three_views, tmp_path):
    folder, _ = retrain(settings(), three_views, tmp_path)
    retrain(settings("retrain.head=lda"), three_views, tmp_path)
    retrain(settings("retrain.head=ncm", "retrain.test_views=2"), three_views, tmp_path)
    newest, chosen = subject(three_views, tmp_path), subject(three_views, tmp_path, folder)
    assert [arm.result.method for arm in newest.arms] == ["ncm"]
    assert sorted(arm.result.method for arm in chosen.arms) == ["crt", "lda"]
