"""Joining arrays that lie in numbered files, such as `img_emb_0.npy`, `img_emb_1.npy`, in the order of the numbers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.exchange.source import SourceArray

_NUMBERED = re.compile(r"(?P<base>.*?[^0-9_.-])[_.-]+(?P<number>[0-9]{1,9})(?:-of-(?P<total>[0-9]{1,9}))?")
_VIEW = re.compile(r"(.*/)?view")


def joined(arrays: Sequence[SourceArray]) -> tuple[SourceArray, ...]:
    """The arrays of a folder, those of numbered files joined. Files count as numbered where the numbers begin at 0 or 1.

    Raises CacheInvalid where a number is missing, or the arrays differ in type or width.
    """
    groups: dict[tuple[str, str], list[tuple[int, SourceArray, str | None]]] = {}
    for array in arrays:
        match = _NUMBERED.fullmatch(_file_name(array))
        if match is not None and not _VIEW.fullmatch(match["base"]):
            groups.setdefault((match["base"], array.local), []).append((int(match["number"]), array, match["total"]))
    shards = {key: sorted(group, key=lambda shard: shard[0]) for key, group in groups.items()}
    shards = {key: group for key, group in shards.items() if group[0][0] in (0, 1)}
    inside = {array.where for group in shards.values() for _, array, _ in group}
    whole = [_join(base, group) for (base, _), group in shards.items()]
    return (*(array for array in arrays if array.where not in inside), *whole)


def _file_name(array: SourceArray) -> str:
    """The path of an array's file: its name without the part that stands for the array within the file."""
    return array.name.removesuffix(f"/{array.local}") if array.local else array.name


def _join(base: str, group: list[tuple[int, SourceArray, str | None]]) -> SourceArray:
    numbers, parts = [number for number, _, _ in group], [array for _, array, _ in group]
    first, total = parts[0], group[0][2]
    wrong = next((place for place, number in enumerate(numbers, numbers[0]) if place != number), None)
    if wrong is None and total is not None and len(numbers) != int(total):
        wrong = numbers[-1] + 1
    if wrong is not None:
        twice = wrong - 1 in numbers and numbers.count(wrong - 1) > 1
        problem = (
            f"two shards {wrong - 1}; name them apart" if twice else f"no shard {wrong}; copy it beside the others"
        )
        raise CacheInvalid(f"{first.where} is one of {len(numbers)} shards: found {problem}")
    for part in parts:
        if part.classes != first.classes:
            raise CacheInvalid(
                f"{part.where}: wanted the class names of {first.where}, found others; write the shards alike"
            )
        if part.shape[1:] != first.shape[1:] or np.dtype(part.dtype).kind != np.dtype(first.dtype).kind:
            raise CacheInvalid(
                f"{part.where}: {part.shape} {part.dtype}, wanted rows as in {first.where}, {first.shape} {first.dtype}"
            )
    # The NumPy type of a text gives its greatest length, which differs between blocks.
    text = np.dtype(first.dtype).kind == "U"
    dtype = first.dtype if text else str(np.result_type(*(np.dtype(part.dtype) for part in parts)))
    rows = sum(part.rows for part in parts)
    missing_N = None
    if any(part.missing_N is not None for part in parts):
        missing_N = np.concatenate([_missing(part) for part in parts])

    def blocks() -> Iterator[NDArray[Any]]:
        for part in parts:
            for block in part.blocks():
                yield block if text else block.astype(dtype, copy=False)

    name = f"{base}/{first.local}" if first.local else base
    where = f"{first.where} and {len(parts) - 1} more shards" if len(parts) > 1 else first.where
    return replace(
        first, name=name, where=where, shape=(rows, *first.shape[1:]), dtype=dtype, blocks=blocks, missing_N=missing_N
    )


def _missing(part: SourceArray) -> NDArray[np.bool_]:
    return np.zeros(part.rows, bool) if part.missing_N is None else part.missing_N
