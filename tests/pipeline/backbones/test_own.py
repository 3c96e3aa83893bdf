"""One's own module: its source is part of what a cache is, and what is wrong with it is one line."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from pipeline.backbones import own
from pipeline.backbones.own import own_module
from pipeline.backbones.source import source_digest
from pipeline.errors import ConfigError, DataError

SHORT = ("--set", "extract.views=0", "--set", "data.image_size=8", "--set", "longtail.n_max=40")
FLAT = """import torch
from beside import FACTOR


class Flat(torch.nn.Module):
    def forward(self, x):
        return FACTOR * x.mean((2, 3))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder whose modules this process forgets."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    own._DIGESTS.clear()
    importlib.invalidate_caches()


def test_an_edited_source_is_another_cache(coattail, tmp_path):
    (tmp_path / "mine.py").write_text(FLAT)
    (tmp_path / "beside.py").write_text("FACTOR = 2.0\n")
    (tmp_path / "unrelated.py").write_text("")
    command = ("extract", "--config", "digits-lt", *SHORT, "--backbone-module", "mine:Flat", "-q")
    caches = set()
    for name, text in (
        ("unrelated.py", "A = 1\n"),  # the first one
        ("beside.py", "FACTOR = 3.00\n"),
        ("mine.py", FLAT.replace("FACTOR *", "FACTOR +")),
    ):
        (tmp_path / name).write_text(text)
        done = coattail(*command)
        assert done.code == 0, done.err
        assert done.out not in caches
        caches.add(done.out)
    (tmp_path / "unrelated.py").write_text("A = 22\n")
    assert coattail(*command).out == done.out


def test_what_a_module_prints_goes_to_stderr(folder, capsys):
    (folder / "loud_t.py").write_text(
        "import torch\nprint('imported')\nclass Loud(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        print('built')\n    def forward(self, x):\n        print('called')\n        return x.mean((2, 3))\n"
    )
    own_module("loud_t:Loud", 4)(torch.zeros(3, 3, 4, 4))
    assert capsys.readouterr() == ("", "imported\nbuilt\ncalled\ncalled\n")


def test_what_a_source_s_digest_is_over(folder):
    (folder / "alone_t.py").write_text("import os\nimport torch\n")
    (folder / "pack_t").mkdir()
    for name, text in {
        "pack_t/__init__.py": "",
        "pack_t/net.py": "def build():\n    from . import parts\n    from .deep import block\n",
        "pack_t/parts.py": "import alone_t",
        "pack_t/deep/__init__.py": "",
        "pack_t/deep/block.py": "from ..other import x",
        "pack_t/other.py": "x = 1",
        "pack_t/unused.py": "",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    monkey = sys.path
    sys.path = [str(folder), *monkey]
    try:
        module = importlib.import_module("pack_t.net")
    finally:
        sys.path = monkey
    before = source_digest(module)
    for name in (
        "pack_t/__init__",
        "pack_t/parts",
        "alone_t",
        "pack_t/deep/block",
        "pack_t/deep/__init__",
        "pack_t/other",
    ):
        path = folder / f"{name}.py"
        kept = path.read_text()
        path.write_text(f"{kept}\n# another\n")
        assert source_digest(module) != before, name
        path.write_text(kept)
    (folder / "pack_t/unused.py").write_text("# another")
    assert source_digest(module) == before


def test_a_source_that_changes_within_a_process(folder):
    (folder / "changing_t.py").write_text("import torch\nx = torch.nn.Flatten()\n")
    own_module("changing_t:x", 8)
    (folder / "changing_t.py").write_text("import torch\nx = torch.nn.Flatten(2)\n")
    with pytest.raises(ConfigError) as error:
        own_module("changing_t:x", 8)
    assert str(error.value) == (
        "--backbone-module changing_t:x: its source has changed since this process imported it; start a new process"
    )


NET = "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        {}\n"
FEATURES = "wanted features (B, D), D 1 or more, found {} of 2 images"
TRIED = "wanted features (B, D) of 2 images of 8 x 8 pixels, found {}"
RETURNS = "wanted an nn.Module, or what returns one without arguments, found {}"
IMPORTED = "wanted module:attribute that can be imported from {folder}, found {}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (NET.format("return x, x"), FEATURES.format("a tuple")),
        (NET.format("return x[:, 0, 0, :0]"), FEATURES.format("shape (2, 0)")),
        (NET.format("return x"), FEATURES.format("shape (2, 3, 8, 8)")),
        (NET.format("return None"), FEATURES.format("a NoneType")),
        (NET.format("raise KeyError('a\\nb')"), TRIED.format("KeyError: 'a\\nb'")),
        (NET.format("raise SystemExit(0)"), TRIED.format("SystemExit: 0")),
        (NET.format("return torch.zeros(3)[x]"), None),
        ("def Net():\n    raise ZeroDivisionError('no')", RETURNS.format("ZeroDivisionError: no")),
        ("Net = 3", "wanted an nn.Module, found int"),
        ("Net = (", None),
        ("1 / 0", IMPORTED.replace("{}", "ZeroDivisionError: division by zero")),
        ("raise SystemExit(3)", IMPORTED.replace("{}", "SystemExit: 3")),
        ("import not_there_t", IMPORTED.replace("{}", "ModuleNotFoundError: No module named 'not_there_t'")),
        ("", IMPORTED.replace("{}", "AttributeError: module 'wrong_t' has no attribute 'Net'")),
    ],
)  # fmt: skip
def test_a_module_that_is_none(folder, text, problem):
    (folder / "wrong_t.py").write_text(text)
    with pytest.raises(ConfigError) as error:
        own_module("wrong_t:Net", 8)
    assert "\n" not in str(error.value)
    if problem is not None:
        assert str(error.value) == f"--backbone-module wrong_t:Net: {problem.replace('{folder}', str(folder))}"


@pytest.mark.parametrize(
    "reference", ["", "mine", ":build", "mine:", ".mine:build", "a..b:c", "mine:a.b", "a b:c", "a:b:c"]
)
def test_a_name_that_is_none(reference):
    with pytest.raises(ConfigError) as error:
        own_module(reference, 8)
    assert str(error.value) == f"--backbone-module {reference}: wanted module:attribute, such as mine:build"


def test_a_module_that_fails_later(folder):
    (folder / "later_t.py").write_text(
        NET.format("if len(x) == 3: raise ValueError('three')\n        return x[:1].mean((2, 3)).expand(2, 3)")
    )
    module = own_module("later_t:Net", 8)
    assert module(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
    for count, problem in (
        (3, "raised ValueError: three for 3 images; correct the module"),
        (5, "wanted features (5, 3) of 5 images, found shape (2, 3); correct the module"),
    ):
        with pytest.raises(DataError) as error:
            module(torch.zeros(count, 3, 8, 8))
        assert str(error.value) == f"--backbone-module later_t:Net: {problem}"


def test_a_damaged_module_is_one_line_of_the_command(coattail, tmp_path):
    (tmp_path / "wrong.py").write_text("def build(:\n")
    done = coattail("extract", "--config", "digits-lt", "--backbone-module", "wrong:build")
    assert done.code == 2
    assert done.err.startswith("coattail: --backbone-module wrong:build: wanted module:attribute that can be imported")
    assert len(done.err.splitlines()) == 1
