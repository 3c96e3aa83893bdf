"""BBN's branches and reversed rows, the frozen network with a new block, and resuming with what a run adds to its state."""

import pytest
import torch
from small_runs import small
from torch import nn

from pipeline.backbones import build
from pipeline.images.transforms.recipe import PLAIN
from pipeline.settings import Settings
from pipeline.settings.stage1 import Stage1
from pipeline.stage1_backbone import train_backbone
from pipeline.training.batches import batches, with_reversed
from pipeline.training.steps import Training


def test_bbn_is_resnet_32_with_its_last_block_twice():
    model = build("resnet32", 10, ending="bbn").eval()
    block = 2 * (64 * 64 * 9) + 4 * 64
    classifier = 128 * 10 + 10
    assert sum(p.numel() for p in model.backbone.parameters()) == 464154 - 650 + block
    assert sum(p.numel() for p in model.parameters()) == 464154 - 650 + block + classifier
    x, y = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        conventional, balanced = model.backbone(x), model.backbone(y)
        assert conventional.shape == (2, 128)
        found = model.backbone(torch.cat([x, y]), torch.tensor(0.75))
    wanted = torch.cat([2 * 0.75 * conventional[:, :64], 2 * 0.25 * balanced[:, 64:]], dim=1)
    torch.testing.assert_close(found, wanted)
    assert not torch.equal(conventional[:, :64], conventional[:, 64:])


def test_reversed_rows_come_at_one_over_n_and_each_time_as_a_new_view():
    labels = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
    plan = batches(len(labels), Stage1(batch_size=10, mixing="none"), 0, 0)
    found = with_reversed(plan * 40, labels, 0, 0)
    rows = torch.cat([batch.partner_rows_B for batch in found])
    times = torch.cat([batch.partner_repeats_B for batch in found])
    assert len({*zip(rows.tolist(), times.tolist(), strict=True)}) == len(rows)
    raw = 1 / torch.tensor([80.0, 15.0, 5.0])
    shares = torch.bincount(labels[rows], minlength=3) / len(rows)
    torch.testing.assert_close(shares, raw / raw.sum(), atol=0.03, rtol=0)
    own = times[rows == 99]
    assert own.tolist() == list(range(1, len(own) + 1))


def test_a_new_block_learns_and_all_before_it_stands_still():
    settings = small(epochs=1, mixing="none")
    settings = Settings.model_validate(
        {**settings.model_dump(), "backbone": {"name": "resnet20", "ending": "new-block"}}
    )
    from pipeline.images.dataset import load
    from pipeline.training.batches import part

    model = build("resnet20", 10, ending="new-block")
    training = Training(model, load(settings).splits["train"], settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    split = training.split
    batch = batches(len(split), settings.stage1, 0, 0)[0]
    own = part(batch, 0, 1, 1)
    (pixels,) = split.images.batches([own.rows_Q], PLAIN, 0)
    training._step(own, pixels, 0.1, 0, batch)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith(("backbone.block.", "classifier.")) for name in moved)
    assert {"backbone.block.conv1.weight", "backbone.block.bn1.running_mean", "classifier.weight"} <= moved


@pytest.mark.parametrize(("name", "block"), [("resnet10", "BasicBlock"), ("resnet50", "Bottleneck")])
def test_the_new_block_is_of_the_network_s_kind(name, block):
    model = build(name, 5, ending="new-block")
    assert type(model.backbone.block).__name__ == block
    assert not any(p.requires_grad for p in model.backbone.frozen.parameters())
    assert isinstance(model.classifier, nn.Linear)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage1": {"averaging": "ema"}},
        {"stage1": {"averaging": "swa", "swa_start": 0.0, "sam_rho": 0.05}},
        {"stage1": {"loss": "ldam", "reweight": "drw"}},
        {"backbone": {"name": "resnet20", "ending": "bbn"}},
    ],
    ids=["ema", "swa-sam", "ldam-drw", "bbn"],
)
def test_a_stopped_run_goes_on_to_the_same_weights(changes, tmp_path, monkeypatch):
    base = small(epochs=2, mixing="none").model_dump()
    settings = Settings.model_validate({**base, **changes, "stage1": base["stage1"] | changes.get("stage1", {})})
    whole = train_backbone(settings, tmp_path / "whole")
    step, steps = Training._step, []

    def stopping(self, *arguments):
        steps.append(1)
        if len(steps) > 6:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Training, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_backbone(settings, tmp_path / "run")
    monkeypatch.undo()
    assert train_backbone(settings, tmp_path / "run").digest == whole.digest
