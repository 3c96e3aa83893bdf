"""Backbones: parameter counts of the papers, option-A shortcuts, names and weights that cannot be had."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build
from pipeline.backbones.resnet import BACKBONES, CifarBlock
from pipeline.errors import ConfigError, DataError


def _parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet20", 269722), ("resnet32", 464154), ("resnet44", 658586), ("resnet56", 853018)]
)
def test_cifar_resnets_have_their_published_sizes(name, parameters):
    model = build(name, 10)
    assert _parameters(model) == parameters
    assert model.backbone.width == 64
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert model.backbone(torch.zeros(1, 3, 16, 16)).shape == (1, 64)


@pytest.mark.parametrize(("name", "width"), [("resnet10", 512), ("resnet18", 512), ("resnet50", 2048)])
def test_imagenet_resnets_give_pooled_features(name, width):
    model = build(name, 5).eval()
    assert model.backbone.width == width
    with torch.inference_mode():
        assert model.backbone(torch.zeros(1, 3, 64, 64)).shape == (1, width)


def test_torchvision_s_own_resnet18_has_the_same_tensors():
    theirs = torchvision.models.resnet18().state_dict()
    ours = build("resnet18", 5).backbone.state_dict()
    assert {name for name in theirs if not name.startswith("fc.")} == set(ours)
    assert "resnet152" in BACKBONES


def test_option_a_takes_every_second_pixel_and_pads_channels_with_zeros():
    block = CifarBlock(4, 8, 2).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 4, 6, 6)
    found = block(x)
    assert torch.equal(found[:, 2:6], x[:, :, ::2, ::2])
    assert not found[:, :2].any()
    assert not found[:, 6:].any()


def test_he_initialisation():
    weight = build("resnet32", 10).backbone.layer3[1].conv1.weight
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_parameters_hang_on_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (checkpoint.digest(build("resnet20", 10, seed=seed).state_dict()) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_name():
    with pytest.raises(ConfigError) as error:
        build("resnet33", 10)
    assert str(error.value) == f"backbone.name: wanted one of {', '.join(BACKBONES)}, found 'resnet33'"


def test_unknown_weights():
    with pytest.raises(ConfigError) as error:
        build("resnet18", 10, "IMAGENET1K_V9")
    assert str(error.value) == (
        "backbone.weights: wanted '', a .safetensors file or, for resnet18, one of [IMAGENET1K_V1], found 'IMAGENET1K_V9'"
    )
    with pytest.raises(ConfigError, match=r"for resnet32, one of \[\], found 'IMAGENET1K_V1'"):
        build("resnet32", 10, "IMAGENET1K_V1")


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    def offline(*_args, **_kwargs):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(DataError) as error:
        build("resnet18", 10, "IMAGENET1K_V1")
    assert str(error.value) == (
        "backbone.weights IMAGENET1K_V1 of resnet18: cannot be had from "
        "https://download.pytorch.org/models/resnet18-f37072fd.pth (<urlopen error Temporary failure in name resolution>); "
        f"put the file into {tmp_path}/hub/checkpoints, or train from random weights with --set backbone.weights=''"
    )


def test_weights_from_a_run_are_taken_without_its_classifier(tmp_path):
    trained = build("resnet20", 10, seed=1)
    checkpoint.save(tmp_path / "backbone.safetensors", trained.state_dict())
    model = build("resnet20", 7, str(tmp_path / "backbone.safetensors"), seed=2)
    assert checkpoint.digest(model.backbone.state_dict()) == checkpoint.digest(trained.backbone.state_dict())
    with pytest.raises(
        DataError, match=r"backbone\.safetensors: do not fit resnet32 \(.+\); choose the backbone they are of"
    ):
        build("resnet32", 7, str(tmp_path / "backbone.safetensors"))
