"""Training on from weights: the backbone at a lower rate than the classifier, from the weights and no others."""

import torch
from small_runs import moved, small, stopped_and_gone_on_with

from pipeline.artefacts import tensors
from pipeline.images.dataset import load
from pipeline.settings.load import load as load_settings
from pipeline.stage1_backbone import stage1, stage1_key, train_backbone

PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "mixing": "none", "batch_size": 100, "warmup_epochs": 0, "epochs": 1}


def _moved(body_factor):
    return moved(small(**PLAIN, body_factor=body_factor))


def test_the_backbone_moves_by_the_factor_and_the_classifier_as_ever():
    whole, tenth = _moved(1.0), _moved(0.1)
    assert whole.keys() == tenth.keys()
    for name, step in whole.items():
        factor = 0.1 if name.startswith("backbone.") else 1.0
        torch.testing.assert_close(tenth[name], factor * step, rtol=1e-3, atol=3e-7)
    assert max(step.abs().max() for name, step in whole.items() if name.startswith("backbone.")) > 1e-3


def test_fine_tuning_stopped_and_gone_on_with_gives_the_same_weights(tmp_path, monkeypatch):
    settings = small(epochs=2, body_factor=0.1)
    whole = train_backbone(settings, tmp_path / "whole").digest
    assert stopped_and_gone_on_with(settings, tmp_path / "stopped", monkeypatch) == whole


def test_the_run_begins_with_the_file_s_weights(tmp_path):
    start = stage1(small(epochs=1), tmp_path / "runs")
    file = str(start.folder / "backbone.safetensors")
    settings = small(epochs=1, learning_rate=1e-9, body_factor=0.1)
    settings = settings.model_copy(update={"backbone": settings.backbone.model_copy(update={"weights": file})})
    tuned = tensors.load(stage1(settings, tmp_path / "runs").folder / "backbone.safetensors")[0]
    begun = tensors.load(start.folder / "backbone.safetensors")[0]
    for name in ("backbone.conv1.weight", "backbone.layer3.2.conv2.weight"):
        torch.testing.assert_close(tuned[name], begun[name], rtol=0, atol=1e-6)


def test_keys_of_runs_from_before_there_was_a_factor_hold():
    settings = small(amp="off")
    dataset = load(settings)
    assert "body_factor" not in settings.stage1.keyed()
    assert not {"interpolation", "fit"} & set(settings.data.transform())
    tuned = small(amp="off", body_factor=0.1)
    assert stage1_key(tuned, dataset) != stage1_key(settings, dataset)
    assert stage1_key(settings, dataset) == KEY


KEY = "bbada2fca23a61e29730ae5358e4cb686ac5d860c86fc04c1ddfd977e5bcbbb7"
"""Of the small run in float32; taken before there were these settings."""


def test_the_method_s_file_stays_when_a_backbone_is_named():
    from pipeline.commands.options import Options
    from pipeline.commands.which_cache import resolve_settings

    settings = resolve_settings(Options(config="cifar10-lt+fine-tune", backbone="resnet50")).settings
    assert (settings.stage1.epochs, settings.stage1.body_factor, settings.data.image_size) == (5, 0.1, 224)
    assert load_settings("cifar10-lt").settings.stage1.body_factor == 1
