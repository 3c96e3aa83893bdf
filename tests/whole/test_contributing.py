"""What CONTRIBUTING.md says is true: files and registers exist, its examples are the code, and a new row is all that a head,
an augmentation, a source or a store wants."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from cache.errors import PlaceInvalid
from cache.sharing import at, schemes
from pipeline import stage3_record
from pipeline.augment import kinds as augmentations
from pipeline.errors import ConfigError
from pipeline.images import sources
from pipeline.images.sources.source import Raw, Source
from pipeline.metrics import Metrics
from pipeline.report import figures as pictures
from pipeline.report.figures import panel
from pipeline.report.tables import results_table
from pipeline.settings import register, stage3, used
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
    ("title", "steps"),
    [
        ("a head", 3),
        ("an augmentation", 4),
        ("a source of images", 5),
        ("an object store", 5),
        ("a metric", 5),
        ("a figure", 5),
    ],
)
def test_each_is_a_few_steps(title, steps):
    wanted = [str(step) for step in range(1, steps + 1)]
    assert re.findall(r"^(\d)\. ", section(f"Add {title}"), re.MULTILINE) == wanted


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
    for name in ("HEADS", "AUGMENTATIONS"):
        assert f"`{name}`" in TEXT
        assert hasattr(register, name)
    assert hasattr(used, "CONDITIONS")


def test_a_head_of_one_file_and_one_row_trains(cache, tmp_path):
    """In a copy of the packages, with the file and the row put there."""
    for package in ("cache", "pipeline"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pipeline" / "classifiers" / "example.py").write_text(
        "import torch\nfrom torch import Tensor\nfrom pipeline.classifiers.step import Loss\n"
        "from pipeline.classifiers.trained import cross_entropy\nfrom pipeline.settings.stage3 import Retrain\n\n\n"
        + example("pipeline/classifiers/trained.py")
    )
    register_file = tmp_path / "pipeline" / "settings" / "register.py"
    row = example("pipeline/settings/register.py", "HEADS").strip()
    beginning = "HEADS: dict[str, Head] = {\n"
    text = register_file.read_text()
    assert text.count(beginning) == text.count(row) == 1
    added = row.replace('"logit-adjusted"', '"example"').replace("trained.under", "example.under")
    register_file.write_text(text.replace(beginning, f"{beginning}    {added}\n"))
    code = (
        "import sys, torch\nfrom cache import FeatureCache\nfrom pipeline.classifiers import train_classifier\n"
        "from pipeline.settings import Settings\n"
        "rest = {'augmentation': 'none', 'start': 'fresh', 'epochs': 3}\n"
        "found = [train_classifier(Settings.model_validate({'retrain': {'head': head, **rest}}), FeatureCache.open(sys.argv[1]),"
        " [0], None).tensors() for head in ('example', 'logit-adjusted')]\n"
        "assert all(torch.equal(found[0][name], found[1][name]) for name in ('weight', 'bias'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code, str(cache.path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
    assert set(stage3_record.FIGURES) <= set(Metrics.model_fields)
    assert set(stage3_record.FIGURES) <= set(stage3_record.RetrainResult.model_fields)
    columns = {column.name for column in results_table([], "stage 1", "title").columns if column.figures}
    assert columns - {"seeds", "s"} == {"all", "balanced", "many", "medium", "few", "ECE"}
    assert len(columns) - 2 == len(stage3_record.FIGURES)


def test_every_benchmark_is_named():
    benchmarks = {path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert benchmarks == set(re.findall(r"tests/benchmarks/(\w+)\.py", TEXT))
