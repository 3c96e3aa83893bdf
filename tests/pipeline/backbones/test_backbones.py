"""Backbones: parameter counts of the papers, option-A shortcuts, names and weights that cannot be had."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn
from torchvision import models

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
    assert str(error.value) == (
        f"backbone.name: wanted one of {', '.join(BACKBONES)}, efficientnet-lite0, another of torchvision's classifiers, "
        "timm:NAME or open_clip:NAME, found 'resnet33'; did you mean resnet34?"
    )
    for name, meant in {
        "dinov2_vits14": "timm:vit_small_patch14_dinov2.lvd142m",
        "mobilenet_v3": "mobilenet_v3_large",
    }.items():
        with pytest.raises(ConfigError, match=f"found '{name}'; did you mean {meant}\\?$"):
            build(name, 10)


@pytest.mark.parametrize(
    ("name", "width"),
    [("mobilenet_v3_small", 1024), ("shufflenet_v2_x0_5", 1024), ("efficientnet_b0", 1280), ("vit_b_16", 768)],
)
def test_torchvision_s_classifiers_give_what_their_last_layer_reads(name, width):
    """The feature times the last layer is the network's own output."""
    torch.manual_seed(3)
    whole = models.get_model(name, weights=None).eval()
    model = build(name, 4).eval()
    assert model.backbone.width == width
    (last, layer) = [pair for pair in whole.named_modules() if isinstance(pair[1], torch.nn.Linear)][-1]
    state = {key: tensor for key, tensor in whole.state_dict().items() if not key.startswith(f"{last}.")}
    model.backbone.module.load_state_dict(state)
    images = torch.randn(2, 3, 224, 224) if name == "vit_b_16" else torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(layer(model.backbone(images)), whole(images))


def test_torchvision_s_networks_that_cannot_be_a_backbone_are_no_names():
    for name in ("squeezenet1_0", "inception_v3"):
        with pytest.raises(ConfigError, match=r"^backbone\.name: wanted one of "):
            build(name, 2)


def test_a_file_of_a_ready_made_network_as_its_makers_name_the_tensors(tmp_path):
    whole = models.get_model("mobilenet_v3_small", weights=None)
    checkpoint.save(tmp_path / "own.safetensors", whole.state_dict())
    model = build("mobilenet_v3_small", 3, str(tmp_path / "own.safetensors"))
    assert torch.equal(model.backbone.module.features[0][0].weight, whole.features[0][0].weight)
    checkpoint.save(tmp_path / "run.safetensors", model.state_dict())
    again = build("mobilenet_v3_small", 5, str(tmp_path / "run.safetensors"), seed=1)
    assert checkpoint.digest(again.backbone.state_dict()) == checkpoint.digest(model.backbone.state_dict())


def test_unknown_weights():
    with pytest.raises(ConfigError) as error:
        build("resnet18", 10, "IMAGENET1K_V9")
    assert str(error.value) == (
        "backbone.weights: wanted '', a .safetensors file or, for resnet18, one of [IMAGENET1K_V1], found 'IMAGENET1K_V9'"
    )
    with pytest.raises(ConfigError) as error:
        build("resnet32", 10, "IMAGENET1K_V1")
    assert str(error.value) == "backbone.weights: wanted '' or a .safetensors file, found 'IMAGENET1K_V1'"


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
