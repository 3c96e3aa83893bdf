"""The device and the number format of computation, and how freed memory is kept."""

import ctypes
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from pipeline.errors import ConfigError
from pipeline.machine.rank import local_rank, world
from pipeline.progress import note
from pipeline.settings import Settings

TINY = 32
"""Pixels a side below which `auto` computes in float32."""
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str, setting: str = "stage1.device") -> torch.device:
    """The device called `name`; `auto`: the accelerator if there is one, else the CPU. Raises ConfigError.

    `setting` is what gave the name. Under torchrun, of several CUDA devices the one of this process's local rank.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        name = accelerator.type if accelerator else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None and world() > 1:
            device = torch.device("cuda", local_rank())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]  # the first sentence: of mps, a page follows
        raise ConfigError(f"{setting}: {name!r} cannot be used here ({reason}); try --set {setting}=auto") from None
    return device


def computing_device(name: str) -> torch.device:
    """The device of stages 2 and 3 called `name`; `auto`: the accelerator if there is one with float64, else the CPU.

    Raises ConfigError where it cannot be used here or has no float64, as `mps`.
    """
    device = device_of(name, "device")
    try:
        float(torch.ones((), dtype=torch.float64, device=device))
    except (RuntimeError, TypeError):
        if name == "auto":
            return torch.device("cpu")
        raise ConfigError(
            f"device: {name!r} does not compute in float64, in which stages 2 and 3 sum over rows; set device=cpu"
        ) from None
    return device


def with_device(settings: Settings) -> Settings:
    """The settings with the device that `auto` stands for here. Raises ConfigError for one that cannot be used."""
    if settings.device == "cpu":
        return settings
    device = computing_device(settings.device)
    return settings.model_copy(update={"device": "cpu" if device.type == "cpu" else str(device)})


def on_device(settings: Settings) -> AbstractContextManager[torch.device]:
    """Within, tensors are made on the device of stages 2 and 3 where nothing else is said, and `torch.as_tensor` moves there.

    On a CPU nothing is entered, unless the caller's default is another device: the same code makes the same bits, and no call
    is looked at.
    """
    device = computing_device(settings.device)
    return nullcontext(device) if device.type == torch.get_default_device().type == "cpu" else device


Amp = Literal["off", "bf16", "fp16"]


def number_format(amp: Amp | Literal["auto"], device: torch.device, pixels: int) -> Amp:
    """What `auto` stands for on images of `pixels` a side: `bf16` where this device computes in it at speed, else `off`.

    A processor does so with AMX or AVX512-BF16: 1.6 times as fast as float32 with a ResNet-32 on CIFAR. Below
    `TINY` pixels converting costs what multiplying gains. Any other `amp` is returned as it is.
    """
    if amp != "auto":
        return amp
    return "bf16" if pixels >= TINY and _has_fast_bf16(device) else "off"


def _has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 at speed; False where it does not tell."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    ask = getattr(torch.cpu, "get_capabilities", None)  # older torch does not tell
    capabilities = ask() if ask is not None else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def say_emulated(amp: str, device: torch.device, setting: str) -> None:
    """A note where bf16 was asked for, by `setting`, on an x86 processor that has to emulate it."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64") and hasattr(torch.cpu, "get_capabilities")
    if amp == "bf16" and device.type == "cpu" and is_x86 and not _has_fast_bf16(device):
        note(
            f"{setting}=bf16: this processor has neither AMX nor AVX512-BF16, where PyTorch emulates bf16 and may take ten times "
            f"as long as in float32; {setting}=auto takes what is quick here"
        )


def on_this_machine(settings: Settings) -> Settings:
    """The settings with the number formats that `auto` stands for here: they decide the weights and are recorded with them."""
    device, pixels = device_of(settings.stage1.device), settings.data.image_size
    stage1 = settings.stage1.model_copy(update={"amp": number_format(settings.stage1.amp, device, pixels)})
    extract = settings.extract.model_copy(update={"amp": number_format(settings.extract.amp, device, pixels)})
    return settings.model_copy(update={"stage1": stage1, "extract": extract})


def autocast(amp: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to `bf16` or `fp16`, or nothing for `off`; `auto` must have been decided by `number_format`."""
    assert amp != "auto"
    return torch.autocast(device.type, AUTOCAST[amp]) if amp in AUTOCAST else nullcontext()


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB, the most it allows, instead of returning them to the system.

    Activations are freed and wanted again every step, and fresh pages cost more than the arithmetic they hold.
    Elsewhere than on glibc, nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 32 * 2**20)
        mallopt(trim_threshold, 2**30)
