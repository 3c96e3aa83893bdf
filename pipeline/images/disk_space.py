"""How large decoded images become on disk, and whether the disk has room for them."""

import shutil
from pathlib import Path

from pipeline.artefacts.folders import stores_folder
from pipeline.errors import DataError

GIB = 1 << 30


def free_bytes(stores: Path | None = None) -> int:
    """Free bytes of the disk that a folder of caches lies on, by default the user's, whether or not it is there yet."""
    stores = stores or stores_folder()
    return shutil.disk_usage(next(folder for folder in (stores, *stores.parents) if folder.is_dir())).free


def check_space(wanted: int) -> None:
    """Raises DataError where fewer bytes are free than wanted."""
    free = free_bytes()
    if wanted > free:
        raise DataError(
            f"data.decoded=disk: wanted {wanted / GIB:.1f} GiB at {stores_folder()}, found {free / GIB:.1f} GiB free; free space "
            "(`coattail cache prune` lists what can go), set COATTAIL_STORES to another disk, or take --set data.decoded=no"
        )
