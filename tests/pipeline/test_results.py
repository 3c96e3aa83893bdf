"""The one schema of figures: rows from run folders, filters, files."""

import io

import polars as pl
import pytest
from in_process import run

from pipeline import retrain
from pipeline.artefacts import folders
from pipeline.errors import ConfigError
from pipeline.results import SCHEMA, check_method, collect, parquet, select, settings_digest, unmatched
from pipeline.settings.load import load
from pipeline.stage3_predictions import predictions
from pipeline.stage3_retrain import MADE_BY, PREDICTIONS, done_already, planned


def settings(*more):
    return load(overrides=["retrain.augmentation=none", "retrain.epochs=1", "retrain.batch_size=32", *more]).settings


@pytest.fixture
def runs(cache, tmp_path):
    root = tmp_path / "runs"
    retrain(settings("retrain.seeds=3"), cache, root)
    retrain(settings("retrain.head=ncm"), cache, root)
    return root


def test_a_row_a_seed_with_the_figures_of_metrics_json(runs, cache):
    table = collect(runs, pytest.fail)
    assert dict(table.schema) == SCHEMA
    assert table.select("method", "seed").rows() == [("crt", 0), ("crt", 1), ("crt", 2), ("ncm", 0)]
    for row in table.iter_rows(named=True):
        result = folders.read_json(runs / "own" / f"{row['method']}-{row['run']}" / "metrics.json")
        own = result["each_seed"][result["seeds"].index(row["seed"])]
        assert {name: row[name] for name in own if name != "per_class"} == {
            name: value for name, value in own.items() if name != "per_class"
        }
        assert row["worst_tenth"] == min(own["per_class"])  # of five classes, one
        assert row["seconds"] == pytest.approx(result["seconds"] / len(result["seeds"]))
        assert (row["cache"], row["split"], row["dataset"]) == (cache.key, "test", "blobs")


def test_runs_that_differ_in_seeds_alone_share_a_digest(cache, tmp_path):
    root = tmp_path / "runs"
    for more in (["retrain.seeds=2"], ["retrain.seeds=1"], ["retrain.weight_decay=0.1"]):
        retrain(settings(*more), cache, root)
    table = collect(root, pytest.fail)
    decayed = table.filter(
        pl.col("settings")
        == settings_digest(settings("retrain.weight_decay=0.1").model_dump(mode="json", include=MADE_BY))
    )
    assert len(decayed) == 1
    assert table["settings"].n_unique() == 2


def test_a_setting_that_a_run_does_not_use_makes_no_other_digest(cache, tmp_path):
    root = tmp_path / "runs"
    retrain(settings("seed=0", "retrain.seeds=1", "stg.memory=5"), cache, root)
    retrain(settings("seed=1", "retrain.seeds=1", "longtail.imbalance_factor=7"), cache, root)
    assert collect(root, pytest.fail)["settings"].n_unique() == 1
    borrowing = [
        load(overrides=["retrain.augmentation=closed-form", f"stg.head_classes={heads}"]).settings.model_dump(
            mode="json"
        )
        for heads in (2, 3)
    ]
    assert settings_digest(borrowing[0]) != settings_digest(borrowing[1])


def test_filters(runs, cache):
    table = collect(runs, pytest.fail)
    assert len(select(table, head="ncm")) == 1
    assert len(select(table, cache=cache.key[:6])) == 4
    assert len(select(table, cache="zz")) == 0
    assert len(select(table, 1)) == 1
    with pytest.raises(ConfigError, match=r"--head nmc: no such head; did you mean ncm\? wanted one of stage1, "):
        check_method("nmc", None)
    with pytest.raises(
        ConfigError, match=r"--augmentation nois: no such augmentation; did you mean noise\? wanted one of none, "
    ):
        check_method("crt", "nois")
    assert unmatched(table, 7, split="tset", head="crt", cache=cache.key[:6]) == [
        "--split tset: no run has it; did you mean test? found test",
        "--seed 7: no run has it; found 0, 1, 2",
    ]


def test_files_hold_the_same_table(runs):
    table = collect(runs, pytest.fail)
    assert pl.read_parquet(io.BytesIO(parquet(table))).equals(table)
    assert pl.read_csv(table.write_csv().encode(), schema_overrides=SCHEMA).equals(table)


def test_a_damaged_run_is_named_and_left_out(runs):
    broken = next((runs / "own").glob("ncm-*")) / "metrics.json"
    broken.write_text(broken.read_text().replace('"accuracy": ', '"accuracy": 1'))
    notes = []
    assert collect(runs, notes.append)["method"].unique().to_list() == ["crt"]
    assert len(notes) == 1
    assert notes[0].startswith(f"left out: {broken}: changed after it was written")


def test_the_command(monkeypatch, tmp_path, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COATTAIL_RUNS", raising=False)
    retrain(settings("retrain.seeds=2"), cache, tmp_path / "runs")
    done = run(monkeypatch, "results", "--json", "--parquet", "all.parquet")
    assert done.code == 0, done.err
    assert [row["seed"] for row in done.json["rows"]] == [0, 1]
    assert pl.read_parquet(tmp_path / "all.parquet")["accuracy"].to_list() == [
        row["accuracy"] for row in done.json["rows"]
    ]
    header, _, first = run(monkeypatch, "results").out.splitlines()[2:5]
    assert (header.split()[0], first.split()[0]) == ("method", "crt")
    assert "no finished run of stage 3 in" in run(monkeypatch, "results", "--head", "lda").out
    assert run(monkeypatch, "results", "--csv", "-").out.splitlines()[0] == ",".join(SCHEMA)
    twice = run(monkeypatch, "results", "--csv", "-", "--json")
    assert (twice.code, twice.err) == (
        2,
        "coattail: --csv - and --json: one document goes to stdout; name files for the others\n",
    )


@pytest.mark.parametrize("head", ["crt", "knn"])
def test_predictions_are_kept_and_made_for_runs_that_lack_them(cache, tmp_path, head):
    given = settings("retrain.seeds=2", f"retrain.head={head}")
    folder, result = retrain(given, cache, tmp_path)
    run = planned(given, cache, tmp_path)
    kept = predictions(run, result, cache)
    labels = cache.labels("test")
    assert kept.shape == (len(result.seeds), len(labels))
    assert [100 * float((one.numpy() == labels).mean()) for one in kept] == pytest.approx(
        [one.accuracy for one in result.each_seed]
    )
    (folder / PREDICTIONS).unlink()
    assert (predictions(run, done_already(run), cache) == kept).all()
    assert (folder / PREDICTIONS).is_file()


def test_predictions_of_something_else_are_refused(cache, tmp_path):
    from pipeline.artefacts import tensors
    from pipeline.errors import DataError

    folder, result = retrain(settings(), cache, tmp_path)
    path = folder / PREDICTIONS
    tensors.save(path, {"test": (tensors.load(path)[0]["test"] + 1) % 5})
    with pytest.raises(DataError) as error:
        predictions(planned(settings(), cache, tmp_path), result, cache)
    assert str(error.value).startswith(f"{path}: changed after it was written: wanted tensors of digest '")
    earlier = result.model_copy(update={"predictions": None})  # a run that did not record the digest
    with pytest.raises(DataError) as error:
        predictions(planned(settings(), cache, tmp_path), earlier, cache)
    assert str(error.value) == (
        f"{path}: wanted predictions of 1 seeds for 100 rows that give the accuracy in metrics.json, found others, [1, 100]; "
        "delete the file and run the command again"
    )
