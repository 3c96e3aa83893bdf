"""A model of what a disk holds after a power failure: what was synced is there; of the rest, chance decides.

A file's content is sure once the file was synced, a name once its folder was; a rename is one step in both folders.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

from faulty_disk import Operation


@dataclass(eq=False)
class File:
    content: bytes = b""
    synced: bytes = b""


@dataclass(eq=False)
class Folder:
    names: dict[str, "File | Folder"] = field(default_factory=dict)
    synced: dict[str, "File | Folder"] = field(default_factory=dict)


Change = tuple[Folder, str, "File | Folder | None"]


class Power:
    """The tree below a root, which starts empty and synced."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, Folder()
        self._pending: list[list[Change]] = []

    def apply(self, operation: Operation) -> None:
        """Do as the disk did."""
        path, *others = operation.paths
        node = self._find(path)
        if operation.name == "open" and node is None:
            self._change([(path, File())])
        elif operation.name == "mkdir" and node is None:
            self._change([(path, Folder())])
        elif operation.name == "write":
            node.content += operation.content
        elif operation.name == "fsync" and isinstance(node, File):
            node.synced = node.content
        elif operation.name == "fsync":
            sure = [group for group in self._pending if any(folder is node for folder, _, _ in group)]
            self._pending = [group for group in self._pending if all(folder is not node for folder, _, _ in group)]
            for folder, name, found in (change for group in sure for change in group):
                _put(folder.synced, name, found)
        elif operation.name == "link":
            self._change([(others[0], node)])
        elif operation.name in ("rename", "replace"):
            self._change([(path, None), (others[0], node)])
        elif operation.name in ("unlink", "rmdir"):
            self._change([(path, None)])

    def everything(self) -> dict[str, bytes | None]:
        """What a process sees: nothing is lost."""
        return _listing(self.top, self._surviving(lambda: True), lambda file: file.content)

    def worst(self) -> dict[str, bytes | None]:
        """Nothing that was not synced."""
        return _listing(self.top, self._surviving(lambda: False), lambda file: file.synced)

    def names_only(self) -> dict[str, bytes | None]:
        """Every name, and of contents what was synced: files that were renamed into place without a sync are empty."""
        return _listing(self.top, self._surviving(lambda: True), lambda file: file.synced)

    def chance(self, seed: int) -> dict[str, bytes | None]:
        """Of each thing not synced, by chance all, nothing or, of a content, a part."""
        draw = random.Random(seed)

        def content(file: File) -> bytes:
            return file.content[: draw.randint(len(file.synced), len(file.content))]

        return _listing(
            self.top,
            self._surviving(lambda: draw.random() < 0.5),
            content,
        )

    def _surviving(self, survives) -> dict[int, dict]:
        names: dict[int, dict] = {}
        for group in self._pending:
            if survives():
                for folder, name, node in group:
                    _put(names.setdefault(id(folder), dict(folder.synced)), name, node)
        return names

    def _change(self, changes: list[tuple[Path, "File | Folder | None"]]) -> None:
        group = [(self._find(path.parent), path.name, node) for path, node in changes]
        self._pending.append(group)
        for folder, name, node in group:
            _put(folder.names, name, node)

    def _find(self, path: Path) -> "File | Folder | None":
        node = self.top
        for part in path.relative_to(self.root).parts:
            node = node.names.get(part) if isinstance(node, Folder) else None
        return node


def _put(names: dict, name: str, node: "File | Folder | None") -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _listing(top: Folder, survived: dict[int, dict], content) -> dict[str, bytes | None]:
    listing: dict[str, bytes | None] = {}

    def walk(folder: Folder, prefix: str) -> None:
        for name, node in survived.get(id(folder), folder.synced).items():
            if isinstance(node, Folder):
                listing[f"{prefix}{name}"] = None
                walk(node, f"{prefix}{name}/")
            else:
                listing[f"{prefix}{name}"] = content(node)

    walk(top, "")
    return listing


def lay_out(root: Path, listing: dict[str, bytes | None]) -> None:
    """Make the tree real: None is a folder."""
    root.mkdir(parents=True)
    for name, content in listing.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)
