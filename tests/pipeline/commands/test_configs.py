"""`config init`, `validate` and `diff`."""

import tomllib

import pytest

from pipeline.settings.load import load
from tests.support.in_process import run
from tests.support.toy_images import write_folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", {"cat": 4, "dog": 2})
    return tmp_path / "photos"


def test_init_writes_a_config_that_means_the_folder(photos, monkeypatch):
    ended = run(monkeypatch, "config", "init", "photos", "-o", "own.toml", "-q")
    assert (ended.code, ended.out) == (0, "own.toml; next: coattail inspect own.toml, then coattail run own.toml\n")
    text = (photos.parent / "own.toml").read_text()
    settings = load("own.toml").settings
    assert settings.data.train == str(photos)
    assert settings.name == "photos"
    assert "# pixels a side that the backbone sees" in text
    offered = text.replace("# test_share", "test_share").replace("# on_bad", "on_bad").replace("# views", "views")
    (photos.parent / "offered.toml").write_text(offered)
    assert load("offered.toml").settings.data.on_bad == "skip"
    assert run(monkeypatch, "config", "init", "photos", "-o", "own.toml").err == (
        "coattail: own.toml: exists already; move it away, or give another file with --output\n"
    )


def test_init_on_stdout_is_toml(photos, monkeypatch):
    ended = run(monkeypatch, "config", "init", "photos")
    assert tomllib.loads(ended.out)["data"]["source"] == "folder"
    assert (
        run(monkeypatch, "config", "init", "none").err
        == "coattail: none: no such file or folder; wanted one of images\n"
    )


def test_validate_lists_all_errors_at_once(photos, monkeypatch):
    (photos.parent / "bad.toml").write_text('[data]\nsource = "fodler"\nimage_size = "x"\n[stage1]\nepoch = 3\n')
    ended = run(monkeypatch, "config", "validate", "bad.toml")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 3
    assert "did you mean folder?" in ended.err
    (photos.parent / "paths.toml").write_text('[data]\nsource = "folder"\ntrain = "none"\ntest = "$NO_SUCH_X/y"\n')
    ended = run(monkeypatch, "config", "validate", "paths.toml")
    assert ended.err.replace(str(photos.parent), "ROOT") == (
        "coattail: data.train ROOT/none: nothing lies there; correct the path, or put the files there\n"
        "coattail: data.test $NO_SUCH_X/y: a variable in it is not set; export it, or write the path out\n"
    )
    assert run(monkeypatch, "config", "validate", "digits-lt").out == "digits-lt: no problem found\n"


def test_diff_names_the_settings(photos, monkeypatch):
    (photos.parent / "a.toml").write_text('name = "x"\nseed = 1\n[data]\nsource = "folder"\ntrain = "photos"\n')
    (photos.parent / "b.toml").write_text('name = "x"\nseed = 2\n[data]\nsource = "folder"\ntrain = "photos"\n')
    assert run(monkeypatch, "config", "diff", "a.toml", "b.toml").out == "seed: 1 | 2\n"
    assert run(monkeypatch, "config", "diff", "a.toml", "a.toml").out == "no difference\n"
    ended = run(monkeypatch, "config", "diff", "a.toml", "b.toml", "--json")
    assert ended.json == {"differences": {"seed": [1, 2]}}
