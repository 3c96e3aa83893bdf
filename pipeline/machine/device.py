"""Where tensors are computed: device, number format, memory format, and how freed memory is kept."""

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext

import torch

from pipeline.errors import ConfigError
from pipeline.machine.rank import local_rank, world

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str) -> torch.device:
    """The device called `name`; `auto`: the accelerator if there is one, else the CPU. Raises ConfigError.

    Under torchrun, of several CUDA devices the one of this process's local rank.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        name = accelerator.type if accelerator else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None and world() > 1:
            device = torch.device("cuda", local_rank())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"stage1.device: {name!r} cannot be used here ({str(error).splitlines()[0]}); try --set stage1.device=auto"
        ) from None
    return device


def autocast(amp: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to `bf16` or `fp16`, or nothing for `off`."""
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
