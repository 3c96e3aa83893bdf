"""Options that every command understands alike: paths below a home folder."""

import json

import in_process
import numpy as np
import pytest

from pipeline.commands.which_cache import sample_path


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("evaluate", "--run=~/mine"), "{home}/mine/metrics.json: no such file"),
        (("extract", "--config", "digits-lt", "--backbone=~/mine"), "{home}/mine/metrics.json: no such file"),
        (("retrain", "--cache", "cifar100-lt", "--stg=~/mine"), "{home}/mine/stg.safetensors: no such file"),
        (("cache", "import", "train={home}/a.npz", "--classes=~/names"), "{home}/names"),
        (("cache", "import", "train={home}/a.npz", "--classifier=~/head.npz"), "{home}/head.npz"),
        (("cache", "import", "train=~/none.npz"), "{home}/none.npz"),
    ],
)
def test_a_tilde_is_the_home_folder_wherever_a_path_is_wanted(tmp_path, monkeypatch, arguments, wanted):
    np.savez(tmp_path / "a.npz", features=np.zeros((4, 2), np.float32), labels=np.array([0, 0, 1, 1]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sample = str(sample_path("cifar100-lt"))
    texts = [text.format(home=tmp_path).replace("cifar100-lt", sample) for text in arguments]
    ended = in_process.run(monkeypatch, *texts, "--json")
    assert ended.code == 1
    assert wanted.format(home=tmp_path) in json.loads(ended.out)["error"]
    assert "~" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--run=~nouser/x"),
        ("extract", "--config", "digits-lt", "--backbone", "~nouser/x"),
        ("retrain", "--stg", "~nouser/x"),
        ("train-stg", "--cache", "~nouser/x"),
        ("run", "--config", "~nouser/x"),
        ("run", "--config", "digits-lt", "--set", "data.root=~nouser/x"),
        ("cache", "import", "train=~nouser/x"),
        ("cache", "import", "a.npz", "--classes", "~nouser/x"),
        ("cache", "import", "a.npz", "--classifier=~nouser/x"),
        ("cache", "import", "a.npz", "--labels", "train=~nouser/x"),
        ("cache", "import", "a.npz", "--ids", "train=~nouser/x"),
        ("cache", "export", "1234", "~nouser/x"),
        ("cache", "push", "~nouser/x"),
        ("cache", "pull", "~nouser/x", "1234"),
        ("cache", "ls", "~nouser/x"),
        ("cache", "prune", "--keep", "~nouser/x"),
    ],
)
def test_the_home_of_a_user_there_is_not_is_one_line(monkeypatch, arguments):
    ended = in_process.run(monkeypatch, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert "~nouser/x: no user 'nouser', whose home folder ~ would name; write the path out" in ended.err
