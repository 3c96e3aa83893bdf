"""Which number format a network computes in, and which device stages 2 and 3."""

import pytest
import torch
from other_device import NAME, stand_in
from small_runs import small

from pipeline.errors import ConfigError
from pipeline.machine import device
from pipeline.settings import Settings
from pipeline.stage1_backbone import stage1
from pipeline.stage1_extract import extract

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


@pytest.mark.parametrize(
    ("amp", "capabilities", "said"),
    [("bf16", {"avx2": True}, 1), ("bf16", {"avx512_bf16": True}, 0), ("off", {"avx2": True}, 0)],
)
def test_bf16_on_a_processor_without_it_is_told_to_be_slow(monkeypatch, capsys, tmp_path, amp, capabilities, said):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(device.platform, "machine", lambda: "x86_64")
    settings = small(epochs=1, amp=amp)
    settings = settings.model_copy(update={"extract": settings.extract.model_copy(update={"amp": amp})})
    run = stage1(settings, tmp_path / "runs")
    extract(settings, run, tmp_path / "stores")
    lines = capsys.readouterr().err
    for setting in ("stage1.amp", "extract.amp"):
        line = (
            f"{setting}=bf16: this processor has neither AMX nor AVX512-BF16, where PyTorch emulates bf16 and may take ten times "
            f"as long as in float32; {setting}=auto takes what is quick here\n"
        )
        assert lines.count(line) == said


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_cpu_is_a_cpu_by_any_name(name):
    settings = device.with_device(Settings(device=name))
    assert (settings.device, settings.device_key) == ("cpu", {})
    with device.on_device(Settings(device=name)) as found:
        assert found.type == "cpu"
        assert torch.get_default_device() == CPU


def test_a_cpu_stays_one_where_the_caller_makes_tensors_elsewhere():
    torch.set_default_device("meta")
    try:
        with device.on_device(Settings(device="cpu")):
            assert torch.ones(1).device == CPU
    finally:
        torch.set_default_device(None)


def test_auto_is_the_accelerator_where_it_computes_in_float64(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert device.with_device(Settings(device="auto")).device == "cpu"  # it has no numbers at all
    monkeypatch.setattr(device, "device_of", lambda name, setting: torch.device(NAME))
    with stand_in():
        assert device.with_device(Settings(device="auto")).device == NAME


def test_a_device_that_cannot_be_used_is_named_with_its_setting():
    with pytest.raises(ConfigError) as error:
        device.computing_device("vulkan")
    line = "device: 'vulkan' cannot be used here (Could not run 'aten::empty.memory_format' with arguments from the 'Vulkan' backend)"
    assert str(error.value) == f"{line}; try --set device=auto"
    with pytest.raises(ConfigError) as error:
        device.computing_device("privateuseone")  # a device whose module is not there
    assert str(error.value) == (
        "device: 'privateuseone' cannot be used here (No module named 'torch.privateuseone'); try --set device=auto"
    )
    for setting, found in (("device", device.computing_device), ("stage1.device", device.device_of)):
        with pytest.raises(ConfigError) as error:
            found("warp")
        text = str(error.value)
        assert text.startswith(f"{setting}: 'warp' cannot be used here (Expected one of cpu, cuda")
        assert text.endswith(f"; try --set {setting}=auto")
