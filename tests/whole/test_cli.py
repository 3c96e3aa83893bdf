"""The command line: wrong uses give one line and an exit code, --json gives one document, help names what there is."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, Blobs, write_cache
from in_process import run
from PIL import Image

import cli
from pipeline.settings.load import load

FAST = ["--set", "stg.epochs=2", "--set", "stg.head_classes=2", "--set", "retrain.epochs=1"]


MADE = "the features of --cache are made already"


def no_effect(key, reason):
    return f"{key}: has no effect here: {reason}; leave it out"


def _image(path, seed=0, size=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of images, twelve and six."""
    for name, count in (("cat", 12), ("dog", 6)):
        for number in range(count):
            _image(tmp_path / "images" / name / f"{number}.png", number)
    return tmp_path / "images"


@pytest.fixture
def own(tmp_path):
    """The config file that a user writes for a folder of their own."""
    path = tmp_path / "own.toml"
    path.write_text(
        '[data]\nsource = "folder"\ntrain = "images"\nimage_size = 16\n[backbone]\nname = "resnet20"\n'
        "[stage1]\nepochs = 1\n[stg]\nhead_classes = 1\nepochs = 2\n"
    )
    return "own.toml"


def _one_line(done, code, text):
    assert (done.code, done.out) == (code, "")
    assert done.err.splitlines()[-1] == f"coattail: {text}"
    assert "Traceback" not in done.err


def _python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_names_every_command(coattail):
    done = coattail("--help")
    assert done.code == 0
    for name in ("demo", "run", "train-backbone", "extract", "train-stg", "retrain", "cache", "config"):
        assert f"  {name} " in done.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["retrian"], "did you mean retrain?"),
        (["run"], "--config is wanted: a path to a TOML file, or one of cifar10-lt, cifar100-lt, digits-lt"),
        (["retrain"], "--config or --cache is wanted: which features to train on"),
        (["config", "show", "--json", "--sed", "1"], "Did you mean"),
    ],
)
def test_called_wrongly(coattail, arguments, text):
    done = coattail(*arguments)
    assert (done.code, done.out) == (2, "") or ("--json" in arguments and text in done.json["error"])
    assert text in done.err
    assert "Traceback" not in done.err


def test_unknown_key(coattail):
    done = coattail("config", "show", "--set", "stage1.epoch=3")
    _one_line(done, 2, "--set: stage1.epoch: unknown key, found 3; did you mean stage1.epochs?")


def test_wrong_type(coattail):
    done = coattail("run", "--config", "digits-lt", "--set", "stage1.epochs=many")
    _one_line(done, 2, "--set: stage1.epochs: wanted a valid integer, found 'many'")


def test_missing_config(coattail):
    done = coattail("run", "--config", "digits")
    assert done.code == 2
    assert done.err.startswith("coattail: config 'digits': no such name; did you mean digits-lt?")


def test_missing_images(coattail, own):
    done = coattail("run", "--config", own)
    assert done.code in (1, 2)
    assert "data.train" in done.err
    assert "images" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_broken_image_is_named(coattail, folder, own):
    (folder / "cat" / "3.png").write_bytes(b"no image")
    done = coattail("run", "--config", own)
    assert done.code == 1
    assert str(folder.name) in done.err
    assert "cat/3.png" in done.err
    assert "Traceback" not in done.err


def test_no_cache(coattail, tmp_path):
    done = coattail("retrain", "--config", "digits-lt")
    _one_line(
        done, 1,
        f"config digits-lt: no cache in {tmp_path}/stores was made with these settings; "
        "run train-backbone with the same --config and --set, or name one with --cache",
    )  # fmt: skip


def test_images_that_moved_are_the_same_images(coattail, folder, own):
    trained = coattail("train-backbone", "--config", own, "-q")
    assert trained.code == 0
    folder.rename(folder.parent / "moved")
    done = coattail("retrain", "--config", own, "--set", "data.train=moved", *FAST[-2:], "--json", "-q")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["cache"] in trained.out

    # One image less is another data set, of which there is no cache.
    (folder.parent / "moved" / "cat" / "0.png").unlink()
    done = coattail("retrain", "--config", own, "--set", "data.train=moved", "-q")
    assert (done.code, done.out) == (1, "")
    assert " differs in data.train); run train-backbone with the same --config and --set" in done.err


def test_a_cache_that_is_not_there(coattail):
    done = coattail("retrain", "--cache", "abcdef")
    assert done.code == 1
    assert done.err.startswith("coattail: cache abcdef: ")
    assert len(done.err.splitlines()) == 1


def test_no_tail_class_is_said_before_stage_1(coattail, folder, own, tmp_path):
    done = coattail("run", "--config", own, "--set", "stg.head_classes=99", "-q")
    _one_line(
        done, 1,
        "no tail class: all 2 classes are head classes, so nothing would be augmented; "
        "raise stg.head_above or set stg.head_classes to fewer",
    )  # fmt: skip
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_modules_load_is_one_line(monkeypatch, capsys):
    def pressed():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_check_neighbours", pressed)
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    text = "coattail: interrupted; what was finished is kept, the same command goes on from there\n"
    assert capsys.readouterr() == ("", text)


def test_an_end_without_torch_imports_none():
    code = (
        "import sys, click, cli\n"
        "def aborted(**options): raise click.Abort\n"
        "cli.cli.main = aborted\n"
        "try: cli.main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = _python(code)
    text = "coattail: interrupted; what was finished is kept, the same command goes on from there\n"
    assert (done.stdout, done.stderr) == ("130 False\n", text)


def test_a_command_that_wants_torch_says_so_where_there_is_none():
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "sys.argv = ['coattail', 'train-backbone', '--config', 'digits-lt']\n"
        "import cli; cli.main()"
    )
    done = _python(code)
    text = "coattail: torch is not installed, and this command wants it; pip install torch\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", text)


def test_an_stg_from_another_cache(coattail, stores):
    one, other = write_cache(stores), write_cache(stores, Blobs(seed=1))
    learnt = coattail("train-stg", "--cache", other.key, "--json", "-q", *FAST)
    done = coattail("retrain", "--cache", one.key, "--stg", learnt.json["run"])
    _one_line(
        done, 1,
        f"STG {learnt.json['run']}: learnt from cache {other.key[:12]} (blobs), wanted {one.key[:12]} (blobs); "
        f"run train-stg --cache {one.key[:12]}",
    )  # fmt: skip


def test_retrain_prints_one_json_document(coattail, stores):
    cache = write_cache(stores)
    done = coattail("retrain", "--cache", cache.key, "--seeds", "2", "--head", "lws", "--json", *FAST)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["method"], found["seeds"], found["cache"]) == ("lws+stg", [0, 1], cache.key)
    assert found["mean"]["accuracy"] == found["accuracy"]


def test_settings_recorded_in_a_cache_are_the_default(coattail, stores):
    cache = write_cache(stores, settings={"name": "blobs", "retrain": {"head": "lws", "augmentation": "none"}})
    assert coattail("retrain", "--cache", cache.key, "--json").json["method"] == "lws"
    assert coattail("retrain", "--cache", cache.key, "--json", "--head", "crt").json["method"] == "crt"


def test_quiet_is_quiet(coattail, stores):
    cache = write_cache(stores)
    assert coattail("retrain", "--cache", cache.key, "-q", "--json", *FAST).err == ""


def test_one_s_own_folder_needs_no_code(coattail, folder, own):
    done = coattail("run", "--no-report", "--json", "--config", own)
    assert done.code == 0, done.err
    arm = done.json["arms"][-1]
    assert (arm["method"], arm["classes"]) == ("crt+stg", ["cat", "dog"])
    again = coattail("retrain", "--cache", done.json["cache"], "--json", "--head", "ncm")
    assert again.json["classes"] == ["cat", "dog"]


def test_a_cache_alone_is_enough_for_the_whole_table(coattail, stores):
    cache = write_cache(stores)
    done = coattail("run", "--no-report", "--cache", cache.key[:8], "--json", *FAST)
    assert done.code == 0, done.err
    assert [arm["method"] for arm in done.json["arms"]][-2:] == ["crt+closed-form", "crt+stg"]
    assert {arm["cache"] for arm in done.json["arms"]} == {cache.key}


def test_a_sample_there_is_not(coattail):
    done = coattail("demo", "--sample", "cifar1000-lt")
    assert done.code == 2
    assert done.err.startswith("coattail: sample 'cifar1000-lt': no such sample; ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["retrain", "--cache", "KEY", "--head", "crt", "--head", "lws"], "--head is given 2 times; give it once"),
        (["config", "show", "--seed", "1", "--seed", "1"], "--seed is given 2 times; give it once"),
        (["cache", "import", "x.npy", "--name", "a", "--name", "b"], "--name is given 2 times; give it once"),
    ],
)
def test_an_option_given_twice_is_refused(monkeypatch, arguments, text):
    done = run(monkeypatch, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == f"Error: {text}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "seed=1", "--set", "seed=2"], "--set: seed is given twice; give it once"),
        (["--set", "retrain.head=cr"], "--set: retrain.head: found 'cr'; did you mean crt? wanted 'stage1', "),
        (["--set", "retrain.head=tau_norm"], "--set: retrain.head: found 'tau_norm'; did you mean tau-norm? wanted"),
        (["--set", "data.source=cifar"], "--set: data.source: found 'cifar'; did you mean cifar10? wanted"),
        (
            ["--set", "stage1.mixing=qq"],
            "--set: stage1.mixing: wanted 'none', 'mixup', 'remix' or 'cutmix', found 'qq'",
        ),
    ],
)
def test_settings_given_wrongly(monkeypatch, arguments, text):
    done = run(monkeypatch, "config", "show", *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(f"coattail: {text}")


@pytest.fixture
def cached(stores, monkeypatch, tmp_path):
    """A cache in the working folder; its key."""
    monkeypatch.chdir(tmp_path)
    return write_cache(stores, settings={"name": "blobs", "stage1": {"epochs": 7}, "longtail": {"n_max": 9}}).key


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["retrain", "--set", "stage1.epochs=3"], [no_effect("stage1.epochs", MADE)]),
        (["train-stg", "--set", "data.train=x"], [no_effect("data.train", MADE)]),
        (["run", "--set", "longtail.n_max=3"], [no_effect("longtail.n_max", MADE)]),
        (
            ["retrain", "--head", "ncm", "--augmentation", "dropout", "--set", "retrain.tau=2"],
            [
                no_effect("retrain.augmentation", "retrain.head=ncm trains nothing, so nothing is augmented"),
                no_effect("retrain.tau", "retrain.head=ncm does not use it; it is for logit-adjustment, tau-norm, logistic, logit-adjusted"),
            ],
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_matter_are_refused_by_name(cached, monkeypatch, tmp_path, arguments, lines):
    done = run(monkeypatch, *arguments, "--cache", cached)
    assert (done.code, done.out, done.err.splitlines()) == (2, "", [f"coattail: {line}" for line in lines])
    assert not (tmp_path / "runs").exists()


def test_config_toml_says_what_the_cache_was_made_with(cached, monkeypatch, tmp_path):
    (tmp_path / "own.toml").write_text("[stage1]\nepochs = 3\n[longtail]\nn_max = 5\nmany_above = 50\n")
    done = run(monkeypatch, "retrain", "--config", "own.toml", "--cache", cached, "--head", "ncm", "--json")
    settings = load(f"{done.json['run']}/config.toml").settings
    assert (settings.stage1.epochs, settings.longtail.n_max, settings.longtail.many_above) == (7, 9, 50)


def test_the_same_command_from_another_folder_does_nothing_twice(cached, monkeypatch, tmp_path):
    (tmp_path / "sub").mkdir()
    command = ("retrain", "--cache", cached[:12], "--head", "ncm")
    first = run(monkeypatch, *command)
    assert (first.code, first.err) == (0, "")
    folder = next((tmp_path / "runs" / "blobs").glob("ncm-*"))
    assert str(folder) in first.out
    monkeypatch.chdir(tmp_path / "sub")
    again = run(monkeypatch, *command)
    assert again.out == first.out
    assert re.fullmatch(rf"coattail: done already: {folder}, from \d{{4}}-\d\d-\d\d \d\d:\d\d\n", again.err)
    assert list((tmp_path / "sub").iterdir()) == []
    assert run(monkeypatch, *command, "-q").err == ""


def test_run_takes_the_options_of_retrain(cached, monkeypatch):
    options = ["--head", "lws", "--augmentation", "noise", "--seeds", "2"]
    done = run(monkeypatch, "run", "--no-report", "--cache", cached, *options, *FAST, "--json")
    assert done.code == 0, done.err
    arms = [(arm["method"], len(arm["seeds"])) for arm in done.json["arms"]]
    assert arms[-2:] == [("lws", 2), ("lws+noise", 2)]
    assert len(arms) == 11
    again = run(monkeypatch, "run", "--no-report", "--cache", cached, *options, *FAST)
    assert again.err.startswith("coattail: done already: ")


@pytest.mark.parametrize("command", [[], ["cache"], ["config"]])
def test_summaries_in_help_are_whole(monkeypatch, command):
    done = run(monkeypatch, *command, "--help")
    assert done.code == 0
    listed = done.out.partition("Commands:")[2]
    assert listed
    assert "..." not in listed
    assert "…" not in listed


def test_accuracy_has_one_decimal(monkeypatch, tmp_path, folder, own):
    monkeypatch.chdir(tmp_path)
    done = run(monkeypatch, "train-backbone", "--config", own, "-q")
    assert done.code == 0, done.err
    assert re.search(r"^accuracy: \d+\.\d %$", done.out, re.MULTILINE)
