"""A disk that a test controls: it sees every operation that changes files below a folder, with a number for each."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CHANGING = ("open", "write", "fsync", "replace", "rename", "link", "unlink", "rmdir", "mkdir")
AUDITED = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Operation:
    """One call: the paths it names or, by its descriptor, means; `content` is what `write` was given."""

    name: str
    paths: tuple[Path, ...]
    content: bytes = b""


@dataclass
class Disk:
    """What has passed so far. `before` sees each operation, and its number, first: it may raise; False makes a torn write."""

    root: Path
    before: Callable[[int, Operation], bool | None] = lambda number, operation: None
    operations: list[Operation] = field(default_factory=list)
    inside: int = 0
    _paths: dict[int, Path] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, name: str, original: Callable, arguments: tuple, options: dict):
        operation = self._operation(name, arguments, options)
        counted = operation is not None and (name != "open" or arguments[1] & WRITING)
        whole = True
        if counted:
            with self._lock:  # files are synced by several threads
                self.operations.append(operation)
                number = len(self.operations) - 1
            whole = self.before(number, operation) is not False
        if not whole:
            arguments = (arguments[0], bytes(arguments[1])[: max(1, len(arguments[1]) // 2)])
        self.inside += 1
        try:
            result = original(*arguments, **options)
        finally:
            self.inside -= 1
        if name == "open" and operation is not None:
            self._paths[result] = operation.paths[0]
        return result

    def _operation(self, name: str, arguments: tuple, options: dict) -> Operation | None:
        if name in ("write", "fsync"):
            path = self._paths.get(arguments[0])
            return path and Operation(name, (path,), bytes(arguments[1]) if name == "write" else b"")
        folder = self._paths.get(options["dir_fd"], Path("/")) if options.get("dir_fd") is not None else Path("/")
        count = 2 if name in ("replace", "rename", "link") else 1
        paths = tuple(folder / os.fsdecode(argument) for argument in arguments[:count])
        return Operation(name, paths) if paths[0].is_relative_to(self.root) else None


@contextmanager
def watched(disk: Disk) -> Iterator[Disk]:
    """Every call of this process passes through the disk."""
    originals = {name: getattr(os, name) for name in (*CHANGING, "close")}

    def through(name: str) -> Callable:
        return lambda *arguments, **options: disk.call(name, originals[name], arguments, options)

    def close(descriptor: int) -> None:
        disk._paths.pop(descriptor, None)
        originals["close"](descriptor)

    try:
        for name in CHANGING:
            setattr(os, name, through(name))
        os.close = close
        yield disk
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def killing(number: int, torn: bool) -> Callable[[int, Operation], bool | None]:
    """SIGKILL before the operation of this number, or in the middle of it if it is a write."""

    def before(passed: int, operation: Operation) -> bool | None:
        if passed == number + torn:
            os.kill(os.getpid(), signal.SIGKILL)
        return False if torn and passed == number else None

    return before


def strays(root: Path, work: Callable[[Path], object]) -> list[str]:
    """What changes files below the root, as Python's audit hooks tell, and does not pass the disk. The hook stays for good."""
    disk, missed = Disk(root), []

    def hook(event: str, arguments: tuple) -> None:
        if event not in AUDITED and not (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING):
            return
        if not disk.inside and str(root) in str(arguments[0]):
            missed.append(f"{event} {arguments[:2]}")

    sys.addaudithook(hook)
    with watched(disk):
        work(root)
    return missed


def in_a_fork(work: Callable[[], None]) -> int:
    """Run the work in a forked child, and give its status as `os.waitpid` reports it."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]
