"""Every command of README, of the pages and of --help runs, in one toy project; what does not is in a list, with the reason."""

import runpy
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.commands import which_cache
from pipeline.commands.examples import EXAMPLES
from pipeline.report.figures import PICTURES
from tests.support.toy_project import QUICK, commands_of, toy_project

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "reference"}
TEXTS["README"] = (ROOT / "README.md").read_text()
NOT_RUN = {
    "coattail demo": "half a minute; CI runs it, as `make demo`, from a clean clone",
    "coattail run --config own.toml": "trains stage 1, as `run photos/` does, which runs; tests/whole/test_cli.py has it",
    "coattail run --config photos.toml": "the same",
    "coattail run photos/ --backbone efficientnet-lite0": "weights of an extra; tests/pipeline/backbones/ has them",
    "coattail run --cache 4189": "the work of `demo --sample`, which runs; tests/whole/test_cli.py has it",
    "coattail compare --cache 6806 --preset paper-table2": "trains every method of the table; tests/pipeline/comparing/test_presets.py has presets",
}
"""A command that is left out -> why."""
FEW = ("--methods", "crt,lda")
MORE = {
    "coattail cache rm 6806": ("--yes",),
    "coattail compare --cache 6806 --seeds 5": (*FEW, *QUICK[-2:]),
    "coattail run photos/": QUICK,
    "coattail demo --sample cifar100-lt": QUICK[2:],
    "coattail train-backbone --config cifar100-lt": (
        *("--set", "longtail.n_max=3", "--set", "longtail.imbalance_factor=3", "--set", "data.image_size=8"),
        *("--set", "stage1.epochs=1"),
    ),
}
"""A command -> words that are added: it answers its own question, or does with few steps and methods."""
MORE["coattail extract --config cifar100-lt"] = MORE["coattail train-backbone --config cifar100-lt"]
WANTED = {"--to onnx": ("onnx", "onnxscript", "onnxruntime"), "model.onnx": ("onnx", "onnxscript", "onnxruntime")}
"""A part of a command -> the packages of an extra without which it is not run."""
FIRST = {
    "coattail extract --config cifar100-lt": "coattail train-backbone --config cifar100-lt",
    "coattail cache pull s3://bucket/caches 6806": "coattail cache push s3://bucket/caches 6806",
}
"""An example -> the command that makes what it takes up."""


def examples():
    return {words: f"coattail {text}" for words, text in EXAMPLES.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return toy_project(tmp_path_factory.mktemp("project"), patch)


@pytest.fixture
def project(made, monkeypatch, s3):
    """The project as the working folder, with one figure of the report in place of all: each has a test of its own."""
    made.enter(monkeypatch)
    for name in set(PICTURES) - {"class-counts"}:
        monkeypatch.delitem(PICTURES, name)
    monkeypatch.setattr(which_cache, "sample_path", lambda name: made.place / "stores" / made.keys["6806"])
    return made


def check(project, patch, s3, command, tmp_path):
    lacking = [name for part, names in WANTED.items() if part in command for name in names if find_spec(name) is None]
    if command in NOT_RUN or command in project.ran or lacking:
        return
    if command.startswith("coattail cache rm"):
        shutil.copytree(project.place / "stores", tmp_path / "stores")
        patch.setenv("COATTAIL_STORES", str(tmp_path / "stores"))
    if command.startswith("coattail cache export"):
        (project.place / command.split()[4]).unlink(missing_ok=True)  # nothing is replaced
    text = command.replace("s3://team/features", s3.url).replace("s3://bucket/caches", s3.url)
    done = project.run(patch, text, *MORE.get(command, ()))
    assert done.code == 0, f"{command}: {done.err}"
    project.enter(patch)
    if "s3://" not in command:  # each test has a bucket of its own
        project.ran.add(command)


@pytest.mark.parametrize("page", TEXTS)
def test_the_commands_of_a_page_run(page, project, monkeypatch, s3, tmp_path):
    for path in project.write_files(TEXTS[page]):
        if path.suffix == ".py":
            runpy.run_path(str(path))
    for command in commands_of(TEXTS[page]):
        check(project, monkeypatch, s3, command, tmp_path)


@pytest.mark.parametrize("words", EXAMPLES)
def test_the_example_that_help_begins_with_runs(words, project, monkeypatch, s3, tmp_path):
    command = examples()[words]
    project.write_files("")
    if command in FIRST:
        check(project, monkeypatch, s3, FIRST[command], tmp_path)
    if words == "cache pull":  # to where it is not yet
        monkeypatch.setenv("COATTAIL_STORES", str(tmp_path / "pulled"))
    check(project, monkeypatch, s3, command, tmp_path)


def test_the_lists_name_commands_that_there_are():
    there = {*examples().values(), *(command for text in TEXTS.values() for command in commands_of(text))}
    assert {*NOT_RUN, *MORE, *FIRST} - there == set()
    assert all(any(part in command for command in there) for part in WANTED)
