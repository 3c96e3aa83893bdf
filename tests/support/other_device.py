"""A device that is not there: its tensors are computed on the CPU, with the bits of the CPU.

It is called `meta:1`: no autograd stream belongs to `meta`, and `meta` itself stays what it is. It is as strict as CUDA. An
operation on tensors of both devices raises, but for single numbers and copies; numpy takes none of its tensors; its own random
numbers would be others than the CPU's, so drawing there raises. An index that lies on the CPU, which CUDA copies anew each
time, raises, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta:1"
DEVICE = torch.device(NAME)
FROM_DATA = (torch.tensor, torch.as_tensor)
"""Functions that make a tensor of `meta` without a look at their data."""
MOVED: list[int] = []
"""The bytes of each copy to the device since `stand_in()` began."""
aten = torch.ops.aten


class Elsewhere(torch.Tensor):
    """A tensor of the device; `inner` is the CPU tensor that it is computed with. Its views have views of `inner`."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        outer = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        outer.inner = inner
        return outer

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return computed(operation, args, kwargs or {})

    def __repr__(self, *, tensor_contents=None):
        return f"Elsewhere({self.inner})"


class _Factories(TorchDispatchMode):
    """Makes tensors of the device where no argument is one."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return computed(operation, args, kwargs or {})


class _Data(TorchFunctionMode):
    """Keeps the data that torch leaves out for `meta`: of tensors and indices that are made of lists and arrays."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in FROM_DATA and kwargs.get("device") == DEVICE:
            return function(*args, **kwargs | {"device": "cpu"}).to(DEVICE)
        if function is torch.Tensor.tolist and isinstance(args[0], Elsewhere):
            return args[0].cpu().tolist()
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[0], Elsewhere):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(each).to(DEVICE) if isinstance(each, list) else each for each in index)
            args = (args[0], index, *args[2:])
        return function(*args, **kwargs)


@contextmanager
def stand_in() -> Iterator[None]:
    """Within, the device computes. Optimisers take it for one that has fused kernels."""
    fused = optimizer._get_fused_kernels_supported_devices
    optimizer._get_fused_kernels_supported_devices = lambda: [*fused(), DEVICE.type]
    MOVED.clear()
    try:
        with _Factories(), _Data():
            yield
    finally:
        optimizer._get_fused_kernels_supported_devices = fused


def computed(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the inner tensors. Its result lies where `device` says, else where its tensors do."""
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
    there = [each for each in tensors if isinstance(each, Elsewhere)]
    result_there = bool(there) if kwargs.get("device") is None else kwargs["device"] == DEVICE
    if operation is aten._to_copy.default or operation is aten.copy_.default:
        target = result_there if operation is aten._to_copy.default else isinstance(args[0], Elsewhere)
        if target and not isinstance(tensors[-1], Elsewhere):
            MOVED.append(tensors[-1].nbytes)
    elif there and any(each.dim() and not isinstance(each, Elsewhere) for each in tensors):
        raise RuntimeError(f"{operation}: wanted tensors of one device, found {NAME} and cpu")
    if (there or result_there) and torch.Tag.nondeterministic_seeded in operation.tags:
        raise RuntimeError(f"{operation}: draws on {NAME}")
    outer = {id(each.inner): each for each in there}

    def inner(value: Any) -> Any:
        if isinstance(value, Elsewhere):
            return value.inner
        return torch.device("cpu") if isinstance(value, torch.device) and value == DEVICE else value

    def wrapped(value: Any) -> Any:
        if id(value) in outer:  # changed in place
            return outer[id(value)]
        return Elsewhere(value) if result_there and isinstance(value, torch.Tensor) else value

    return tree_map(wrapped, operation(*tree_map(inner, args), **tree_map(inner, kwargs)))
