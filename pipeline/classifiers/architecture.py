"""Classifiers that are no linear map: torch modules of named tensors. A file holds the tensors, the module stays code."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from pipeline.coordinates import Coordinates


class Architecture(nn.Module):
    """Features (B, D) -> scores (R, B, C).

    `SHAPES` names its tensors and gives each a letter or a digit a dimension: R replicas, D the width of features, C classes,
    other letters as the architecture needs. `WHOLE` names the tensors of whole numbers, int64; all others are float32.
    `offset` (D,) is taken from the features and `factor` (D,) multiplies them first. Raises ValueError for other tensors.
    """

    NAME: ClassVar[str]
    SHAPES: ClassVar[Mapping[str, str]]
    WHOLE: ClassVar[frozenset[str]] = frozenset()
    COORDINATES: ClassVar[Mapping[str, str]] = {"offset": "D", "factor": "D"}

    offset: Tensor
    factor: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.sizes = self._sizes(tensors)
        for name in self.shapes():
            self.register_buffer(name, tensors[name])

    @classmethod
    def on_these(cls, tensors: Mapping[str, Tensor], width: int) -> Self:
        """Of features (B, `width`) as they are: neither centred nor multiplied."""
        return cls({**tensors, "offset": torch.zeros(width), "factor": torch.ones(width)})

    @classmethod
    def shapes(cls) -> dict[str, str]:
        """Every tensor of the file, with its dimensions."""
        return {**cls.SHAPES, **cls.COORDINATES}

    @property
    def rows_at_a_time(self) -> int:
        """How many rows `forward` may be given without taking much memory."""
        return 4096

    def forward(self, features_BD: Tensor) -> Tensor:
        scores = self.scores((features_BD - self.offset) * self.factor)
        return scores if scores.dim() == 3 else scores[None]

    def scores(self, inputs_BD: Tensor) -> Tensor:
        """Of features in the coordinates, (B, D) -> (R, B, C), or (B, C) of one classifier."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """What is saved."""
        return {name: getattr(self, name) for name in self.shapes()}

    def behind(self, coordinates: Coordinates) -> Self:
        """The same on raw features; this one acts on features in the coordinates."""
        offset_D = coordinates.offset_D.double() + coordinates.scale_D.double() * self.offset.double()
        inputs = {"offset": offset_D.float(), "factor": coordinates.factor_D * self.factor}
        return type(self)({**self.tensors(), **inputs})

    def only(self, replicas: Sequence[int]) -> Self:
        """The classifiers of these replicas, by their numbers."""
        shapes = self.shapes()
        chosen = {
            name: tensor[list(replicas)] if shapes[name].startswith("R") else tensor
            for name, tensor in self.tensors().items()
        }
        return type(self)(chosen)

    def on(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def _sizes(self, tensors: Mapping[str, Tensor]) -> dict[str, int]:
        """The length of each letter."""
        sizes: dict[str, int] = {}
        for name, letters in self.shapes().items():
            dtype = torch.int64 if name in self.WHOLE else torch.float32
            if name not in tensors:
                raise ValueError(f"{name}: wanted a tensor of that name, found none")
            tensor = tensors[name]
            if tensor.dtype != dtype or tensor.dim() != len(letters):
                raise ValueError(f"{name}: wanted {_type(dtype)} of {len(letters)} dimensions, found {_found(tensor)}")
            for letter, length in zip(letters, tensor.shape, strict=True):
                wanted = int(letter) if letter.isdigit() else sizes.setdefault(letter, length)
                if length != wanted:
                    raise ValueError(
                        f"{name}: wanted length {wanted} for {letter} of {letters}, found {_found(tensor)}"
                    )
        return sizes


def _found(tensor: Tensor) -> str:
    return f"{_type(tensor.dtype)} {list(tensor.shape)}"


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
