"""Backbones that are taken as they are: random or given weights, timm's, one's own module."""

import builtins
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_runs import small

from cache import FeatureCache
from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build
from pipeline.backbones.own import own_module
from pipeline.errors import ConfigError, DataError
from pipeline.images.dataset import load
from pipeline.images.transforms.recipe import PLAIN
from pipeline.stage1_backbone import given, stage1
from pipeline.stage1_extract import extract


def test_no_epochs_dump_the_weights_as_they_are(tmp_path):
    start = build("resnet20", 10, seed=7)
    checkpoint.save(tmp_path / "start.safetensors", start.state_dict())
    settings = small(epochs=0)
    backbone = settings.backbone.model_copy(update={"weights": str(tmp_path / "start.safetensors")})
    settings = settings.model_copy(update={"backbone": backbone})
    done = stage1(settings, tmp_path / "runs")
    assert done.metrics["method"] == "frozen"
    recorded = json.loads((done.folder / "metrics.json").read_text())
    assert (recorded["threads"], recorded["processes"], recorded["seeds"]) == (torch.get_num_threads(), 1, [0])
    resolved = recorded["settings"]["stage1"]["amp"]  # `auto` is recorded as what it was
    assert recorded["settings"]["stage1"] == {**settings.stage1.model_dump(mode="json"), "amp": resolved}
    assert recorded["settings"]["backbone"]["weights"] == str(tmp_path / "start.safetensors")
    cache = FeatureCache.open(extract(settings, done, tmp_path / "stores"))
    assert cache.classifier() is None
    own = {name: tensor for name, tensor in start.state_dict().items() if name.startswith("backbone.")}
    assert cache.manifest.identity.weights == checkpoint.digest(own)
    assert stage1(settings, tmp_path / "runs").digest == done.digest


def test_one_s_own_module_is_named_and_digested(tmp_path, monkeypatch):
    (tmp_path / "mine_for_a_test.py").write_text(
        "import torch\n\n\nclass Mean(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.tensor(2.0))\n\n    def forward(self, x):\n"
        "        return self.scale * x.mean((2, 3))\n\n\ndef build():\n    return Mean()\n\n\nmap = torch.nn.Identity()\n"
    )
    monkeypatch.chdir(tmp_path)
    settings, run = given(small(), tmp_path / "runs", "mine_for_a_test:build")
    cache = FeatureCache.open(extract(settings, run, tmp_path / "stores"))
    assert re.fullmatch(r"module:mine_for_a_test:build#[0-9a-f]{16}", cache.manifest.identity.backbone)
    assert cache.manifest.identity.weights == checkpoint.digest({"backbone.module.scale": torch.tensor(2.0)})
    assert cache.classifier() is None
    split = load(small()).splits["test"]
    pixels = torch.cat(list(split.images.batches([torch.arange(len(split))], PLAIN, 0))).double() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (settings.data.mean, settings.data.std))
    wanted = 2 * ((pixels - mean) / std).mean((2, 3)).numpy()
    np.testing.assert_allclose(cache.features("test").astype(np.float64), wanted, atol=2e-3)
    with pytest.raises(
        ConfigError, match=r"^--backbone-module mine_for_a_test:map: wanted features \(B, D\), D 1 or more, found shape"
    ):
        given(small(), tmp_path / "runs", "mine_for_a_test:map")
    with pytest.raises(
        ConfigError, match=r"^--backbone-module no\.such:thing: wanted module:attribute that can be imported"
    ):
        given(small(), tmp_path / "runs", "no.such:thing")


def test_a_module_without_tensors_can_be_dumped(coattail, tmp_path):
    (tmp_path / "flat.py").write_text(
        "import torch\n\n\ndef build():\n    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())\n"
    )
    done = coattail("extract", "--config", "digits-lt", "--backbone-module", "flat:build", "--json", "-q")
    assert done.code == 0, done.err
    assert FeatureCache.open(tmp_path / done.json["path"]).features("test").shape[1] == 12


def test_a_module_s_class_that_wants_arguments_is_one_line():
    with pytest.raises(ConfigError) as error:
        own_module("torch.nn:Identity.forward", 16)
    assert str(error.value).startswith("--backbone-module torch.nn:Identity.forward: wanted module:attribute")
    with pytest.raises(ConfigError) as error:
        own_module("torch.nn:Linear", 16)
    assert str(error.value).startswith(
        "--backbone-module torch.nn:Linear: wanted an nn.Module, or what returns one without arguments, found TypeError: Linear."
    )


def test_a_config_cannot_name_a_module():
    with pytest.raises(ConfigError, match=r"^backbone\.name: wanted one of .+, found 'module:os:system'$"):
        build("module:os:system", 10)


def test_timm_missing_is_one_line(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "timm":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError) as error:
        build("timm:resnet18", 10)
    assert str(error.value) == (
        "backbone.name timm:resnet18: wants the package timm, which is not installed; pip install timm"
    )


class HubError(Exception):
    """As the client of a hub raises it: no OSError."""


class Hub:
    """A package whose models are known and whose weights cannot be had."""

    def is_model(self, model):
        return True

    def get_pretrained_cfg(self, model, tag=None):
        return SimpleNamespace(hf_hub_id="timm/net.in1k") if tag is None else {"quick_gelu": False}

    def list_models(self):
        return ["net"]

    def get_model_config(self, model):
        return {"embed_dim": 8}

    def list_pretrained_tags_by_model(self, model):
        return ["laion"]

    def create_model(self, model, pretrained, num_classes=0):
        raise HubError("no route to host\nsecond line")


def test_weights_of_a_hub_that_is_not_reached_are_one_line_with_what_to_download(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", Hub())
    monkeypatch.setitem(sys.modules, "open_clip", Hub())
    with pytest.raises(DataError) as error:
        build("timm:net", 2, "pretrained")
    assert str(error.value) == (
        "backbone.weights of timm:net: cannot be had (no route to host); download model.safetensors of "
        "https://huggingface.co/timm/net.in1k and give it with --set backbone.weights=FILE.safetensors, or train from random "
        "weights with --set backbone.weights=''"
    )
    with pytest.raises(DataError) as error:
        build("open_clip:net", 2, "laion")
    assert str(error.value) == (
        "backbone.weights laion of open_clip:net: cannot be had (no route to host); run the command once where there is a "
        "network, and copy ~/.cache/huggingface from there, or train from random weights with --set backbone.weights=''"
    )
    with pytest.raises(ConfigError, match=r"or, for open_clip:net, one of \[laion\], found 'other'$"):
        build("open_clip:net", 2, "other")


def test_timm_s_backbones_give_pooled_features():
    pytest.importorskip("timm")
    model = build("timm:resnet18", 5).eval()
    with torch.inference_mode():
        assert model.backbone(torch.zeros(1, 3, 32, 32)).shape == (1, 512)
    with pytest.raises(
        ConfigError, match=r"^backbone\.name: timm has no model 'hf-hub:x/y'; timm\.list_models\(\) lists"
    ):
        build("timm:hf-hub:x/y", 5)
