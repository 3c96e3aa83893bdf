"""Decoded images on disk, for splits that RAM does not hold: one decoding for all epochs, views and later runs.

A split is one file, `<stores>/.decoded/<key>/pixels.npy`, uint8 (N, S, S, 3). It appears by a rename when it is whole, so
that a killed process leaves no half file under that name. `cache prune` offers those that nobody has used for a week.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from torch import Tensor

from cache import catalog
from cache.disk import durable
from cache.disk.locks import locked
from pipeline.artefacts.folders import stores_folder
from pipeline.images.bad import raise_broken
from pipeline.images.decoding import Item
from pipeline.images.depth import FULL_SCALE, Scale
from pipeline.images.disk_space import check_space
from pipeline.images.pixels import Geometry, Images, decode_readable, with_repeats
from pipeline.images.transforms.recipe import Augmenter, Recipe, padding
from pipeline.progress import note, track

VERSION = 2
"""Goes up when the same file and geometry give other pixels."""
PIXELS_FILE = "pixels.npy"
BLOCK_BYTES = 64 << 20
"""Decoded images that are held in RAM while the file is written."""


class DiskImages(Images):
    """Images decoded once to a file that is memory-mapped, and augmented a batch at a time; a later run finds the file."""

    def __init__(
        self,
        items: Sequence[Item],
        names: Sequence[str],
        geometry: Geometry,
        digests: Sequence[bytes],
        scale: Scale = FULL_SCALE,
    ) -> None:
        super().__init__(items, names, geometry, scale)
        self._shape = (len(items), geometry.size, geometry.size, 3)
        self._file = stores_folder() / catalog.DECODED / decoded_key(digests, geometry, scale) / PIXELS_FILE

    def bytes_to_write(self) -> int:
        return int(np.prod(self._shape)) if self._whole() is None else 0

    def prepare(self) -> None:
        _ = self._pixels_NSS3

    def batches(
        self, rows: Iterable[Tensor], recipe: Recipe, seed: int, repeats: Iterable[Tensor] | None = None
    ) -> Iterator[Tensor]:
        augmenter, pad = Augmenter(recipe, len(self), self._geometry.size, seed), padding(self._geometry.size)
        for rows_B, repeats_B in with_repeats(rows, repeats):
            draws = augmenter.draws(rows_B, repeats_B)
            pixels_BSS3 = torch.from_numpy(self._pixels_NSS3[rows_B.numpy()])
            padded_BSS3 = F.pad(pixels_BSS3, (0, 0, pad, pad, pad, pad))
            yield augmenter.finish(augmenter.crop(padded_BSS3, torch.arange(len(rows_B)), draws), draws)

    @cached_property
    def _pixels_NSS3(self) -> np.memmap:
        """The file's pixels. Where another process is writing it, this one waits."""
        pixels_NSS3 = self._whole()
        if pixels_NSS3 is None:
            folder = self._file.parent
            durable.make_folder(folder)
            waiting = f"{folder}: another process decodes these images; waiting for it"
            with locked(folder.with_suffix(".lock"), lambda: note(waiting)):
                pixels_NSS3 = self._whole()
                if pixels_NSS3 is None:
                    self._write()
                    pixels_NSS3 = np.lib.format.open_memmap(self._file, mode="r")
        with suppress(OSError):  # somebody else's file; it only looks older to `cache prune` than it is
            os.utime(self._file)
        return pixels_NSS3

    def _whole(self) -> np.memmap | None:
        """The file's pixels, if it is there and has the shape, type and size that it should have."""
        try:
            pixels_NSS3 = np.lib.format.open_memmap(self._file, mode="r")
        except (OSError, ValueError):
            return None
        surplus = os.path.getsize(self._file) - pixels_NSS3.nbytes - pixels_NSS3.offset
        is_whole = (pixels_NSS3.shape, pixels_NSS3.dtype, surplus) == (self._shape, np.dtype(np.uint8), 0)
        return pixels_NSS3 if is_whole else None

    def _write(self) -> None:
        check_space(self.bytes_to_write())
        step = max(1, BLOCK_BYTES // int(np.prod(self._shape[1:])))
        broken: dict[int, str] = {}
        header = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
        with durable.writing(self._file) as file, track(len(self), "images decoded to disk", "images") as progress:
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(self), step):
                block = self._items[start : start + step]
                pixels_BSS3, _, reasons = decode_readable(block, self._geometry, self._scale)
                broken |= {start + row: reason for row, reason in reasons.items()}
                if not broken:  # else nothing is kept, and the rest is only looked through
                    file.write(pixels_BSS3.numpy().data)
                progress.advance(len(block))
            raise_broken(broken, self._names)


def decoded_key(digests: Sequence[bytes], geometry: Geometry, scale: Scale) -> str:
    """sha256, hex, over what decides the pixels: the images in their order, how they become square, and the decoder."""
    identity = {
        "version": VERSION,
        "images": hashlib.sha256(b"".join(digests)).hexdigest(),
        "geometry": asdict(geometry),
        "scale": scale.described(),
        "pillow": PIL.__version__,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
