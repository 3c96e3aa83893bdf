"""`--backbone NAME`: whose values it takes the place of, and what it runs."""

import json
import sys

import pytest
from toy_images import write_folder

from pipeline.artefacts import tensors
from pipeline.backbones import build
from pipeline.backbones.described import LITE_INPUT
from pipeline.backbones.packaged import PACKAGES
from pipeline.commands.options import Options
from pipeline.commands.which_cache import resolve_settings

LITE = "efficientnet-lite0"


@pytest.fixture
def own(tmp_path):
    """A config that sets the input of its own backbone."""
    path = tmp_path / "own.toml"
    path.write_text(
        '[data]\nimage_size = 16\nmean = [0.1, 0.1, 0.1]\n[stage1]\nepochs = 7\n[backbone]\nending = "bbn"\n'
        "[stage1.x]\n".replace("[stage1.x]\n", "")
    )
    return str(path)


@pytest.fixture(autouse=True)
def _at_hand(tmp_path, monkeypatch):
    """A converted file is there; none of the tests here reads it."""
    monkeypatch.setenv("COATTAIL_WEIGHTS", str(tmp_path))
    (tmp_path / f"{LITE}-{PACKAGES[LITE].digest[:16]}.safetensors").touch()


def test_the_weights_input_takes_the_place_of_the_config_s_and_nothing_is_trained(own, capsys):
    settings = resolve_settings(Options(config=own, backbone=LITE, overrides=("stage1.mixing=none",))).settings
    assert (settings.backbone.name, settings.backbone.weights, settings.backbone.ending) == (
        LITE,
        "pretrained",
        "plain",
    )
    assert (settings.data.image_size, settings.data.mean, settings.stage1.epochs) == (224, LITE_INPUT.mean, 0)
    assert capsys.readouterr().err == (
        "backbone efficientnet-lite0, weights pretrained: data.image_size=224, data.mean=[0.498, 0.498, 0.498], "
        "data.std=[0.502, 0.502, 0.502], as its weights say; stage1.epochs=0, so it is taken as it is and not trained; --set "
        "changes it\n"
    )


def test_what_the_command_line_sets_stays(own):
    overrides = ("stage1.mixing=none", "data.image_size=64", "stage1.epochs=3")
    resolved = resolve_settings(Options(config=own, backbone=LITE, overrides=overrides))
    assert (resolved.settings.data.image_size, resolved.settings.stage1.epochs) == (64, 3)
    assert resolved.settings.data.std == LITE_INPUT.std
    assert (resolved.origins["data.std"], resolved.origins["data.image_size"]) == (f"weights of {LITE}", "--set")
    assert resolved.origins["backbone.name"] == "--backbone"


def test_a_config_s_own_weights_fill_in_what_it_leaves_out_alone(tmp_path, capsys):
    path = tmp_path / "own.toml"
    path.write_text(
        '[data]\nimage_size = 64\n[stage1]\nepochs = 7\n[backbone]\nname = "resnet50"\nweights = "IMAGENET1K_V2"\n'
    )
    settings = resolve_settings(Options(config=str(path))).settings
    assert (settings.data.image_size, settings.data.mean, settings.stage1.epochs) == (64, (0.485, 0.456, 0.406), 7)
    assert capsys.readouterr().err == (
        "backbone resnet50, weights IMAGENET1K_V2: data.mean=[0.485, 0.456, 0.406], data.std=[0.229, 0.224, 0.225], as its "
        "weights say; --set changes it\n"
    )


def test_a_config_that_says_all_is_left_alone(capsys):
    before = set(sys.modules)
    settings = resolve_settings(Options(config="places-lt")).settings
    assert (settings.data.mean, settings.stage1.epochs) == ((0.485, 0.456, 0.406), 30)
    assert capsys.readouterr().err == ""
    assert "timm" not in set(sys.modules) - before


def test_a_folder_s_measured_mean_gives_way_to_the_weights(tmp_path):
    photos = write_folder(tmp_path / "photos", {"a": 3, "b": 3})
    assert resolve_settings(Options(config=photos)).settings.data.mean != LITE_INPUT.mean
    settings = resolve_settings(Options(config=photos, backbone=LITE)).settings
    assert (settings.data.mean, settings.data.image_size, settings.stage1.epochs) == (LITE_INPUT.mean, 224, 0)


def test_a_backbone_without_weights_is_trained_as_the_config_says(own):
    settings = resolve_settings(Options(config=own, backbone="resnet20", overrides=("stage1.mixing=none",))).settings
    assert (settings.backbone.name, settings.backbone.weights, settings.stage1.epochs) == ("resnet20", "", 7)
    assert settings.data.image_size == 16


def test_a_file_of_weights_is_extracted_as_it_is(coattail, tmp_path):
    tensors.save(tmp_path / "own.safetensors", build("resnet20", 2).state_dict(), {"backbone": "resnet20"})
    arguments = ("extract", "--config", "digits-lt", "--backbone", "file:own.safetensors", "--json", "-q")
    done = coattail(*arguments, "--set", "stage1.epochs=0", "--set", "extract.views=0")
    assert done.code == 0, done.err
    assert (tmp_path / done.json["path"]).is_dir()


def test_a_module_runs_all_stages(coattail, tmp_path):
    (tmp_path / "flat.py").write_text(
        "import torch\n\n\ndef build():\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())\n"
    )
    small = ("--set", "retrain.epochs=1", "--set", "stg.epochs=1", "--set", "extract.views=0")
    done = coattail(
        "run", "--config", "digits-lt", "--backbone", "module:flat:build", "--no-report", "--json", "-q", *small
    )
    assert done.code == 0, done.err
    (manifest,) = tmp_path.glob("stores/*/manifest.json")
    identity = json.loads(manifest.read_text())["identity"]
    assert (identity["backbone"][:18], identity["width"]) == ("module:flat:build#", 48)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("--config", "digits-lt", "--backbone", "resnet51"),
            "backbone.name: wanted one of resnet20, resnet32, resnet44, resnet56, resnet10, resnet18, resnet34, "
            "resnet50, resnet101, resnet152, efficientnet-lite0, another of torchvision's classifiers, timm:NAME or "
            "open_clip:NAME, found 'resnet51'; did you mean resnet56?",
        ),
        (
            ("--config", "digits-lt", "--backbone", LITE, "--set", "backbone.name=resnet20"),
            "--set: backbone.name is given twice; give it once",
        ),
        (
            ("--config", "digits-lt", "--backbone", "module:flat:build", "--dry-run"),
            "--dry-run runs nothing, and --backbone module:flat:build would; leave one out",
        ),
        (
            ("--cache", "abc", "--backbone", LITE),
            "--cache and --backbone exclude each other: a cache's features are made already",
        ),
    ],
)
def test_errors_are_one_line_before_images_are_read(coattail, arguments, error):
    done = coattail("run", *arguments)
    assert done.code == 2
    assert done.err.strip().splitlines()[-1].partition(": ")[2] == error  # after coattail: or click's Error:
    assert "images" not in done.err
