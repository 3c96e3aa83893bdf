"""Tensors on disk: safetensors with text metadata, written whole or not at all, and the digest that names them."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from cache.disk import durable
from cache.errors import CacheInvalid
from cache.exchange.formats.safetensors_files import read_header
from pipeline.errors import DataError

DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
"""Types that a file's tensors may have. Others, such as floats of 8 bits, cannot be computed with."""


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write the tensors, whole or not at all; the file's mode is what the umask leaves. Raises CacheStorage for a full disk."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain, dict(metadata or {}))
    durable.replace(path, content)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, on the CPU, and metadata of a safetensors file.

    Raises DataError where the file is missing, is not a safetensors file, has a header that would cost too much to parse,
    or holds another type than `DTYPES`. Nothing in it runs, and a tensor takes no more than its bytes in the file.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: wanted a safetensors file, found no plain file")
    try:
        read_header(path)
        with safetensors.safe_open(path, framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file; the run is not finished, or the folder is not a run folder") from None
    except CacheInvalid as error:
        raise DataError(str(error)) from None
    # AttributeError: a type that torch has not.
    except (OSError, SafetensorError, RuntimeError, AttributeError, TypeError) as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({_line(error)}); delete its folder and run the command again"
        ) from None
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise DataError(
                f"{path}: {_short(name)}: wanted a type that modules have, such as float32, found {_type(tensor)}; "
                "save it as float32"
            )
    return tensors, metadata


def check(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], optional: Collection[str] = ()) -> None:
    """Raises ValueError where the tensors are not those `wanted`, by name, shape and kind of number, or not finite."""
    for name in [*wanted, *tensors]:
        if name not in wanted:
            raise ValueError(f"{_short(name)}: not wanted there")
        own = wanted[name]
        if name not in tensors:
            if name in optional:
                continue
            raise ValueError(f"{name}: wanted {_type(own)}, found nothing")
        tensor = tensors[name]
        alike = tensor.dtype == own.dtype or (tensor.is_floating_point() and own.is_floating_point())
        if tensor.shape != own.shape or not alike:
            raise ValueError(f"{name}: wanted {_type(own)}, found {_type(tensor)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: wanted finite numbers, found others")


def _type(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _short(name: str) -> str:
    """A tensor's name, which the file gives, without line breaks and in at most 60 characters."""
    text = repr(name)[1:-1]
    return text if len(text) <= 60 else text[:57] + "..."


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256, hex, over name, dtype, shape and little-endian bytes of each tensor, in the order of their names."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha256.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{list(tensor.shape)}\0".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()
