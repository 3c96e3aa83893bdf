"""Where decoded images are kept: in RAM, on disk, or nowhere (`data.decoded`)."""

import os
from collections.abc import Mapping, Sequence

from pipeline.artefacts.folders import stores_folder
from pipeline.errors import ConfigError
from pipeline.images.decoded import DiskImages
from pipeline.images.decoding import Item
from pipeline.images.depth import Scale
from pipeline.images.disk_space import GIB, check_space, free_bytes
from pipeline.images.lazy import LazyImages
from pipeline.images.pixels import Geometry, Images, RamImages, fits_in_ram
from pipeline.progress import note
from pipeline.settings import Settings


def where_kept(settings: Settings, rows: int) -> str:
    """`ram`, `disk` or `no` for `rows` images in all. Raises ConfigError where `data.decoded` asks for what cannot be."""
    data = settings.data
    is_cut_from_whole = settings.stage1.augmentation == "resized-crop"
    if data.decoded in ("ram", "disk") and is_cut_from_whole:
        raise ConfigError(
            f"data.decoded={data.decoded}: wanted auto or no with stage1.augmentation=resized-crop, whose crops are cut from "
            "whole photographs, and decoded images are kept at the backbone's size; or take stage1.augmentation=crop-flip"
        )
    if data.decoded == "ram" and not fits_in_ram(rows, data.image_size, _machine_gib()):
        raise ConfigError(
            f"data.decoded=ram: {rows:,} images of {data.image_size} pixels a side do not fit in the {_machine_gib():.1f} GiB "
            "of this machine; take --set data.decoded=disk, or a smaller data.image_size"
        )
    if data.decoded != "auto":
        return data.decoded
    if not is_cut_from_whole and fits_in_ram(rows, data.image_size, data.ram_limit):
        return "ram"
    if not is_cut_from_whole and settings.stage1.epochs > 1:
        size = rows * data.image_size**2 * 3
        note(
            f"{rows:,} images are more than data.ram_limit ({data.ram_limit:g} GiB) holds, so each is decoded in every epoch; "
            f"--set data.decoded=disk decodes them once, into {size / GIB:.1f} GiB at {stores_folder()} "
            f"({free_bytes() / GIB:.1f} GiB free)"
        )
    return "no"


def images_of(
    place: str, items: Sequence[Item], names: Sequence[str], digests: Sequence[bytes], settings: Settings, scale: Scale
) -> Images:
    """The images of a split, kept at the place that `where_kept` says. `digests` are the sha256 of files or pixels."""
    data = settings.data
    geometry = Geometry.of(data.image_size, settings.stage1.augmentation, data.interpolation, data.fit)
    if place == "ram":
        return RamImages(items, names, geometry, scale)
    if place == "disk":
        return DiskImages(items, names, geometry, digests, scale)
    return LazyImages(items, names, geometry, data.workers, scale)


def say_size(place: str, images: Mapping[str, Images]) -> None:
    """A note on the space that decoded images will take on disk, before they do. Raises DataError where it is not free."""
    if place != "disk":
        return
    wanted = {name: split.bytes_to_write() for name, split in images.items()}
    check_space(sum(wanted.values()))
    if sum(wanted.values()) == 0:
        note(f"decoded images: found at {stores_folder()} from an earlier run")
        return
    parts = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in wanted.items() if size)
    note(f"decoded images: {parts} will be written to {stores_folder()} ({free_bytes() / GIB:.1f} GiB free)")


def _machine_gib() -> float:
    if not hasattr(os, "sysconf"):  # Windows
        return float("inf")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
