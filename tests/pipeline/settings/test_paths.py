"""Paths in a TOML are its own; those on the command line are the working folder's; keys do not depend on either."""

import glob
from pathlib import Path

import pytest
from small_runs import small

from pipeline.artefacts import folders
from pipeline.errors import ConfigError
from pipeline.images.dataset import load as images
from pipeline.settings.files import to_toml
from pipeline.settings.load import load
from pipeline.settings.paths import make_absolute, make_relative
from pipeline.stage1_backbone import stage1_key


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("COATTAIL_STORES", "COATTAIL_RUNS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sub" / "deeper").mkdir(parents=True)
    return tmp_path


def test_a_path_in_a_toml_is_relative_to_it_from_everywhere(project, monkeypatch):
    (project / "own.toml").write_text(
        '[data]\nsource = "list"\ntrain = "lists/a.txt"\ntest = "/abs/b.txt"\nroot = "../x"\n'
        '[backbone]\nweights = "w.safetensors"\n'
    )
    wanted = load("own.toml").settings
    assert (wanted.data.train, wanted.data.test, wanted.data.val) == (f"{project}/lists/a.txt", "/abs/b.txt", "")
    assert (wanted.data.root, wanted.backbone.weights) == (f"{project.parent}/x", f"{project}/w.safetensors")
    monkeypatch.chdir(project / "sub" / "deeper")
    assert load("../../own.toml").settings == wanted
    assert load(str(project / "own.toml")).settings == wanted
    (project / "again.toml").write_text(to_toml(wanted))
    assert load("../../again.toml").settings == wanted.model_copy(update={"name": "own"})


@pytest.mark.parametrize("text", ["~/images", "$DATA/images", "", "/abs/images", "${DATA}/x"])
def test_paths_that_mean_the_same_from_everywhere_stay_as_they_are(project, text):
    (project / "own.toml").write_text(f'[data]\nsource = "folder"\ntrain = "{text}"\n')
    assert load("own.toml").settings.data.train == text
    assert load(None, ["data.source=folder", f"data.train={text}"]).settings.data.train == text


def test_names_of_weights_are_no_paths(project):
    (project / "own.toml").write_text('[backbone]\nname = "resnet50"\nweights = "IMAGENET1K_V2"\n')
    assert load("own.toml").settings.backbone.weights == "IMAGENET1K_V2"


def test_a_path_on_the_command_line_is_relative_to_the_working_folder(project, monkeypatch):
    (project / "sub" / "own.toml").write_text('[data]\nsource = "folder"\ntrain = "a"\n')
    found = load("sub/own.toml", ["data.test=b"]).settings.data
    assert (found.train, found.test) == (f"{project}/sub/a", f"{project}/b")


def test_a_pattern_keeps_its_meaning_in_a_folder_with_brackets(project, monkeypatch):
    folder = project / "data[1]"
    folder.mkdir()
    (folder / "own.toml").write_text('[data]\nsource = "parquet"\ntrain = "train-*.parquet"\ntest = "test.parquet"\n')
    found = load("data[1]/own.toml").settings.data
    assert (found.train, found.test) == (f"{project}/data[[]1]/train-*.parquet", f"{project}/data[1]/test.parquet")


def test_the_nearest_folder_upwards_is_taken_as_git_does(project, monkeypatch):
    assert folders.runs_folder() == project / "runs"
    (project / "stores").mkdir()
    (project / "runs" / "own" / "backbone-1").mkdir(parents=True)
    (project / "runs" / "own" / "backbone-1" / "config.toml").touch()
    monkeypatch.chdir(project / "sub" / "deeper")
    assert folders.stores_folder() == project / "stores"
    assert folders.runs_folder() == project / "runs"
    (project / "sub" / "runs").mkdir()
    assert folders.runs_folder() == project / "sub" / "runs"
    monkeypatch.setenv("COATTAIL_RUNS", "elsewhere")
    assert folders.runs_folder() == project / "sub" / "deeper" / "elsewhere"


def test_runs_of_another_program_are_not_taken_for_ours(project, monkeypatch):
    (project / "runs" / "Jan01_tensorboard").mkdir(parents=True)
    monkeypatch.chdir(project / "sub")
    assert folders.runs_folder() == project / "sub" / "runs"
    monkeypatch.chdir(project)
    assert folders.runs_folder() == project / "runs"


@pytest.mark.parametrize("text", ["~nouser/x", "a\\u0000b"])
def test_text_that_can_be_no_path_is_refused_with_its_key(project, text):
    (project / "own.toml").write_text(f'[data]\nsource = "folder"\ntrain = "{text}"\n')
    with pytest.raises(ConfigError) as error:
        load("own.toml")
    assert str(error.value).startswith("own.toml: data.train")
    assert len(error.value.lines) == 1


def test_keys_of_configs_without_paths_are_those_of_before():
    settings = load("digits-lt").settings
    assert stage1_key(settings, images(settings)) == "73ea51b183c58ecc577e8bdb1e47f963a208ab69e5ad34df5fd5b64d369a572c"
    again = load("digits-lt", seed=1).settings
    assert stage1_key(again, images(again)) == "ee36c49991929abec4820416624380efe938bc1b7471ed08fbaed2459225eebb"


def test_the_key_of_a_backbone_does_not_hold_where_its_starting_weights_lie(tmp_path):
    from pipeline.artefacts import tensors
    from pipeline.backbones import build_for

    settings = small()
    dataset = images(settings)
    state = build_for(settings, len(dataset.classes)).backbone.state_dict()
    keys = set()
    for name in ("a", "b"):
        path = tmp_path / f"{name}.safetensors"
        tensors.save(path, {key: value.contiguous() for key, value in state.items()}, {})
        backbone = settings.backbone.model_copy(update={"weights": str(path)})
        keys.add(stage1_key(settings.model_copy(update={"backbone": backbone}), dataset))
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/home/me/own/photos", "photos"),
        ("/home/me/own", "."),
        ("/home/me/own/~photos/$a", "/home/me/own/~photos/$a"),
        ("/home/me/photos", "../photos"),
        ("/home/me/photos[1]/train-*.parquet", "../photos[1]/train-*.parquet"),
        ("/home/me/ownership", "../ownership"),
        ("/home/you/photos", "/home/you/photos"),
        ("/data/photos", "/data/photos"),
        ("", ""),
    ],
)
def test_paths_near_a_config_become_relative_to_it_and_are_read_back(text, wanted):
    folder = Path("/home/me/own")
    values = {"data": {"train": text, "image_size": 8}, "name": "x"}
    make_relative(values, folder)
    assert values == {"data": {"train": wanted, "image_size": 8}, "name": "x"}
    make_absolute(values, "own.toml", folder)
    assert values["data"]["train"] == text


def test_a_pattern_in_a_folder_of_a_strange_name_is_read_back():
    text = f"{glob.escape('/home/me/own [1]')}/photos/train-*.parquet"
    values = {"data": {"train": text}}
    make_relative(values, Path("/home/me/own [1]"))
    assert values["data"]["train"] == "photos/train-*.parquet"
    make_absolute(values, "own.toml", Path("/home/me/own [1]"))
    assert values["data"]["train"] == text


def test_a_slash_behind_a_folder_means_the_folder():
    values = {"data": {"train": "/home/me/own/", "test": "/home/me/"}}
    make_relative(values, Path("/home/me/own"))
    assert values == {"data": {"train": ".", "test": "../"}}


@pytest.mark.parametrize("folder", ["/", "/own"])
def test_no_path_becomes_relative_to_the_root_of_all_files(folder):
    values = {"data": {"train": "/data/photos"}}
    make_relative(values, Path(folder))
    assert values["data"]["train"] == "/data/photos"


def test_images_in_a_folder_whose_name_is_not_in_utf_8():
    """What a folder of images makes of itself is no text of a config, so it comes another way."""
    with pytest.raises(ConfigError) as error:
        load(base=("photos", {"data": {"train": "/\udcff/photos"}}))
    assert str(error.value) == (
        "photos: data.train: wanted text in UTF-8, found '/\\udcff/photos'; rename the file or folder, or name a link to it"
    )
