"""A finished classifier on new images and features."""

import json
import os

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cache import FeatureCache
from pipeline.artefacts.folders import read_result
from pipeline.commands.which_cache import sample_path
from pipeline.predict import fit_temperature
from pipeline.predicting import encoder
from pipeline.predicting.files import PredictionFile
from pipeline.stage1_backbone import stage1
from pipeline.stage1_extract import extract
from pipeline.stage3_record import RetrainResult
from tests.support import in_process
from tests.support.finished_run import finished_run

CLASSES = ("=risky()", "birds", "cats")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images, a backbone trained on it, its cache and a classifier: paths by name."""
    return finished_run(tmp_path_factory.mktemp("made"), CLASSES, {"train": 12, "val": 5, "test": 7})


@pytest.fixture
def home(made, monkeypatch):
    monkeypatch.setenv("COATTAIL_RUNS", str(made["root"] / "runs"))
    monkeypatch.setenv("COATTAIL_STORES", str(made["root"] / "stores"))
    return made


def _expected(made, features_ND):
    """The mean over seeds of softmax(z / T), T being the best on val: written out again."""
    tensors, cache = load_file(made["run"] / "classifier.safetensors"), FeatureCache.open(made["cache"])

    def logits(x_ND):
        return torch.stack([torch.addmm(b, x_ND, w.T) for w, b in zip(tensors["weight"], tensors["bias"], strict=True)])

    val_RNC, labels_N = (
        logits(torch.from_numpy(cache.features("val", "clean")).float()),
        torch.tensor(cache.labels("val")),
    )
    grid = torch.linspace(-3.9, 3.9, 4001)
    losses = [
        -sum((z / t.exp()).log_softmax(1)[torch.arange(len(labels_N)), labels_N].mean() for z in val_RNC) for t in grid
    ]
    return logits(features_ND), float(grid[int(torch.stack(losses).argmin())].exp())


def test_images_give_what_the_cached_rows_give_to_the_last_bit(home, monkeypatch, tmp_path):
    test = home["root"] / "test"
    ended = in_process.run(
        monkeypatch, "predict", "--run", str(home["run"]), str(test), "-o", str(tmp_path / "p.parquet")
    )
    assert ended.code == 0, ended.err
    table = pl.read_parquet(tmp_path / "p.parquet")
    cache = FeatureCache.open(home["cache"])
    features_ND = torch.from_numpy(cache.features("test", "clean")).float()
    order = {path: row for row, path in enumerate(cache.rows("test")["path"].to_list())}
    rows = [order[name.removeprefix(f"{test}/")] for name in table["name"].to_list()]
    logits_RNC, best = _expected(home, features_ND)
    said = float(ended.err.split("divided by ")[1].split()[0])
    assert said == pytest.approx(best, rel=0.02)
    used = fit_temperature(
        _expected(home, torch.from_numpy(cache.features("val", "clean")).float())[0], torch.tensor(cache.labels("val"))
    )
    values_NK, classes_NK = (logits_RNC / used).softmax(-1).mean(0).topk(3, dim=1)
    for place in range(3):
        assert table[f"probability_{place + 1}"].to_list() == values_NK[rows, place].tolist()
        wanted = [CLASSES[c] for c in classes_NK[rows, place].tolist()]
        assert table[f"class_{place + 1}"].to_list() == wanted


def test_probabilities_over_views_are_the_mean_of_those_of_cached_views(home, monkeypatch, tmp_path):
    """The views of an extraction from the same backbone, weighed by the classifier, to the last bit."""
    settings = home["settings"]
    five = settings.model_copy(update={"extract": settings.extract.model_copy(update={"test_views": 5})})
    cache = FeatureCache.open(extract(five, stage1(five, home["root"] / "runs"), tmp_path / "stores"))
    test = home["root"] / "test"
    ended = in_process.run(
        monkeypatch, "predict", "--run", str(home["run"]), str(test), "--test-views", "5", "-o", str(tmp_path / "p.csv")
    )
    assert ended.code == 0, ended.err
    assert "probabilities are averaged over 5 views of each image" in ended.err
    clean = FeatureCache.open(home["cache"])
    val_RNC = _expected(home, torch.from_numpy(clean.features("val", "clean")).float())[0]
    used = fit_temperature(val_RNC, torch.tensor(clean.labels("val")))
    mean_NC = torch.stack(
        [
            (_expected(home, torch.from_numpy(cache.features("test", view)).float())[0] / used).softmax(-1).mean(0)
            for view in cache.views("test")
        ]
    ).mean(0)
    table = pl.read_csv(tmp_path / "p.csv")
    order = {path: row for row, path in enumerate(cache.rows("test")["path"].to_list())}
    rows = [order[name.removeprefix(f"{test}/")] for name in table["name"].to_list()]
    np.testing.assert_allclose(table["probability_1"].to_numpy(), mean_NC.max(dim=1).values[rows].numpy(), rtol=1e-6)
    every = in_process.run(
        monkeypatch, "predict", "--run", str(home["run"]), str(test), "--test-views", "all", "--json"
    )
    assert "averaged over 1 views" in every.err  # the run's own cache has one


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("{root}/test", "--test-views", "6"), 2, "--test-views 6: wanted at most 5 for a backbone trained with stage1.augmentation=crop"),
        (("{root}/test", "--test-views", "0"), 2, "wanted all or a whole number of at least 1, found '0'"),
        (("--features", "x.npy", "--test-views", "2"), 2, "--test-views is for images and --run: features are of one view, and"),
    ],
)  # fmt: skip
def test_views_that_cannot_be_had_are_refused(home, monkeypatch, arguments, code, text):
    given = [argument.format(root=home["root"]) for argument in arguments]
    ended = in_process.run(monkeypatch, "predict", "--run", str(home["run"]), *given)
    assert (ended.code, text in ended.err) == (code, True), ended.err


def test_broken_images_are_listed_and_the_others_predicted(home, monkeypatch, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    Image.new("RGB", (8, 8), (200, 200, 200)).save(tmp_path / "new" / "sound.png")
    ended = in_process.run(monkeypatch, "predict", "--json", "--run", str(home["run"]), str(tmp_path / "new"))
    assert ended.code == 0
    document = ended.json
    assert document["broken"] == 1
    cut, sound = document["predictions"]
    assert cut["name"].endswith("cut.png")
    assert "error" in cut
    assert len(sound["classes"]) == 3
    assert sum(pair["probability"] for pair in sound["classes"]) == pytest.approx(1, abs=1e-5)
    assert "cut.png: cannot be decoded (" in ended.err


def test_a_name_that_is_no_utf_8_has_a_place_in_every_file(home, tmp_path, monkeypatch):
    image = next((home["root"] / "test").glob("*/*.*"))
    named = tmp_path / os.fsdecode(b"a\xff.png")
    named.write_bytes(image.read_bytes())
    shown = f"{tmp_path}/a\\udcff.png"
    call = ("predict", "--run", str(home["run"]), str(named))
    assert in_process.run(monkeypatch, *call, "--json").json["predictions"][0]["name"] == shown
    for suffix, names in (
        ("csv", lambda path: pl.read_csv(path)["name"].to_list()),
        ("parquet", lambda path: pl.read_parquet(path)["name"].to_list()),
        ("jsonl", lambda path: [json.loads(line)["name"] for line in path.read_text().splitlines()]),
    ):
        ended = in_process.run(monkeypatch, *call, "-o", str(tmp_path / f"p.{suffix}"))
        assert ended.code == 0, ended.err
        assert names(tmp_path / f"p.{suffix}") == [shown]


def test_an_interrupted_file_goes_on_and_a_line_cut_short_is_written_again(home, monkeypatch, tmp_path):
    arguments = ("predict", "--run", str(home["run"]), str(home["root"] / "test"), "-o")
    whole = in_process.run(monkeypatch, *arguments, str(tmp_path / "whole.jsonl"))
    assert whole.code == 0
    parts = []
    publish = PredictionFile.publish

    def interrupted(self, count):
        parts.append(self.part.read_bytes())
        raise KeyboardInterrupt

    monkeypatch.setattr(PredictionFile, "publish", interrupted)
    stopped = in_process.run(monkeypatch, *arguments, str(tmp_path / "again.jsonl"))
    assert stopped.code == 130
    assert "interrupted; what is predicted is kept in " in stopped.err
    monkeypatch.setattr(PredictionFile, "publish", publish)
    lines = parts[0].splitlines(keepends=True)
    (tmp_path / "again.jsonl.part").write_bytes(b"".join(lines[:6]) + lines[6][:9])
    again = in_process.run(monkeypatch, *arguments, str(tmp_path / "again.jsonl"))
    assert "going on after 5 predictions" in again.err
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.jsonl", "whole.jsonl"]
    assert len((tmp_path / "whole.jsonl").read_text().splitlines()) == 21


def test_features_of_a_file_and_class_names_that_a_spreadsheet_would_run(home, monkeypatch, tmp_path):
    cache = FeatureCache.open(home["cache"])
    np.save(tmp_path / "x.npy", cache.features("test", "clean"))
    ended = in_process.run(
        monkeypatch, "predict", "--run", str(home["run"]), "--features", str(tmp_path / "x.npy"), "--top", "1", "-o",
        str(tmp_path / "p.csv"),
    )  # fmt: skip
    assert ended.code == 0, ended.err
    table = pl.read_csv(tmp_path / "p.csv")
    assert table["name"].to_list() == list(range(21))
    logits_RNC, temperature = _expected(home, torch.from_numpy(cache.features("test", "clean")).float())
    wanted = [CLASSES[c] for c in (logits_RNC / temperature).softmax(-1).mean(0).argmax(1)]
    assert table["class_1"].to_list() == ["'=risky()" if name == "=risky()" else name for name in wanted]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "wanted images, or --features FILE, one of the two"),
        (("nowhere",), 1, "nowhere: no such file or folder; wanted images, folders of images, globs or Parquet files"),
        (("{root}/runs",), 1, "{root}/runs: no image there; wanted files that end with .apng, "),
        (
            ("--features", "{root}/wide.npy"),
            1,
            "wanted features (N, 64), found rows of shape (3,); give the features that",
        ),
        (
            ("{root}/test", "-o", "{root}/p.xls"),
            2,
            "p.xls: wanted a file that ends with .parquet, .csv, .jsonl, found .xls",
        ),
        (("{root}/test", "-o", "{root}/no/p.csv"), 2, "{root}/no is not there; make it first"),
        (("{root}/test", "--backbone", "{root}/nowhere"), 1, "{root}/nowhere/backbone.safetensors"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(home, monkeypatch, arguments, code, text):
    np.save(home["root"] / "wide.npy", np.zeros((2, 3), np.float32))
    given = [argument.format(root=home["root"]) for argument in arguments]
    ended = in_process.run(monkeypatch, "predict", "--run", str(home["run"]), *given)
    assert ended.code == code
    assert text.format(root=home["root"]) in ended.err
    assert "Traceback" not in ended.err


def test_imported_features_have_no_backbone_here(home, monkeypatch, tmp_path):
    draw = np.random.default_rng(1)
    np.savez(
        tmp_path / "own.npz", train=draw.normal(size=(20, 4)), y=np.arange(20) % 2, test=draw.normal(size=(6, 4)),
        yt=np.arange(6) % 2,
    )  # fmt: skip
    monkeypatch.setenv("COATTAIL_STORES", str(tmp_path / "stores"))
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path / "runs"))
    key = (
        in_process.run(monkeypatch, "cache", "import", str(tmp_path / "own.npz"), "--json")
        .json["path"]
        .rpartition("/")[2]
    )
    trained = in_process.run(monkeypatch, "retrain", "--cache", key, "--head", "ncm", "--json").json
    ended = in_process.run(monkeypatch, "predict", "--run", trained["run"], str(home["root"] / "test"))
    assert ended.code == 1
    assert (
        f"cache {key[:12]}: its features were imported, so the backbone is not known here; extract the features where it "
        "is, and give them with --features FILE"
    ) in ended.err


def test_temperature_is_that_of_least_loss():
    draw = torch.Generator().manual_seed(0)
    logits_RNC = 4 * torch.randn(2, 300, 5, generator=draw)
    labels_N = (logits_RNC.mean(0) + 3 * torch.randn(300, 5, generator=draw)).argmax(1)
    best = fit_temperature(logits_RNC, labels_N)

    def loss(t):
        return sum(float(-(z / t).log_softmax(1)[torch.arange(300), labels_N].mean()) for z in logits_RNC)

    assert loss(best) < min(loss(best * 1.02), loss(best / 1.02))
    assert json.dumps(best)


def test_the_run_is_what_the_fixture_says(made):
    assert read_result(made["run"], RetrainResult).seeds == [0, 1]


def test_the_device_that_a_backbone_was_trained_on_does_not_matter():
    known = {"stage1": {"device": "cuda:7"}, "backbone": {"name": "resnet20"}}
    assert encoder.backbone_from(known, 3, None, "pooled", 8)(torch.zeros(2, 3, 8, 8)).shape == (2, 64)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_run_on_a_sample_that_ships_with_coattail_finds_its_cache(monkeypatch, tmp_path, command):
    monkeypatch.setenv("COATTAIL_STORES", str(tmp_path / "stores"))
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path / "runs"))
    sample = str(sample_path("cifar100-lt"))
    folder = in_process.run(monkeypatch, "retrain", "--cache", sample, "--head", "ncm", "--json").json["run"]
    np.save(tmp_path / "x.npy", np.zeros((2, 64), np.float32))
    more = ["--features", str(tmp_path / "x.npy")] if command == "predict" else []
    ended = in_process.run(monkeypatch, command, "--run", folder, *more)
    assert ended.code == 0, ended.err
    assert "its cache is not at hand" not in ended.err
