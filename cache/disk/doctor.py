"""Checks whether a folder can hold caches. They try in it what a cache needs of the file system, and leave nothing there."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache.disk import durable

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


MOUNTS = Path("/proc/mounts")
SCARCE_BYTES, LITTLE_BYTES = 100 << 20, 5 << 30
"""Less free space than the first is a failure, less than the second a warning. A view of ImageNet-LT at 2048 features takes
0.5 GB."""
VANISHING = {"tmpfs": "is lost when the machine restarts", "overlay": "may be lost with its container"}
SHARED = ("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph", "fuse", "9p", "afs")


@dataclass(frozen=True)
class Check:
    """The result of one check: what was found and, where it is not well, what to do."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def folder_checks(name: str, folder: Path) -> list[Check]:
    """Check that the folder is writable, its free space and its file system, and try fsync, locks, hard links and renames."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    probe = there / f".doctor-{uuid.uuid4().hex}"
    try:
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
        os.mkdir(probe)
    except OSError as error:
        remedy = f"make it writable, or set COATTAIL_{name.upper()} to a folder that is"
        return [Check(name, "fail", f"{folder}: cannot be written ({_reason(error)})", remedy)]
    try:
        begun = "" if folder.exists() else "; not there yet"
        tried = [_tried(name, attempt, probe) for attempt in (_fsync, _lock, _hard_link, _rename)]
        return [Check(name, "ok", f"{folder}: writable{begun}"), _space(name, there), _kind(name, there), *tried]
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def umask_check() -> Check:
    """Check that the members of one's group can read new files."""
    mask = os.umask(0)
    os.umask(mask)
    if mask & 0o050:
        return Check("umask", "warn", f"{mask:04o}: your group cannot read your caches", "umask 0027, to share them")
    return Check("umask", "ok", f"{mask:04o}: your group can read your caches")


def _space(name: str, folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    space = f"{free / 2**30:.1f} GiB free"
    status = os.statvfs(folder) if hasattr(os, "statvfs") else None
    if status is not None and status.f_files and not status.f_favail:
        return Check(
            f"{name} space", "fail", f"{space}, but no inodes", "delete files; a cache is some hundreds of them"
        )
    if free < SCARCE_BYTES:
        return Check(f"{name} space", "fail", space, f"free space, or set COATTAIL_{name.upper()} to another disk")
    if free < LITTLE_BYTES:
        return Check(f"{name} space", "warn", space, "`cache prune` lists what can go")
    return Check(f"{name} space", "ok", space)


def _kind(name: str, folder: Path) -> Check:
    kind = file_system(folder)
    if kind in VANISHING:
        remedy = f"set COATTAIL_{name.upper()} to a disk that stays"
        return Check(f"{name} file system", "warn", f"{kind}: {VANISHING[kind]}", remedy)
    if kind.split(".")[0] in SHARED:
        return Check(f"{name} file system", "ok", f"{kind}, shared")
    return Check(f"{name} file system", "ok", kind or "unknown")


def file_system(folder: Path) -> str:
    """The type of the file system that holds a folder, as the mount table names it; empty where there is no table."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    type_of_longest, length = "", -1
    path = folder.resolve()
    for _, mounted, kind, *_ in (line.split(" ") for line in lines if line.count(" ") >= 3):
        # The table writes a space as \040. Of several mounts on one path, the last hides the others.
        mount = Path(mounted.replace("\\040", " "))
        if (mount == path or mount in path.parents) and len(mount.parts) >= length:
            type_of_longest, length = kind, len(mount.parts)
    return type_of_longest


def _tried(name: str, attempt: Callable[[Path], Iterator[Check]], probe: Path) -> Check:
    """The check that the attempt in the folder `probe` yields; a failed one where the system refuses it."""
    try:
        check = next(attempt(probe))
    except OSError as error:
        label = attempt.__name__.strip("_").replace("_", " ")
        check = Check(label, "fail", f"{label} failed ({_reason(error)})", "look at the disk, or use another")
    return Check(f"{name} {check.name}", check.state, check.found, check.remedy)


def _reason(error: OSError) -> str:
    """The system's reason. Where durable.py made a line of it, the system's own error is the cause."""
    system = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return system.strerror or str(system)


def _fsync(probe: Path) -> Iterator[Check]:
    durable.replace(probe / "synced", b"x")
    durable.append(probe / "synced", "y")
    yield Check("fsync", "ok", "files and folders are synced")


def _lock(probe: Path) -> Iterator[Check]:
    """A lock that one process holds must be refused to another."""
    weak = "a cache in use is not protected from `cache rm`, two extractions of one cache repeat work"
    if fcntl is None:
        yield Check("locks", "warn", f"none on this system: {weak}", "agree on who removes caches")
        return
    with (probe / "lock").open("w") as holder, (probe / "lock").open("w") as other:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            yield Check("locks", "warn", f"none ({error.strerror}): {weak}", "agree on who removes caches")
            return
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield Check("locks", "ok", "a lock is held against others")
            return
    yield Check("locks", "warn", f"a held lock is given to another: {weak}", "agree on who removes caches")


def _hard_link(probe: Path) -> Iterator[Check]:
    (probe / "file").write_bytes(b"x")
    try:
        os.link(probe / "file", probe / "link")
    except OSError as error:
        yield Check("hard links", "ok", f"none ({error.strerror}); a rename is used instead")
        return
    yield Check("hard links", "ok", "files are created once, by a hard link")


def _rename(probe: Path) -> Iterator[Check]:
    """A rename gives a folder its name in one step, and must not replace a folder that has files in it."""
    for name in ("one", "other"):
        (probe / name).mkdir()
        (probe / name / "file").write_bytes(name.encode())
    durable.rename(probe / "one", probe / "published")
    try:
        os.rename(probe / "other", probe / "published")
    except OSError:
        yield Check("rename", "ok", "a cache appears in one step")
        return
    yield Check("rename", "fail", "a rename replaces a folder that is not empty", "use another disk for caches")
