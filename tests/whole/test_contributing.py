"""What CONTRIBUTING.md says is true: files and registers exist, its examples are the code, and a new row is all that a head,
an augmentation, a source or a store wants."""

import ast
import importlib
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from cache.errors import PlaceInvalid
from cache.sharing import at, schemes
from pipeline import stage3_retrain
from pipeline.augment import kinds as augmentations
from pipeline.classifiers import kinds, train_classifier, trained
from pipeline.errors import ConfigError
from pipeline.images import sources
from pipeline.images.sources.source import Raw, Source
from pipeline.metrics import Metrics
from pipeline.report import figures as pictures
from pipeline.report.figures import panel
from pipeline.report.tables import results_table
from pipeline.settings import Settings, stage3, used
from pipeline.settings.stage1 import Data

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = re.findall(r"```python\n# (\S+?)(?:, a row of (\w+))?\n(.*?)```", TEXT, re.DOTALL)


def section(title):
    """The text below a heading."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def example(path, register=""):
    return next(code for where, row, code in EXAMPLES if (where, row) == (path, register))


def test_every_file_that_is_named_exists():
    folders = ("cache/", "pipeline/", "tests/", "METHOD")
    paths = {path for path in re.findall(r"`([\w/.]+)`", TEXT) if path.startswith(folders)}
    paths |= set(re.findall(r"tests/[\w/]+\.py", TEXT))
    assert len(paths) > 30
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "title", ["a head", "an augmentation", "a source of images", "an object store", "a metric", "a figure"]
)
def test_each_is_five_steps(title):
    assert re.findall(r"^(\d)\. ", section(f"Add {title}"), re.MULTILINE) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("path", "register", "code"), EXAMPLES, ids=[f"{path} {row}" for path, row, _ in EXAMPLES])
def test_the_examples_are_the_code(path, register, code):
    source = (ROOT / path).read_text()
    if register:
        assert register in source
        assert code.strip() in source
        return
    wanted = ast.parse(code).body[0]
    assert isinstance(wanted, ast.FunctionDef)
    found = next(
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == wanted.name
    )
    if isinstance(found.body[0], ast.Expr):  # the docstring, which the example leaves out
        del found.body[0]
    assert ast.unparse(found) == ast.unparse(wanted)


def test_names_in_capitals_are_where_the_text_says():
    for name, path in re.findall(r"`([A-Z_]+)`[^`\n]*? (?:in|of|to) `((?:pipeline|cache)/[\w/]+\.py)`", TEXT):
        module = importlib.import_module(path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
        assert hasattr(module, name), f"{path} has no {name}"
    for name in ("HeadName", "HEADS", "TRAINED", "PRIOR_AWARE", "AugmentationName", "AUGMENTATIONS"):
        assert f"`{name}`" in TEXT
        assert hasattr(stage3, name)
    for name in ("HEADS", "AUGMENTATIONS", "CONDITIONS"):
        assert hasattr(used, name)


def test_a_head_of_one_function_and_one_row_trains(cache, monkeypatch):
    names = vars(trained).copy()
    exec(example("pipeline/classifiers/trained.py"), names)
    training = trained.Training(trained.weights_and_bias, names["under_the_prior"])
    monkeypatch.setitem(kinds.KINDS, "example", trained.head(training))
    monkeypatch.setattr(stage3, "TRAINED", (*stage3.TRAINED, "example"))
    monkeypatch.setattr(stage3, "PRIOR_AWARE", (*stage3.PRIOR_AWARE, "example"))
    settings = Settings.model_validate({"retrain": {"augmentation": "none", "start": "fresh", "epochs": 3}})
    classifiers = []
    for head in ("example", "logit-adjusted"):
        asked = settings.model_copy(update={"retrain": settings.retrain.model_copy(update={"head": head})})
        classifiers.append(train_classifier(asked, cache, [0], None).tensors())
    assert torch.equal(classifiers[0]["weight"], classifiers[1]["weight"])
    assert torch.equal(classifiers[0]["bias"], classifiers[1]["bias"])


def test_an_augmentation_of_one_function_and_one_row_acts(monkeypatch):
    names = vars(augmentations).copy()
    exec(example("pipeline/augment/kinds.py"), names)
    monkeypatch.setitem(augmentations.KINDS, "example", augmentations.Kind(True, False, names["_noise"]))
    features, noise = torch.zeros(1, 4, 3), torch.ones(1, 4, 3)
    nothing = torch.zeros(1, 4, dtype=torch.long)
    draw = augmentations.Draw(features, nothing, nothing, noise, torch.empty(0))
    augmentation = augmentations.Augmentation(augmentations.kind("example"), None, torch.zeros(2))
    found = augmentations.augment(draw, [stage3.Retrain(noise=0.25)], augmentation)
    torch.testing.assert_close(found, torch.full((1, 1, 4, 3), 0.25))


def test_a_source_of_one_function_and_one_row_is_loaded(monkeypatch):
    def load_example(data):
        return Source(("a", "b"), {"train": Raw(["1", "2"], np.array([0, 1]), lambda rows: [])})

    data = Data.model_construct(source="example")
    with pytest.raises(ConfigError, match=r"data\.source: wanted one of digits, parquet"):
        sources.load_source(data)
    monkeypatch.setitem(sources.SOURCES, "example", load_example)
    assert sources.load_source(data).classes == ("a", "b")
    assert set(sources.SOURCES) - {"example"} == set(get_args(Data.model_fields["source"].annotation))


def test_a_store_of_one_row_is_opened(monkeypatch):
    with pytest.raises(PlaceInvalid, match="found example://"):
        at("example://bucket/folder")
    made = []

    def client(bucket, **options):
        made.append((bucket, options["config"]))

    row = schemes.Scheme("EXAMPLE_KEY", ("EXAMPLE_ENDPOINT",), ("EXAMPLE_KEY",), (), client, {"config": 1})
    monkeypatch.setitem(schemes.SCHEMES, "example", row)
    at("example://bucket/folder")
    assert set(made) == {("bucket", 1)}


def test_a_figure_of_one_function_and_one_row_is_drawn(monkeypatch):
    def line(evidence):
        drawing, axes = panel.new_axes()
        axes.plot(evidence, evidence)
        return panel.Picture("Example", "A line.", (panel.Panel("", drawing, "a line"),))

    for name in tuple(pictures.PICTURES):
        monkeypatch.delitem(pictures.PICTURES, name)
    monkeypatch.setitem(pictures.PICTURES, "example", line)
    ((name, picture),) = pictures.drawn([1, 2])
    assert (name, picture.title) == ("example", "Example")
    assert panel.as_svg(picture.panels[0], name).startswith("<svg")
    assert panel.as_png(picture.panels[0]).startswith(b"\x89PNG")


def test_every_metric_is_a_field_with_a_column():
    assert set(stage3_retrain.FIGURES) <= set(Metrics.model_fields)
    assert set(stage3_retrain.FIGURES) <= set(stage3_retrain.RetrainResult.model_fields)
    columns = {column.name for column in results_table([], "stage 1", "title").columns if column.figures}
    assert columns - {"seeds", "s"} == {"all", "balanced", "many", "medium", "few", "ECE"}
    assert len(columns) - 2 == len(stage3_retrain.FIGURES)


def test_every_benchmark_is_named():
    benchmarks = {path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert benchmarks == set(re.findall(r"tests/benchmarks/(\w+)\.py", TEXT))
