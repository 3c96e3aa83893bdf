"""Random generators by seed and purpose. Each purpose has its own, so an extra draw in one place changes no other."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed from a seed and words or numbers that say what it is for."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator seeded with `derive(seed, *purpose)`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def sampled(draw: Callable[..., Tensor], *arguments: Any, generator: torch.Generator, **options: Any) -> Tensor:
    """What `draw`, such as torch.rand, gives from a CPU generator, on the device at hand: the same numbers on every device."""
    return torch.as_tensor(draw(*arguments, generator=generator, device="cpu", **options))
