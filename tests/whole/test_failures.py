"""Bad input of every kind to every command: one line, an exit code, and nothing that a terminal obeys; no traceback."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import toy_caches as toys
from conftest import ROOT
from in_process import run
from toy_images import write_folder

import cli
import pipeline.progress
import pipeline.settings.load

NO_ROOM = "can't allocate memory: you tried to allocate 9 bytes"


def failing(monkeypatch, error: BaseException, *more: str):
    def fails(*_):
        raise error

    monkeypatch.setattr(pipeline.settings.load, "load", fails)
    return run(monkeypatch, "config", "show", *more)


@pytest.mark.parametrize(
    ("error", "reason", "more"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried 2 GiB"), "CUDA out of memory. Tried 2 GiB", "; in stages 2 and 3 set device=cpu"),
        (RuntimeError(f"DefaultCPUAllocator: {NO_ROOM}"), f"DefaultCPUAllocator: {NO_ROOM}", ""),
        (MemoryError(), "nothing is left", ""),
    ],
)  # fmt: skip
def test_too_little_memory_is_one_line_with_what_to_lower(monkeypatch, error, reason, more):
    done = failing(monkeypatch, error)
    assert (done.code, done.err) == (
        1,
        f"coattail: out of memory ({reason}); raise stage1.accumulate or lower stage1.batch_size; elsewhere lower "
        f"extract.batch_size, retrain.seeds or ram_limit{more}\n",
    )


@pytest.mark.parametrize("error", [RuntimeError("a bug\nof ours"), KeyError("bug"), RecursionError(), AssertionError()])
def test_what_nobody_foresaw_is_one_line_and_a_log_with_the_traceback(monkeypatch, tmp_path, error):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = failing(monkeypatch, error)
    reason = " ".join(str(error).split())
    what = f"unforeseen {type(error).__name__}" + (f": {reason}" if reason else "")
    (log,) = tmp_path.glob("coattail-*.log")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"coattail: {what}; this is coattail's mistake: please report it with {log}\n"
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert "in fails" in text
    assert "['coattail', 'config', 'show']" in text


def test_a_log_that_cannot_be_written_hides_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    done = failing(monkeypatch, RuntimeError("a bug"))
    assert done.err == (
        "coattail: unforeseen RuntimeError: a bug; this is coattail's mistake: please report it "
        "(no log: No such file or directory)\n"
    )


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug"), OSError(28, "No space left on device", "x")])
def test_under_json_a_failure_is_a_document_too(monkeypatch, tmp_path, error):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = failing(monkeypatch, error, "--json")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert done.err == f"coattail: {done.json['error']}\n"


def test_under_json_a_command_called_wrongly_is_a_document_too(monkeypatch):
    done = run(monkeypatch, "retrian", "--json")
    assert (done.code, done.json) == (2, {"error": "no such command 'retrian'; did you mean retrain?"})
    done = run(monkeypatch, "config", "show", "--set", "stage1.epoch=1", "--json")
    error = "--set: stage1.epoch: unknown key, found 1; did you mean stage1.epochs?"
    assert (done.code, done.json, done.err) == (2, {"error": error}, f"coattail: {error}\n")


@pytest.mark.parametrize("place", ["ftp://x", "s3://", "s3://team/../x"])
@pytest.mark.parametrize("command", [["cache", "ls"], ["cache", "pull"], ["retrain", "--cache"]])
def test_a_text_that_can_be_no_place_is_a_command_called_wrongly(monkeypatch, tmp_path, command, place):
    monkeypatch.chdir(tmp_path)
    done = run(monkeypatch, *command, place, *(["0123"] if command == ["cache", "pull"] else []))
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert done.err.startswith(f"coattail: {place.partition(':')[0]}:")


BAD = {
    "nobody": "~nouser/x",
    "nul": "a\0b",
    "bytes": "\udcff\udcfe",
    "long": "x" * 5000,
    "empty": "",
    "lines": "a\nb",
    "escape": "\x1b]0;x\x07",
    "backwards": "\u202egnp.exe",
    "number": "9" * 5000,
    "brackets": "[" * 3000,
    "folder": "/proc/self/fd",
    "zero": "zero",  # a link to /dev/zero, which never ends
    "pipe": "pipe",  # nobody writes into it
}
BEHIND = {
    "run": {"--cache": "KEY", "--head": "ncm", "--dry-run": ""},
    "retrain": {"--cache": "KEY", "--head": "ncm"},
    "train-stg": {"--cache": "KEY", "--dry-run": ""},
    "train-backbone": {"--config": "digits-lt", "--dry-run": ""},
    "extract": {"--config": "digits-lt"},
    "evaluate": {"--run": "RUN"},
    "predict": {"--run": "RUN", "--features": "features.npy"},
    "export": {"--run": "RUN", "--to": "safetensors", "--head-only": ""},
    "inspect": {"--cache": "KEY", "--no-labels": ""},
    "compare": {"--cache": "KEY", "--methods": "ncm,stage1"},
    "sweep": {"sweep.toml": "", "--cache": "KEY"},
    "report": {"RUN": ""},
    "cache push": {"place": "", "KEY": ""},
    "cache pull": {"place": "", "KEY": ""},
    "cache import": {"features.npy": ""},
    "cache export": {"KEY": "", "x.npz": ""},
    "cache ls": {},
    "cache show": {"KEY": ""},
    "cache verify": {"KEY": ""},
    "cache explain": {"KEY": "", "--config": "digits-lt"},
    "cache rm": {"--yes": "", "0123": ""},
    "cache prune": {},
    "config show": {},
    "config init": {"images": ""},
    "config validate": {"--config": "digits-lt"},
    "config diff": {"digits-lt": "", "cifar10-lt": ""},
    "demo": {"--config": "digits-lt", "--set": "stage1.epochs=-1"},
    "results": {},
    "doctor": {},
}
"""What a command wants beside the option that is bad."""
COMMANDS = [
    "cache ls BAD",
    "cache push BAD",
    "cache push place BAD",
    "cache pull BAD 0123",
    "cache pull place BAD",
    "cache show BAD",
    "cache verify BAD",
    "cache verify KEY --subset BAD",
    "cache explain BAD KEY",
    "cache explain KEY BAD",
    "cache explain KEY --config BAD",
    "cache rm --yes BAD",
    "cache prune --keep BAD",
    "cache prune --older-than BAD",
    "cache import BAD",
    "cache import train=BAD",
    "cache import x.npy --labels train=BAD",
    "cache import x.npy --ids train=BAD",
    "cache import x.npy --classes BAD",
    "cache import x.npy --classifier BAD",
    "cache import x.npy --column BAD",
    "cache import x.npy --name BAD",
    "cache export BAD x.npz",
    "cache export KEY BAD",
    "cache export KEY x.npz --split BAD",
    "cache export KEY x.npz --view BAD",
    "config show --config BAD",
    "config show --set BAD",
    "config show --set data.train=BAD",
    "config show --set name=BAD",
    "config show --set stage1.epochs=BAD",
    "config show --seed BAD",
    "demo --config BAD",
    "demo --sample BAD",
    "run --config BAD",
    "run --cache BAD",
    "run --cache KEY --head BAD",
    "train-backbone --config BAD",
    "train-backbone --config digits-lt --set data.source=folder --set data.train=BAD",
    "train-backbone --config digits-lt --set data.source=list --set data.train=BAD",
    "train-backbone --config digits-lt --set data.source=parquet --set data.train=BAD",
    "train-backbone --config digits-lt --set data.source=cifar10 --set data.train=BAD",
    "train-backbone --config digits-lt --set backbone.name=BAD",
    "train-backbone --config digits-lt --set backbone.weights=BAD.safetensors",
    "extract --config BAD",
    "extract --config digits-lt --backbone BAD",
    "extract --config digits-lt --backbone-module BAD",
    "train-stg --cache BAD",
    "train-stg --config BAD",
    "retrain --cache BAD",
    "retrain --config BAD",
    "retrain --cache KEY --stg BAD",
    "retrain --cache KEY --augmentation BAD",
    "retrain --cache KEY --seeds BAD",
    "BAD",
    "cache BAD",
    "run BAD",
    "run BAD --dry-run",
    "predict --run RUN BAD",
    "predict --run RUN --features BAD -o x.csv",
    "predict --model BAD --features features.npy",
    "predict --model BAD.onnx --features features.npy",
    "predict --run RUN --features features.npy -o BAD.csv",
    "export --run RUN --to safetensors --head-only -o BAD.safetensors",
    "evaluate --run RUN --data BAD",
    "evaluate --run RUN --prior BAD.json",
    "inspect BAD",
    "inspect --config digits-lt --set data.source=BAD",
    "sweep BAD --cache KEY",
    "report BAD",
    "report RUN --output BAD/x.html",
    "compare --cache KEY --methods ncm+BAD",
    "config init BAD",
    "config init images -o BAD",
    "config validate BAD",
    "config diff BAD digits-lt",
    "config diff digits-lt BAD",
    "doctor BAD",
]


def each_command(group: click.Group = cli.cli, words: tuple[str, ...] = ()):
    """Every command of the tree: its words, such as `cache ls`, and what click knows of it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from each_command(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def with_a_bad_option():
    """A row for every option of every command that takes a value."""
    for words, command in each_command():
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                names = (*option.opts, *option.secondary_opts)
                rest = [f"{name} {value}" for name, value in BEHIND[words].items() if name not in names]
                yield " ".join([words, *rest, option.opts[0], "BAD"]).replace("  ", " ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a cache, a finished run, features, images, a sweep file, and two files that never end."""
    made = tmp_path_factory.mktemp("bad")
    key = toys.make(made / "stores").name
    np.save(made / "features.npy", np.zeros((2, toys.WIDTH), dtype=np.float32))
    (made / "sweep.toml").write_text('methods = ["ncm"]\n')
    write_folder(made / "images", {"cat": 4, "dog": 4})
    (made / "zero").symlink_to("/dev/zero")
    os.mkfifo(made / "pipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        done = run(patch, "retrain", "--cache", key, "--head", "ncm", "--json")
    assert done.code == 0, done.err
    (made / "run").symlink_to(done.json["run"])
    return made


@pytest.fixture
def here(folder, monkeypatch, tmp_path):
    """In that folder, with logs in a folder of their own."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name in ("COATTAIL_STORES", "COATTAIL_RUNS"):
        monkeypatch.delenv(name, raising=False)
    return folder


def one_line(done, logs: Path) -> None:
    found = [log.read_text() for log in logs.glob("coattail-*.log")]
    assert not found, found[0]
    assert done.code in (0, 1, 2)
    lines = done.err.splitlines()
    assert all(line.isprintable() for line in lines), lines
    assert all(line.isprintable() for line in done.out.splitlines()), done.out
    assert len(done.err) < 20_000
    if done.code and not done.out:  # `doctor` and `verify` report on stdout
        assert lines
        assert lines[-1].startswith(("coattail: ", "Error: ")) or lines[0].startswith("Usage: "), lines
        said = [line for line in lines if line.startswith("coattail: ")]  # others are notes on what was found or done
        assert done.code == 2 or len(said) == 1, lines


def words_of(command: str, kind: str, here: Path) -> list[str]:
    key = next(path.name for path in (here / "stores").iterdir() if len(path.name) == 64)
    names = {"BAD": BAD[kind], "KEY": key, "RUN": "run"}
    return [re.sub("BAD|KEY|RUN", lambda name: names[name[0]], word) for word in command.split(" ")]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", [*COMMANDS, *with_a_bad_option()])
def test_every_command_with_every_kind_of_bad_input(here, monkeypatch, tmp_path, command, kind):
    one_line(run(monkeypatch, *words_of(command, kind, here)), tmp_path)


@pytest.mark.parametrize(
    ("words", "command"), list(each_command()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_argument_of_a_command_is_without_a_row_of_bad_input(words, command):
    rows = [row.removeprefix(words).split() for row in COMMANDS if f"{row} ".startswith(f"{words} ")]
    tried = set()
    for row in rows:
        values, _, _ = command.make_parser(click.Context(command)).parse_args(args=row)
        tried |= {name for name, value in values.items() if "BAD" in str(value)}
    missing = {each.name for each in command.params if isinstance(each, click.Argument)} - tried
    assert not missing, f"add rows to COMMANDS with {', '.join(sorted(missing))} bad"


@pytest.mark.parametrize("command", [*COMMANDS, *with_a_bad_option()])
def test_under_json_every_failure_is_one_document(here, monkeypatch, tmp_path, command):
    for kind in ("long", "folder"):
        done = run(monkeypatch, *words_of(command, kind, here), "--json")
        one_line(done, tmp_path)
        if done.code:
            document = json.loads(done.out)
            assert isinstance(document, list) or "error" in document, done.out


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "nul"])
@pytest.mark.parametrize("variable", ["COATTAIL_STORES", "COATTAIL_RUNS"])
@pytest.mark.parametrize("command", ["cache ls", "retrain --config digits-lt", "doctor", "cache prune"])
def test_folders_named_by_variables(here, monkeypatch, tmp_path, command, variable, kind):
    monkeypatch.setenv(variable, BAD[kind])
    one_line(run(monkeypatch, *command.split(" ")), tmp_path)


@pytest.mark.parametrize("variable", ["COATTAIL_STORES", "COATTAIL_RUNS"])
def test_a_variable_with_the_home_of_nobody(here, monkeypatch, variable):
    monkeypatch.setenv(variable, "~nouser/x")
    done = run(monkeypatch, "doctor")
    assert (done.code, done.out, done.err) == (
        2, "", f"coattail: {variable} ~nouser/x: no user 'nouser', whose home folder ~ would name; write the path out\n"
    )  # fmt: skip


@pytest.mark.parametrize("text", ['train = "~nouser/x"', 'train = "a\\u0000b"'])
def test_a_toml_with_what_is_no_path(here, monkeypatch, tmp_path, text):
    (tmp_path / "own.toml").write_text(f'[data]\nsource = "folder"\n{text}\n')
    for command in (["config", "show"], ["train-backbone"], ["retrain"], ["run"]):
        done = run(monkeypatch, *command, "--config", str(tmp_path / "own.toml"))
        assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
        assert done.err.startswith(f"coattail: {tmp_path}/own.toml: data.train")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "evaluate --run RUN --seed 3",
            "--config, --set and --seed are for --data; of its own cache, a run's own settings hold",
        ),
        (
            "evaluate --run RUN --data images --config digits-lt",
            "--data images and --config digits-lt: give one of them",
        ),
        (
            "export --run RUN --to safetensors --head-only --backbone x",
            "--backbone is for images: --head-only takes features",
        ),
        (
            "export --run RUN --to onx",
            "Invalid value for '--to': 'onx'; did you mean onnx? wanted one of onnx, safetensors, ",
        ),
        (
            "predict --run RUN --features features.npy --image-column x",
            "--backbone and --image-column are for images: --features FILE needs neither",
        ),
        ("report KEY --cache KEY", "a cache is named without it"),
        ("compare --cache KEY --methods ,", "--methods: wanted names such as crt,crt+stg, found none"),
        (
            "compare --cache KEY --methods ncm --set retrain.strength=3",
            "none of the methods uses it; it is for closed-form, stg",
        ),
        (
            "run --cache KEY --dry-run --set data.train=x",
            "data.train: has no effect here: the features of --cache are made",
        ),
        (
            "inspect --cache KEY --set retrain.tau=3",
            "retrain.tau: has no effect here: inspect trains nothing; leave it out",
        ),
        *(
            (
                f"{command} --config digits-lt --set device=nonsense",
                "device: has no effect here: it is for stages 2 and 3; for stage 1 set stage1.device; leave it out",
            )
            for command in ("train-backbone", "train-backbone --dry-run", "extract")
        ),
    ],
)
def test_an_option_that_cannot_matter_is_refused(here, monkeypatch, tmp_path, command, said):
    done = run(monkeypatch, *words_of(command, "empty", here))
    one_line(done, tmp_path)
    assert done.code == 2
    assert said in done.err


def test_a_pipe_whose_reader_has_gone_ends_quietly(here):
    command = f"{sys.executable} {ROOT}/cli.py config show | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_under_stdout_is_one_line(here, more):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), "config", "show", *more],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "coattail: No space left on device\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_ends_as_a_shell_expects(here, number, code):
    program = (
        "import sys, time, pipeline.settings.load as load\n"
        "def waits(*arguments):\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "load.load = waits\n"
        "sys.argv = ['coattail', 'config', 'show']\n"
        "import cli; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, f"coattail: {pipeline.progress.interrupted_text()}\n")


ANSI = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
EVIL = "a\ncoattail: all is well\x1b[2J\x1b]0;t\x07\u202eb\x9b\u2028c"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A working folder with two caches whose every text is made to fool a terminal."""
    made = tmp_path_factory.mktemp("hostile")
    texts = {"backbone": EVIL, "layer": EVIL, "classes": (EVIL, "dog", "owl")}
    parts = {"transform": {EVIL: EVIL}, "view_transform": {EVIL: [EVIL]}}
    record = {"created": EVIL, "author": EVIL, "device": EVIL, "backbone_run": EVIL, "versions": {EVIL: EVIL}}
    first = toys.make(made / "stores", toys.identity(**texts, **parts), settings={"name": "x", EVIL: EVIL}, **record)
    second = toys.make(
        made / "stores", toys.identity(**{**texts, "classes": ("cat", EVIL, "owl")}), settings={"name": EVIL}
    )
    toys.make(
        made / "stores", toys.identity(dtype="float32"), settings={"name": "x", "data": {EVIL: EVIL}, "stage1": EVIL}
    )
    return made, first.name, second.name


LOOKS = [
    ("cache", "ls"),
    ("cache", "ls", "--long"),
    ("cache", "ls", "STORES"),
    ("cache", "show", "FIRST"),
    ("cache", "show", "SECOND"),
    ("cache", "verify", "FIRST"),
    ("cache", "explain", "FIRST", "SECOND"),
    ("cache", "prune", "--older-than", "0"),
    ("cache", "push", "PLACE", "FIRST"),
    ("cache", "push", "PLACE", "FIRST"),
    ("cache", "pull", "PLACE", "FIRST"),
    ("cache", "export", "FIRST", "OUT\u202e.npz"),
    ("cache", "rm", "FIRST"),
    ("retrain", "--cache", "FIRST"),
    ("retrain", "--cache", "SECOND"),
    (
        "run",
        "--no-report",
        "--cache",
        "FIRST",
        "--set",
        "stg.head_classes=1",
        "--set",
        "stg.epochs=1",
        "--set",
        "retrain.epochs=1",
    ),
    ("train-stg", "--cache", "SECOND"),
    ("doctor",),
]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("look", LOOKS, ids="-".join)
def test_texts_of_strangers_neither_command_the_terminal_nor_forge_a_line(
    hostile, monkeypatch, tmp_path, look, encoding
):
    folder, first, second = hostile
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))
    (tmp_path / "logs").mkdir()
    names = {"FIRST": first, "SECOND": second, "STORES": str(folder / "stores"), "PLACE": str(tmp_path / "place\u202e")}
    words = [names.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in look]
    for arguments in (words, [*words, "--json"]):
        done = run(monkeypatch, *arguments, encoding=encoding)
        one_line(done, tmp_path / "logs")
        for line in (done.out + done.err).splitlines():
            assert not ANSI.search(line)
            assert "\n" not in line
            assert not line.startswith("coattail: all is well")
        if arguments[-1] == "--json" and done.out:
            json.loads(done.out)


def test_names_that_are_not_utf_8_are_shown_and_used(monkeypatch, tmp_path):
    folder = tmp_path / "\udcff\udcfe"
    folder.mkdir()
    key = toys.make(folder / "stores").name
    monkeypatch.chdir(folder)
    shown = f"{tmp_path}/\\udcff\\udcfe/stores"
    for encoding in ("utf-8", "ascii", "latin-1"):
        assert run(monkeypatch, "cache", "ls", encoding=encoding).out.startswith(f"caches in {shown}\n")
        for command in (
            ["show", key],
            ["verify", key],
            ["push", f"place-{encoding}", key],
            ["export", key, f"{encoding}.npz"],
        ):
            done = run(monkeypatch, "cache", *command, encoding=encoding)
            assert (done.code, done.err) == (0, ""), done.err
            assert "\\udcff\\udcfe" in done.out or command[0] in ("verify", "export", "push")
            json_out = (
                run(monkeypatch, "cache", *command[:1], key, "--json") if command[0] in ("show", "verify") else None
            )
            assert json_out is None or json.dumps(json_out.json, ensure_ascii=False).encode("utf-8")
