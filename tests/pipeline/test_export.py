"""A finished classifier as one file: what it predicts, what its card says, and the script that runs it without coattail."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import pipeline
from cache import FeatureCache
from pipeline.artefacts import tensors as checkpoint
from pipeline.classifiers.saved import ARCHITECTURES
from pipeline.errors import DataError
from pipeline.exporting.deployable import About
from pipeline.exporting.exported import read_exported
from pipeline.images.transforms.recipe import clean
from pipeline.predict import predictor_of
from pipeline.report import card_script
from pipeline.report.card_script import script_of
from tests.support import in_process
from tests.support.finished_run import finished_run

CLASSES = ("a|b `c`", "birds", "cats")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images, a backbone trained on it, its cache and a classifier of two seeds."""
    return finished_run(tmp_path_factory.mktemp("made"), CLASSES, {"train": 12, "val": 5, "test": 7})


@pytest.fixture
def home(made, monkeypatch):
    monkeypatch.setenv("COATTAIL_RUNS", str(made["root"] / "runs"))
    monkeypatch.setenv("COATTAIL_STORES", str(made["root"] / "stores"))
    return made


def _export(home, monkeypatch, path, *more):
    kind = {".onnx": "onnx", ".safetensors": "safetensors", ".pt2": "torch-export"}[path.suffix]
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    arguments = ("export", "--json", "--run", str(home["run"]), "--to", kind, "-o", str(path), *more)
    ended = in_process.run(monkeypatch, *arguments)
    assert ended.code == 0, ended.err
    return ended.json


def _predicted(monkeypatch, *arguments):
    ended = in_process.run(monkeypatch, "predict", "--json", "-q", "--top", "3", *map(str, arguments))
    assert ended.code == 0, ended.err
    return ended.json["predictions"]


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_predict_from_the_file_gives_what_the_run_gives(home, monkeypatch, tmp_path, suffix):
    document = _export(home, monkeypatch, tmp_path / f"model{suffix}")
    assert document["parity"]["what"] == "images of the test split"
    assert document["parity"]["rows"] == document["parity"]["same_class"] == 21
    assert document["parity"]["largest_difference"] < 1e-3
    test = home["root"] / "test"
    of_run = _predicted(monkeypatch, "--run", home["run"], test)
    of_file = _predicted(monkeypatch, "--model", tmp_path / f"model{suffix}", test)
    largest = 0.0
    for run_row, file_row in zip(of_run, of_file, strict=True):
        assert run_row["name"] == file_row["name"]
        shares = [{pair["class"]: pair["probability"] for pair in row["classes"]} for row in (run_row, file_row)]
        assert shares[0].keys() == shares[1].keys() == set(CLASSES)
        largest = max(largest, *(abs(shares[0][name] - shares[1][name]) for name in CLASSES))
    assert largest == pytest.approx(document["parity"]["largest_difference"], abs=1e-6)


def test_torch_export_holds_and_predict_does_not_read_it(home, monkeypatch, tmp_path):
    path = tmp_path / "model.pt2"
    assert _export(home, monkeypatch, path)["parity"]["largest_difference"] < 1e-3
    ended = in_process.run(monkeypatch, "predict", "--model", str(path), str(home["root"] / "test"))
    assert ended.code == 1
    assert "a .pt2 file is for torch.export.load alone, which can run code that a file brings" in ended.err


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_cards_script_names_the_classes_without_coattail(home, monkeypatch, tmp_path, capsys, suffix):
    path = tmp_path / f"model{suffix}"
    _export(home, monkeypatch, path)
    text = (tmp_path / "model.card.md").read_text()
    script = text.split("```python\n")[1].split("```")[0]
    assert len(script.splitlines()) <= 24
    assert not any(word in script for word in ("coattail", "import pipeline", "import cache"))
    images = sorted((home["root"] / "test").rglob("*.png"))[::5]
    (tmp_path / "use.py").write_text(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["use.py", *map(str, images)])
    capsys.readouterr()
    runpy.run_path("use.py")
    printed = capsys.readouterr().out
    of_run = _predicted(monkeypatch, "--run", home["run"], *images)
    for line, row in zip(printed.splitlines(), of_run, strict=True):
        named, share = line.rsplit(" ", 1)
        assert named == f"{row['name']}: {row['classes'][0]['class']}"
        assert float(share) == pytest.approx(row["classes"][0]["probability"], abs=1e-3)


def test_the_card_has_data_method_figures_and_limits(home, monkeypatch, tmp_path):
    _export(home, monkeypatch, tmp_path / "m.safetensors")
    card, text = json.loads((tmp_path / "m.card.json").read_text()), (tmp_path / "m.card.md").read_text()
    result = json.loads((home["run"] / "metrics.json").read_text())
    assert card["data"]["rows"] == {"train": 36, "val": 15, "test": 21}
    assert card["figures"]["percent"] == result["mean"]
    assert [row["training_rows"] for row in card["classes"]] == [12, 12, 12]
    assert [row["name"] for row in card["classes"]] == list(CLASSES)
    assert "3 classes had fewer than 20 training rows" in " ".join(card["limits"])
    assert "a\\|b \\`c\\`" in text
    assert "calibrated on the val split" in text


def test_one_seed_and_features_in_place_of_images(home, monkeypatch, tmp_path):
    path = tmp_path / "head.safetensors"
    _export(home, monkeypatch, path, "--head-only", "--only-seed", "1")
    cache = FeatureCache.open(home["cache"])
    features_ND = cache.features("test", "clean")
    np.save(tmp_path / "x.npy", features_ND)
    rows = _predicted(monkeypatch, "--model", path, "--features", tmp_path / "x.npy")
    tensors = load_file(home["run"] / "classifier.safetensors")
    temperature = json.loads((tmp_path / "head.card.json").read_text())["model"]["temperature"]
    x_ND = torch.from_numpy(features_ND).double()
    logits_NC = (x_ND @ tensors["weight"][1].double().T + tensors["bias"][1]) / temperature
    wanted_NC = logits_NC.softmax(1)
    for row, wanted_C in zip(rows, wanted_NC, strict=True):
        for pair in row["classes"]:
            assert pair["probability"] == pytest.approx(float(wanted_C[CLASSES.index(pair["class"])]), abs=1e-5)
    script = script_of(About.model_validate(json.loads((tmp_path / "head.card.json").read_text())["model"]), path)
    (tmp_path / "use.py").write_text(script)
    done = subprocess.run([sys.executable, "use.py", "x.npy"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.rsplit(" ", 1)[0] for line in done.stdout.splitlines()] == [row["classes"][0]["class"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only-seed", "9", "--to", "safetensors"], "seed 9: wanted one of the run's, 0, 1"),
        (["--to", "safetensors", "-o", "model.onnx"], "-o model.onnx: wanted a file that ends with .safetensors"),
        (["--to", "safetensors", "-o", "none/m.safetensors"], "is not there; make it first"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_line(home, monkeypatch, arguments, said):
    ended = in_process.run(monkeypatch, "export", "--run", str(home["run"]), *arguments)
    assert ended.code in (1, 2)
    assert said in ended.err


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def not_linear(made, request):
    """A run of a head that is no linear map, of two seeds where it draws something."""
    retrain = made["settings"].retrain.model_copy(update={"head": request.param, "hidden": 16, "epochs": 40})
    settings = made["settings"].model_copy(update={"retrain": retrain})
    folder, result = pipeline.retrain(settings, FeatureCache.open(made["cache"]), made["root"] / "runs")
    return {**made, "run": folder, "result": result, "head": request.param}


def test_a_head_that_is_no_linear_map_predicts_and_is_evaluated_from_its_file(not_linear, home, monkeypatch):
    cache, run = FeatureCache.open(not_linear["cache"]), str(not_linear["run"])
    ended = in_process.run(monkeypatch, "evaluate", "--run", run, "--json", "-q")
    assert ended.json["each_seed"] == [metrics.model_dump() for metrics in not_linear["result"].each_seed]
    rows = _predicted(monkeypatch, "--run", run, home["root"] / "test")
    probabilities_NC = predictor_of(not_linear["run"], cache).probabilities(
        torch.from_numpy(cache.features("test", "clean").astype("float32"))
    )
    assert [[pair["probability"] for pair in row["classes"]] for row in rows] == [
        sorted(values, reverse=True) for values in probabilities_NC.tolist()
    ]
    elsewhere = in_process.run(
        monkeypatch, "evaluate", "--run", run, "--data", str(home["root"] / "test"), "--json", "-q"
    )
    assert elsewhere.json["accuracy"] == pytest.approx(not_linear["result"].accuracy)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".safetensors"])
def test_a_head_that_is_no_linear_map_exports(not_linear, home, monkeypatch, tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    of_images = suffix == ".safetensors"  # backbones are traced in other tests
    document = _export(not_linear, monkeypatch, path, *([] if of_images else ["--head-only"]))
    assert document["parity"]["rows"] == document["parity"]["same_class"] == 21
    assert document["parity"]["largest_difference"] < 1e-3
    assert document["model"]["architecture"] == not_linear["head"]
    if of_images:
        of_run = _predicted(monkeypatch, "--run", not_linear["run"], home["root"] / "test")
        of_file = _predicted(monkeypatch, "--model", path, home["root"] / "test")
        assert [row["classes"][0]["class"] for row in of_run] == [row["classes"][0]["class"] for row in of_file]


def test_the_card_of_a_head_that_is_no_linear_map_has_its_formula(not_linear, home, monkeypatch, tmp_path):
    path = tmp_path / "head.safetensors"
    _export(not_linear, monkeypatch, path, "--head-only")
    np.save(tmp_path / "x.npy", FeatureCache.open(not_linear["cache"]).features("test", "clean"))
    (tmp_path / "use.py").write_text(json.loads((tmp_path / "head.card.json").read_text())["script"])
    done = subprocess.run([sys.executable, "use.py", "x.npy"], cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = _predicted(monkeypatch, "--model", path, "--features", tmp_path / "x.npy")
    for line, row in zip(done.stdout.splitlines(), rows, strict=True):
        named, share = line.rsplit(" ", 1)
        assert named == row["classes"][0]["class"]
        assert float(share) == pytest.approx(row["classes"][0]["probability"], abs=1e-3)


def test_a_head_that_is_no_linear_map_is_read_in_its_own_sizes_alone(not_linear, home, monkeypatch, tmp_path):
    _export(not_linear, monkeypatch, tmp_path / "m.safetensors", "--head-only")
    tensors, metadata = checkpoint.load(tmp_path / "m.safetensors")
    about = json.loads(metadata["coattail"])
    for changes, said in (
        ({"width": 63}, "features and 3 classes, found "),
        ({"classes": ["a"]}, "features and 1 classes, found "),
        ({"architecture": "x"}, "architecture: Value error, wanted one of linear, knn, ridge, disalign, oltr"),
        ({"architecture": "linear"}, "weight_RDC: wanted shape "),
    ):
        checkpoint.save(tmp_path / "o.safetensors", tensors, {"coattail": json.dumps({**about, **changes})})
        with pytest.raises(DataError) as error:
            read_exported(tmp_path / "o.safetensors")
        assert said in str(error.value)


def test_a_file_that_is_no_export_is_refused(home, monkeypatch, tmp_path):
    other = home["run"] / "classifier.safetensors"
    for path, said in ((other, "its metadata has no 'coattail'"), (tmp_path / "no.onnx", "no such file")):
        ended = in_process.run(monkeypatch, "predict", "--model", str(path), str(home["root"] / "test"))
        assert ended.code == 1
        assert said in ended.err
    _export(home, monkeypatch, tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        metadata = file.metadata()
    save_file({name: t for name, t in tensors.items() if name != "mean_3"}, tmp_path / "cut.safetensors", metadata)
    ended = in_process.run(
        monkeypatch, "predict", "--model", str(tmp_path / "cut.safetensors"), str(home["root"] / "test")
    )
    assert ended.code == 1
    assert "its tensors are not those of its network" in ended.err
    ended = in_process.run(monkeypatch, "predict", str(home["root"] / "test"))
    assert (ended.code, "wanted --run FOLDER or --model FILE" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 1 << 40}, "metadata coattail: width: Input should be less than or equal to 1048576"),
        ({"width": 1 << 20}, "weight_RDC: wanted shape [2, 1048576, 3], found [2, 64, 3]"),
        ({"seeds": [*range(1001)]}, "metadata coattail: seeds: Tuple should have at most 1000 items"),
        ({"features_dtype": "load"}, "metadata coattail: features_dtype: Input should be 'float16' or 'float32'"),
        ({"temperature": 0}, "metadata coattail: temperature: Input should be greater than 0"),
        ({"takes": "x"}, "metadata coattail: takes: Input should be 'pixels' or 'features'"),
        ({"backbone_classes": 1 << 40}, "metadata coattail: backbone_classes: Input should be less than or equal to"),
        (
            {"transform": {"size": 1 << 40}},
            "metadata coattail: transform.size: Input should be less than or equal to 4096",
        ),
        (
            {"transform": {"resize": -5}},
            "metadata coattail: transform.resize: Input should be greater than or equal to 1",
        ),
        ({"transform": {"mean": "abc"}}, "metadata coattail: transform.mean: Input should be a valid array"),
        ({"transform": {"std": [0, 0, 0]}}, "metadata coattail: transform.std.0: Input should be greater than 0"),
        ({"transform": {"fit": "x"}}, "metadata coattail: transform.fit: Input should be 'crop' or 'stretch'"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused_before_memory_is_taken(
    home, exported, monkeypatch, tmp_path, changes, said
):
    tensors, metadata = checkpoint.load(exported)
    about = json.loads(metadata["coattail"])
    about |= {name: about[name] | value if name == "transform" else value for name, value in changes.items()}
    checkpoint.save(tmp_path / "m.safetensors", tensors, {**metadata, "coattail": json.dumps(about)})
    ended = in_process.run(
        monkeypatch, "predict", "--model", str(tmp_path / "m.safetensors"), str(home["root"] / "test")
    )
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    assert f"{tmp_path / 'm.safetensors'}: {said}" in ended.err
    assert ended.err.endswith("; export the run again\n")


@pytest.fixture(scope="module")
def exported(made):
    """The run as one safetensors file."""
    path = made["root"] / "exported.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COATTAIL_RUNS", str(made["root"] / "runs"))
        patch.setenv("COATTAIL_STORES", str(made["root"] / "stores"))
        _export(made, patch, path)
    return path


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_the_cards_script_makes_an_image_a_square_as_the_cache_did(tmp_path, fit, interpolation):
    transform = {"size": 8, "resize": 10, "interpolation": interpolation, "fit": fit}
    lines = card_script._square(transform)
    script = f"import numpy as np\nfrom PIL import Image\n\ndef pixels(image):\n{lines}\n"
    made: dict = {}
    exec(compile(script, "card", "exec"), made)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (13, 29, 3)).astype(np.uint8))
    wanted_HW3 = clean(8, 10, interpolation, fit)(image).permute(1, 2, 0).numpy()
    assert (made["pixels"](image)[0] == wanted_HW3).all()
