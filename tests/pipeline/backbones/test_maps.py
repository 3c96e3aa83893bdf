"""A backbone's last map: its mean over the places is the feature."""

import pytest
import torch

from pipeline.backbones import build
from pipeline.backbones.maps import LastMap, map_size
from pipeline.settings import Settings


@pytest.mark.parametrize(
    ("name", "ending", "size", "shape"),
    [
        ("resnet20", "plain", 32, (64, 8, 8)),
        ("resnet20", "bbn", 32, (128, 8, 8)),
        ("resnet20", "new-block", 32, (64, 8, 8)),
        ("resnet10", "plain", 64, (512, 2, 2)),
        ("efficientnet-lite0", "plain", 64, (1280, 2, 2)),
    ],
)
def test_the_mean_of_the_map_is_the_feature(name, ending, size, shape):
    backbone = build(name, 10, ending=ending).backbone.eval()
    x = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        maps, features = LastMap(backbone)(x), backbone(x)
    assert maps.shape == (3, *shape)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), features)
    network = {"name": name, "ending": ending}
    sections = {"extract": {"maps": True}, "data": {"image_size": size}, "stage1": {"mixing": "none"}}
    settings = Settings.model_validate({**sections, "backbone": network})
    assert map_size(settings, backbone) == shape[1:]


def test_without_the_setting_nothing_is_tried():
    assert map_size(Settings(), build("resnet20", 10).backbone) is None
