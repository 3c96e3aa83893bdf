"""What weights say of their images, and what a backbone's short name stands for."""

import json

import pytest
from small_runs import small
from torchvision import models

from pipeline.artefacts import tensors
from pipeline.backbones import build
from pipeline.backbones.described import Description, input_of, short_name
from pipeline.errors import ConfigError
from pipeline.stage1_backbone import stage1

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def test_torchvision_s_weights_say_what_their_transforms_do():
    assert input_of("resnet50", "IMAGENET1K_V2") == Description(224, **IMAGENET)
    assert input_of("efficientnet_b3", "IMAGENET1K_V1") == Description(300, **IMAGENET, interpolation="bicubic")
    with pytest.raises(ConfigError, match=r"for resnet50, one of \[IMAGENET1K_V1, IMAGENET1K_V2\], found 'V3'$"):
        input_of("resnet50", "V3")


def test_random_weights_say_nothing():
    assert input_of("resnet50", "") is None


def test_efficientnet_lite_s_input_is_the_pixel_less_127_over_128():
    said = input_of("efficientnet-lite0", "pretrained")
    for pixel in (0, 127, 255):
        assert (pixel / 255 - said.mean[0]) / said.std[0] == pytest.approx((pixel - 127) / 128)


def test_short_names_bring_the_best_weights():
    assert short_name("resnet50", "") == ("resnet50", models.ResNet50_Weights.DEFAULT.name)
    assert short_name("resnet50:IMAGENET1K_V1", "") == ("resnet50", "IMAGENET1K_V1")
    assert short_name("resnet50:none", "") == ("resnet50", "")
    assert short_name("resnet32", "") == ("resnet32", "")
    assert short_name("efficientnet-lite0", "") == ("efficientnet-lite0", "pretrained")
    assert short_name("timm:resnet18.a1_in1k", "") == ("timm:resnet18.a1_in1k", "pretrained")
    assert short_name("timm:resnet18:none", "") == ("timm:resnet18", "")
    assert short_name("open_clip:ViT-B-32:laion2b_s34b_b79k", "") == ("open_clip:ViT-B-32", "laion2b_s34b_b79k")


def test_a_run_s_file_names_its_network_and_its_images(tmp_path):
    run = stage1(small(epochs=1), tmp_path)
    file = str(run.folder / "backbone.safetensors")
    assert short_name(f"file:{file}", "resnet32") == ("resnet20", file)
    data = small().data
    assert input_of("resnet20", file) == Description(8, data.mean, data.std)


def test_a_stranger_s_file_is_of_the_configured_network(tmp_path):
    path = tmp_path / "own.safetensors"
    tensors.save(path, build("resnet32", 2).backbone.state_dict(), {"transform": json.dumps({"mean": "?"})})
    assert short_name(f"file:{path}", "resnet32") == ("resnet32", str(path))
    assert input_of("resnet32", str(path)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file:no.safetensors", "--backbone file:no.safetensors: no such file; give the path of a .safetensors file"),
        ("file:net.pth", "--backbone file:net.pth: wanted a file of weights, NAME.safetensors, found 'net.pth'"),
    ],
)
def test_files_that_are_none_are_one_line(text, message):
    with pytest.raises(ConfigError) as error:
        short_name(text, "resnet32")
    assert str(error.value) == message


def test_timm_s_weights_say_what_timm_s_configuration_says():
    timm = pytest.importorskip("timm")
    said = input_of("timm:vit_small_patch14_dinov2.lvd142m", "pretrained")
    assert said == Description(518, **IMAGENET, interpolation="bicubic")
    assert timm.is_model("vit_small_patch14_dinov2.lvd142m")


def test_open_clip_s_weights_and_the_activation_they_want():
    pytest.importorskip("open_clip")
    assert short_name("open_clip:ViT-B-32-quickgelu", "") == ("open_clip:ViT-B-32-quickgelu", "openai")
    assert short_name("open_clip:ViT-B-32", "")[1] != "openai"
    said = input_of("open_clip:ViT-B-32-quickgelu", "openai")
    assert (said.image_size, said.mean[0], said.interpolation) == (224, 0.48145466, "bicubic")
    with pytest.raises(ConfigError) as error:
        build("open_clip:ViT-B-32", 2, "openai")
    assert str(error.value) == (
        "backbone.weights openai: are of a network with another activation than open_clip:ViT-B-32; use "
        "open_clip:ViT-B-32-quickgelu"
    )
