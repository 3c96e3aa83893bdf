"""`--dry-run`: what would run, what is reused and why not; nothing is written."""

import json

import pytest

from cache import FeatureCache
from pipeline.plan import plan_images
from pipeline.report.plan import about, size_text
from tests.support.in_process import run
from tests.support.toy_caches import make
from tests.support.toy_images import settings, write_folder

FAST = {
    "epochs": 1,
    "batch_size": 16,
    "augmentation": "none",
    "mixing": "none",
    "warmup_epochs": 0,
    "schedule": "cosine",
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.training.speed.PROBED", 2)
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_nothing_is_touched_and_the_numbers_are_right(places):
    chosen = settings("digits", stage1=FAST | {"augmentation": "crop"}, test_share=0.5)
    plan = plan_images(chosen, places / "stores", places / "runs")
    assert files(places) == []
    train, dump, later = plan.steps
    rows = 1797
    assert (train.does, dump.does, later.does) == ("run", "run", "run")
    assert train.why == "there is no finished backbone of own yet"
    assert abs(train.images - rows // 2) <= 10
    assert dump.images == rows + 4 * train.images
    assert dump.bytes_written == dump.images * 64 * 2
    assert train.seconds > 0 < dump.seconds
    assert later.seconds > 0
    assert "trained heads of 300 to" in later.why
    assert plan.free_bytes > 0


def test_what_is_done_is_reused_and_what_differs_is_named(places, monkeypatch):
    (places / "own.toml").write_text(
        "[data]\nimage_size = 8\ntest_share = 0.9\n[extract]\nviews = 0\n[stage1]\n"
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in FAST.items())
    )
    assert run(monkeypatch, "train-backbone", "--config", "own.toml", "-q").code == 0
    before = files(places)
    ended = run(monkeypatch, "train-backbone", "--config", "own.toml", "--dry-run", "--json", "-q")
    assert [step["does"] for step in ended.json["steps"]] == ["reuse", "reuse"]
    again = ("--config", "own.toml", "--set", "stage1.epochs=2", "--set", "stage1.checkpoint_minutes=7", "--dry-run")
    ended = run(monkeypatch, "run", *again, "--json", "-q")
    assert [step["does"] for step in ended.json["steps"]] == ["run", "run", "run"]
    assert ended.json["steps"][0]["why"].endswith(" differs in stage1.epochs (1, now 2)")
    text = run(monkeypatch, "extract", *again, "-q").out
    assert "dry run of own: nothing is done, no file is written" in text
    ended = run(monkeypatch, "retrain", "--config", "own.toml", "--dry-run", "--json", "-q")
    assert [step["does"] for step in ended.json["steps"]] == ["run", "run"]
    assert "has no generator of these settings yet" in ended.json["steps"][0]["why"]
    assert [
        step["name"]
        for step in run(monkeypatch, "train-stg", "--config", "own.toml", "--dry-run", "--json").json["steps"]
    ] == ["stage 2: learn the generator"]
    assert files(places) == before


def test_stages_2_and_3_are_timed_by_a_probe_of_their_steps(places, monkeypatch):
    cache = ("--cache", str(make(places / "stores")))
    before = files(places)

    def steps(command, *arguments):
        planned = run(monkeypatch, command, *cache, *arguments, "--dry-run", "--json", "-q")
        assert planned.code == 0, planned.out
        return {step["name"]: step for step in planned.json["steps"]}

    heads = ("--set", "stg.head_classes=2")
    few = steps("train-stg", *heads, "--set", "stg.epochs=10")["stage 2: learn the generator"]
    many = steps("train-stg", *heads, "--set", "stg.epochs=5000")["stage 2: learn the generator"]
    assert few["why"].endswith("has no generator of these settings yet; 10 steps")
    assert many["why"].endswith("; 5,000 steps")
    assert 0 < few["seconds"] < many["seconds"]
    until = steps("train-stg", *heads)["stage 2: learn the generator"]
    assert until["why"].endswith("; 500 steps")
    assert steps("run", *heads)["stage 3: classifiers"]["seconds"] > 0
    plain = ("--head", "crt", "--augmentation", "none")
    assert steps("retrain", *plain, "--set", "retrain.steps=70")["stage 3: crt"]["why"].endswith("; 70 steps")
    computed = steps("retrain", "--head", "ncm")["stage 3: ncm"]
    assert (computed["seconds"], computed["does"]) == (None, "run")
    assert files(places) == before


def test_folds_are_planned_and_refused_as_the_run_refuses_them(places, monkeypatch):
    path = make(places / "stores")
    cache = FeatureCache.open(path)
    short = ("--set", "stg.head_classes=2", "--set", "stg.epochs=2", "--set", "retrain.steps=20")
    plain = ("run", "--cache", str(path), *short, "--dry-run", "--json", "-q")
    (step,) = run(monkeypatch, *plain, "--folds", "3").json["steps"]
    tested = sum(n for n in cache.counts("train") + cache.counts("test") if n > 1)
    assert step["name"] == "stages 2 and 3 in 3 folds"
    assert step["why"].startswith(f"each of {tested} rows is tested once; in each fold ")
    assert step["seconds"] > 0
    assert run(monkeypatch, *plain).json["steps"][0]["name"] == "stage 2: learn the generator"
    refused = run(monkeypatch, "run", "digits-lt", "--folds", "2", "--dry-run")
    assert refused.code == 2
    assert "--folds 2: stage 1 trains the backbone on the training images" in refused.err


def test_folds_are_planned_where_a_run_takes_them_by_itself(places):
    photos = write_folder(places / "photos", dict.fromkeys("abcd", 3))
    chosen = settings("folder", train=photos, test_share=0.34, stage1={"epochs": 0})
    steps = plan_images(chosen, places / "stores", places / "runs", folds=None).steps
    assert steps[-1].name == "stages 2 and 3 in 5 folds"
    assert steps[-1].why.startswith("each of 12 rows is tested once")
    steps = plan_images(chosen, places / "stores", places / "runs").steps
    assert steps[-1].name == "stages 2 and 3"


def test_sizes_and_times_as_people_read_them():
    assert [size_text(count) for count in (0, 5, 2048, 3 << 30)] == ["-", "5 B", "2.0 KiB", "3.0 GiB"]
    assert [about(seconds) for seconds in (None, 0.2, 61, 600, 9000)] == ["-", "1 s", "61 s", "10 min", "2.5 h"]


def test_images_that_are_left_out_do_not_hide_a_finished_backbone(places, monkeypatch):
    write_folder(places / "photos", {"a": 30, "b": 30})
    for row in range(21):
        (places / "photos" / "a" / f"broken{row}.png").write_bytes(b"no image")
    (places / "own.toml").write_text(
        '[data]\nsource = "folder"\ntrain = "photos"\nimage_size = 8\non_bad = "skip"\nbad_limit = 0.9\nworkers = 0\n'
        "[extract]\nviews = 0\n[stage1]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in FAST.items())
    )
    listed = places / "runs" / "bad-images.txt"
    planned = run(monkeypatch, "train-backbone", "--config", "own.toml", "--dry-run", "--json", "-q")
    assert planned.code == 0
    assert not listed.exists()
    assert run(monkeypatch, "train-backbone", "--config", "own.toml", "-q").code == 0
    listed.unlink(missing_ok=True)
    planned = run(monkeypatch, "train-backbone", "--config", "own.toml", "--dry-run", "--json", "-q")
    assert [step["does"] for step in planned.json["steps"]] == ["reuse", "reuse"]
    assert not listed.exists()


def test_retrain_plans_a_generator_only_where_it_needs_one_and_knows_what_is_finished(places, monkeypatch):
    cache = ("--cache", str(make(places / "stores")))
    stage2 = ("--set", "stg.epochs=1", "--set", "stg.head_classes=2")
    stage3 = ("--set", "retrain.epochs=1", "--set", "retrain.seeds=1", "--json", "-q")
    plain = ("--head", "crt", "--augmentation", "none", *stage3)
    with_stg = ("--head", "crt", "--augmentation", "stg", *stage2, *stage3)

    def steps(*arguments):
        planned = run(monkeypatch, "retrain", *cache, *arguments, "--dry-run")
        assert planned.code == 0, planned.out
        return [(step["name"], step["does"]) for step in planned.json["steps"]]

    assert steps(*plain) == [("stage 3: crt", "run")]
    assert run(monkeypatch, "retrain", *cache, *plain).code == 0
    assert steps(*plain) == [("stage 3: crt", "reuse")]
    assert steps(*with_stg) == [("stage 2: learn the generator", "run"), ("stage 3: crt+stg", "run")]
    learnt = run(monkeypatch, "train-stg", *cache, *stage2, "--json", "-q")
    assert learnt.code == 0, learnt.out
    assert steps(*with_stg) == [("stage 2: learn the generator", "reuse"), ("stage 3: crt+stg", "run")]
    assert run(monkeypatch, "retrain", *cache, *with_stg).code == 0
    assert steps(*with_stg) == [("stage 2: learn the generator", "reuse"), ("stage 3: crt+stg", "reuse")]
    given = ("--head", "crt", "--augmentation", "stg", "--stg", learnt.json["run"], *stage3)
    assert steps(*given) == [("stage 3: crt+stg", "run")]
    assert run(monkeypatch, "retrain", *cache, *given).code == 0
    assert steps(*given) == [("stage 3: crt+stg", "reuse")]
