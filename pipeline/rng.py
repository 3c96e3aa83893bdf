"""Random generators by seed and purpose. Each purpose has its own, so an extra draw in one place changes no other."""

import hashlib

import torch


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed from a seed and words or numbers that say what it is for."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A CPU generator seeded with `derive(seed, *purpose)`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
