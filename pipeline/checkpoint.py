"""Tensors on disk: safetensors with text metadata, written whole or not at all, and the digest that names them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from cache import durable
from pipeline.errors import DataError


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write the tensors, whole or not at all; the file's mode is what the umask leaves. Raises CacheStorage for a full disk."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain, dict(metadata or {}))
    durable.replace(path, content)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, on the CPU, and metadata of a safetensors file.

    Raises DataError where the file is missing or is not a safetensors file. Nothing in it runs, and a tensor takes no more
    than its bytes in the file.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: wanted a safetensors file, found no plain file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the run is not finished, or the folder is not a run folder") from None
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error}); delete its folder and run the command again"
        ) from None


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256, hex, over name, dtype, shape and little-endian bytes of each tensor, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{list(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
