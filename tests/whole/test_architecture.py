"""Imports point one way: cli -> pipeline -> cache. `cache` never sees torch, and `--help` does not import it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = sorted((ROOT / "cache").rglob("*.py"))
PIPELINE = sorted((ROOT / "pipeline").rglob("*.py"))
COMMANDS = sorted(ROOT.glob("cli*.py"))


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", CACHE, ids=lambda path: path.name)
def test_cache_knows_neither_torch_nor_the_science(path):
    assert not _imported(path) & {"torch", "torchvision", "pipeline", "cli", "click"}


@pytest.mark.parametrize(
    "path", [path for path in PIPELINE if path.parent.name != "commands"], ids=lambda path: path.name
)
def test_pipeline_does_not_know_its_commands(path):
    assert not _imported(path) & {"cli", "click"}
    assert "pipeline.commands" not in path.read_text()


@pytest.mark.parametrize("path", [*CACHE, *PIPELINE, *COMMANDS], ids=lambda path: path.name)
def test_nothing_unpickles_or_evaluates(path):
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not calls & {
        "torch.load",
        "torch.save",
        "eval",
        "exec",
        "pickle.load",
        "pickle.loads",
        "joblib.load",
        "joblib.dump",
    }
    assert "pickle" not in _imported(path)


@pytest.mark.parametrize("path", [*CACHE, *PIPELINE, *COMMANDS], ids=lambda path: path.name)
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["retrain", "--help"],
        ["config", "show"],
        ["config", "show", "--json"],
        ["cache", "ls"],
        ["cache", "--help"],
    ],
)
def test_commands_that_only_talk_do_not_import_torch(arguments):
    code = f"import sys, cli; sys.argv[1:] = {arguments!r}\ntry: cli.main()\nexcept SystemExit as e: assert not e.code, e.code\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "False"
    assert done.stdout
