"""Which number format a network computes in."""

import pytest
import torch

from pipeline.machine import device
from pipeline.settings import Settings

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "pixels", "wanted"),
    [
        ({"amx_bf16": True}, 32, "bf16"),
        ({"avx512_bf16": True}, 224, "bf16"),
        ({"avx512_bf16": True}, 8, "off"),
        ({"avx2": True}, 224, "off"),
    ],
)
def test_auto_is_bf16_where_the_processor_has_it_and_images_are_no_thumbnails(
    monkeypatch, capabilities, pixels, wanted
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert device.number_format("auto", CPU, pixels) == wanted


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_what_is_asked_for_is_taken(amp):
    assert device.number_format(amp, CPU, 8) == amp


def test_an_older_torch_that_does_not_tell_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert device.number_format("auto", CPU, 224) == "off"


def test_settings_name_the_format_that_was_used(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    settings = Settings.model_validate({"stage1": {"device": "cpu"}})
    here = device.on_this_machine(settings)
    assert (settings.stage1.amp, here.stage1.amp, here.extract.amp) == ("auto", "bf16", "off")
    assert device.on_this_machine(here) == here
