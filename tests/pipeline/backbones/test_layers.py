"""Features of several layers side by side: what they are, what the cache says of them, and new images by the same layers."""

import numpy as np
import pytest
import torch
from small_runs import small

from cache import FeatureCache
from pipeline.backbones import build
from pipeline.backbones.layers import Layers, layer_name, with_layers
from pipeline.errors import ConfigError
from pipeline.images.dataset import load
from pipeline.images.sources import load_source
from pipeline.predicting.encoder import encoder_of
from pipeline.stage1_backbone import stage1
from pipeline.stage1_extract import extract

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_layers_are_pooled_maps_side_by_side():
    network = build("resnet20", 2).backbone.eval()
    first_BDHW = network.layer1(torch.relu(network.bn1(network.conv1(IMAGES))))
    second_BDHW = network.layer2(first_BDHW)
    wanted = torch.cat(
        [second_BDHW.amax((2, 3)), network(IMAGES), second_BDHW.mean((2, 3)), first_BDHW.mean((2, 3))], 1
    )
    wide = with_layers(network, ("layer2:max", "pooled", "layer2", "layer1:mean"), 16)
    assert wide.width == 32 + 64 + 32 + 16
    torch.testing.assert_close(wide(IMAGES), wanted)


@torch.inference_mode()
def test_the_last_layer_alone_is_the_network_itself():
    network = build("resnet20", 2).backbone
    assert with_layers(network, ("pooled",), 16) is network


@torch.inference_mode()
def test_a_map_that_is_changed_in_place_is_taken_as_the_layer_gave_it():
    network = build("efficientnet-lite0", 2).backbone.eval()
    stem = network.stem.norm(network.stem.conv(IMAGES))
    assert stem.min() < 0  # ReLU6 comes after it, in place
    torch.testing.assert_close(Layers(network, ("stem.norm",), 16)(IMAGES), stem.mean((2, 3)))


@torch.inference_mode()
def test_tokens_of_a_transformer_as_mean_and_as_class_token():
    network = build("vit_b_16", 2).backbone.eval()
    images = torch.randn(1, 3, 224, 224)
    features = Layers(network, ("encoder.ln:first", "encoder.ln", "pooled"), 224)(images)
    first, mean, pooled = features.split(768, dim=1)
    torch.testing.assert_close(first, pooled)  # what the network's own head reads
    assert (mean - first).abs().max() > 1e-3


def test_a_cache_of_layers_says_so_and_new_images_go_the_same_way(tmp_path):
    settings = small(epochs=1)
    run = stage1(settings, tmp_path / "runs")
    wide = settings.model_copy(
        update={"extract": settings.extract.model_copy(update={"layers": ("layer2:max", "pooled"), "views": 1})}
    )
    cache = FeatureCache.open(extract(wide, run, tmp_path / "stores"))
    plain = FeatureCache.open(extract(settings, run, tmp_path / "stores"))
    identity = cache.manifest.identity
    assert (identity.layer, identity.width) == ("layer2:max+pooled", 96)
    assert (plain.manifest.identity.layer, plain.manifest.identity.width) == ("pooled", 64)
    assert cache.key != plain.key
    assert cache.classifier() is None
    assert plain.classifier() is not None
    np.testing.assert_array_equal(cache.features("test")[:, 32:], plain.features("test"))
    items = load_source(settings.data).splits
    test = load(settings).splits["test"]
    encoder = encoder_of(cache.manifest, tmp_path / "runs")
    name = "test" if "test" in items else "train"
    rows = [items[name].sample_ids.index(sample) for sample in test.sample_ids[:4]]
    features = encoder.features(items[name].take(np.array(rows)))[0]
    np.testing.assert_allclose(features, cache.features("test")[:4], atol=2e-3)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "layer9",
            "extract.layers: wanted pooled or a module, such as conv1, bn1, layer1, layer2, layer3, found 'layer9'",
        ),
        ("layer1:sum", "extract.layers: wanted mean, max, first behind the colon, found 'layer1:sum'"),
        ("", "extract.layers: wanted pooled or a module, such as conv1, bn1, layer1, layer2, layer3, found ''"),
    ],
)
def test_layers_that_are_none_are_one_line(layer, message):
    with pytest.raises(ConfigError) as error:
        with_layers(build("resnet20", 2).backbone, (layer,), 16)
    assert str(error.value) == message


def test_the_name_of_a_feature_keeps_the_order():
    assert layer_name(("pooled",)) == "pooled"
    assert layer_name(("layer3", "layer2:max")) == "layer3+layer2:max"
