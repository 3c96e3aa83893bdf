"""The rules of the house: who imports whom, where things lie, what a name means; `--help` imports no torch."""

import ast
import graphlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = sorted((ROOT / "cache").rglob("*.py"))
PIPELINE = sorted((ROOT / "pipeline").rglob("*.py"))
COMMANDS = sorted(ROOT.glob("cli*.py"))
EVERY = [*CACHE, *PIPELINE, *COMMANDS]
TOP = {"pipeline", "cli.py", "cache", "configs", "tests", "pyproject.toml"}
"""The top level, beside documents and what git, CI and make want."""
DOCUMENTS = {"docs", "LICENSE", "Makefile", ".ci", ".gitignore", ".gitattributes"}
LEVELS = (
    {"cli"},
    {"pipeline.commands", "pipeline.notebook"},
    {"pipeline.report"},
    {"pipeline"},
    {"pipeline.compare", "pipeline.sweep", "pipeline.plan"},
    {"pipeline.sweeping", "pipeline.planning"},
    {"pipeline.comparing"},
    {"pipeline.export"},
    {"pipeline.exporting"},
    {"a stage"},
    {"pipeline.evaluate", "pipeline.predicting", "pipeline.inspecting"},
    {"pipeline.classifiers", "pipeline.training"},
    {"pipeline.augment", "pipeline.backbones"},
    {"pipeline.stg", "pipeline.images"},
    {"pipeline.features"},
    {"pipeline.machine"},
    {"pipeline.metrics"},
    {"pipeline.artefacts"},
    {"pipeline.longtail"},
    {"pipeline.settings"},
    {"the ground"},
    {"cache"},
)
"""Modules import from levels below their own, and within their own folder. A file that no level names is a stage's."""
GROUND = {f"pipeline.{name}" for name in ("losses", "samplers", "rng", "errors", "progress", "coordinates")}
GROUND |= {"pipeline.report.printable"}  # pure text, which `progress`, too, prints through
TWICE = {
    "__all__": "Python's own word",
    "train_backbone train_stg extract retrain run evaluate compare sweep": "the command, and the function of the science that it calls",
    "load save": "of a module named for what is loaded: tensors.load, dataset.load, settings.load, features.load",
    "digest": "of tensors, of images: both named with their module",
    "build": "a backbone, a generator, a manifest: named with their module",
    "document text": "what --json prints and what a person reads, each beside its own result",
    "draw": "a view's random numbers; the long tail's rows",
    "transform": "Eq. 3, whose name others rely on; an image's operation",
    "figures": "a classifier's percentages; columns of a table",
    "available": "configs; samples",
    "candidates": "paths of an image; caches to prune, as text",
    "NAME": "of a file that a module writes, or the pattern of a name",
    "MADE_BY": "the settings that a cache, that a backbone, that a classifier comes from",
    "LIMIT": "bytes that a module reads at most of a file of its kind",
    "AUGMENTATIONS": "the register; what people call each; what settings each uses",
    "begin tensors objective finish": "what a Training is made of, in the file of each head",
    "ldam focal balanced_softmax class_balanced reweighted": "the loss, a pure function; the head that is trained with it",
    "Part": "of a batch; of a text; of an identity; of a file",
    "BLOCK BLOCK_BYTES": "what is read at a time of a bucket, a disk, an array",
    "BASE_BYTES ENCODINGS FOOTER_LIMIT PAGE_BYTES allowed_bytes decoded_bytes check": "our Parquet is read more strictly",
    "RATIO": "of Parquet that is read, and of Parquet that is written",
    "ls": "of a folder; of a place",
    "parse": "a manifest; a Parquet footer",
    "read": "a file; a chunk",
    "HEADER_BYTES": "of a .npy, of a safetensors file, of a classifier in a cache",
    "IN_THE_WAY REASON": "what the system says where a file cannot appear; why a format is refused",
    "BLOCK_VALUES": "numbers held at a time, by what they are",
    "ROUNDING": "of a column of features; of a gradient",
    "KINDS Kind kind": "heads; augmentations; a checkpoint's: named with their module",
    "HEADS TRAINED": "the register; what people call a head; what settings it uses",
    "METRICS": "of distance; of a choice",
    "LOOKED_AT SHOWN SIDE": "how much of a file, of a text, of an image a module takes",
    "LABEL_NAMES Columns": "of arrays, of tables: what each kind of source calls them",
    "SEEN NEAR": "heads, columns; classes, rows",
    "Step": "of training: a batch; of a plan: a stage",
    "settings_of": "a folder of images; a run folder",
    "Backbone": "the section of settings; a network",
    "Batch Rows": "a bounded number; a step's rows",
    "Choice": "the section of settings; what was chosen",
    "PATIENCE": "of a search on held-out rows; of a generator; of processes that wait",
    "FIRST": "what a fresh classifier is trained with; lines looked at first",
    "Training": "what a head trains; a backbone's",
    "NAMED NAMED_MISSING": "how many are named before the rest are counted",
    "FORMATS": "of images that are read; that carry an orientation",
    "export": "a cache as files; a run as one model: the subcommand of cache, and the command",
    "stage1": "the stage; the head that is its classifier",
    "clean PLAIN fit scaled Finite arms": "pure functions and values named with their module",
}
"""Names that two files of a package define, and why that does not mislead."""


def module(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in EVERY}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The modules of ours that a file imports, also within functions, and the name it takes from each ("": the module)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if inner in MODULES else (node.module, alias.name)


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


def folder(name: str) -> str:
    """The folder of a package that a module lies in, with what is below it; "" for a file at the package's root."""
    package, *inside = name.split(".")
    lies_in_one = bool(inside) and (ROOT / package / inside[0]).is_dir()
    return f"{package}.{inside[0]}" if lies_in_one else ""


def level(name: str) -> int:
    """How far down a module lies."""
    if name in GROUND:
        name = "the ground"
    elif name.startswith("cache"):
        name = "cache"
    else:
        name = folder(name) or name
        assert not (folder(name) and all(name not in names for names in LEVELS)), f"{name}: which level of LEVELS?"
    places = [number for number, names in enumerate(LEVELS) if name in names]
    return places[0] if places else next(number for number, names in enumerate(LEVELS) if "a stage" in names)


@pytest.mark.parametrize("path", EVERY, ids=module)
def test_imports_point_down(path):
    own = module(path)
    for name, _ in imports(path):
        below = level(name) > level(own)
        together = folder(name) == folder(own) or own.startswith("cache") or own in GROUND
        beside = together and level(name) == level(own)
        assert below or beside, f"{own} imports {name}, which lies above or beside it"


@pytest.mark.parametrize("package", ["cache", "pipeline"])
def test_no_folders_import_each_other(package):
    graph: dict[str, set[str]] = defaultdict(set)
    for path in MODULES.values():
        own = folder(module(path))
        graph[own] |= {folder(name) for name, _ in imports(path) if name not in GROUND} - {own, ""} if own else set()
    graph = {own: others for own, others in graph.items() if own.startswith(package)}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the folders


def test_stages_do_not_call_stages():
    calls = set()
    for own, path in MODULES.items():
        stage = own.partition("_")[0]
        others = {name for name, _ in imports(path) if name.startswith("pipeline.stage")}
        if own.startswith("pipeline.stage"):
            calls |= {(own, name) for name in others if name.partition("_")[0] != stage}
        elif own == "pipeline.compare" or own.startswith("pipeline.comparing"):
            calls |= {(own, name) for name in others if name == "pipeline.stage2_stg"}
    assert not calls


@pytest.mark.parametrize("path", EVERY, ids=module)
def test_what_is_private_to_a_file_stays_there(path):
    taken = [f"{name}.{taken}" for name, taken in imports(path) if taken.startswith("_") and taken != "__all__"]
    assert not taken


@pytest.mark.parametrize("package", ["cache", "pipeline"])
def test_a_name_means_one_thing_or_the_reason_is_listed(package):
    defined: dict[str, list[str]] = defaultdict(list)
    for own, path in MODULES.items():
        if own.split(".")[0] != package:
            continue
        for name in set(_defined(path)):
            defined[name].append(own)
    reasons = {name for names in TWICE for name in names.split()}
    twice = {name: files for name, files in defined.items() if len(files) > 1 and name not in reasons}
    assert not twice, f"rename one, or say in TWICE why both may have it: {twice}"


def _defined(path: Path) -> Iterator[str]:
    """The names that a file defines at its top and that others may use."""
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        yield from (name for name in names if not name.startswith("_"))


def test_the_top_level_is_the_given_one():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = {line.partition("/")[0].strip('"') for line in listed.stdout.splitlines()}
    assert found >= TOP
    assert {name for name in found - TOP - DOCUMENTS if not name.endswith(".md")} == set()


@pytest.mark.parametrize("path", CACHE, ids=module)
def test_cache_knows_neither_torch_nor_the_science(path):
    assert not _imported(path) & {"torch", "torchvision", "pipeline", "cli", "click"}


@pytest.mark.parametrize("path", [path for path in PIPELINE if path.parent.name != "commands"], ids=module)
def test_pipeline_does_not_know_its_commands(path):
    assert not _imported(path) & {"cli", "click"}
    assert "pipeline.commands" not in path.read_text()


@pytest.mark.parametrize("path", EVERY, ids=module)
def test_only_one_place_prints_and_one_notes(path):
    """So no text of a stranger reaches the terminal but through `printable`."""
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    writers = {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write", "echo"} & calls
    assert not writers or module(path) in ("pipeline.commands.output", "pipeline.progress")


@pytest.mark.parametrize("path", EVERY, ids=module)
def test_nothing_unpickles_or_evaluates(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    # One place converts the weights of an installed package, with the unpickler that builds tensors and nothing else.
    converts = module(path) == "pipeline.backbones.packaged"
    assert not {
        ast.unparse(node.func)
        for node in calls
        if not (converts and any(ast.unparse(word) == "weights_only=True" for word in node.keywords))
    } & {
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


@pytest.mark.parametrize("path", EVERY, ids=module)
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["retrain", "--help"],
        ["report", "--help"],
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
