"""The digest of the source of the user's own module, which identifies its code as its weights' digest identifies them.

Why the source, and not the features that it gives for a few fixed images: such a probe sees only what the code does with
those images, and its last bits change with the device and the number of threads. The price is that an edited comment is
another source, and that data which the code reads while it runs, such as a JSON file, is not seen.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

OURS = Path(__file__).resolve().parents[2]
INSTALLED = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]


def source_digest(module: ModuleType) -> str:
    """sha256, hex, of the module's source and of the sources that it imports, however indirectly, from beside it.

    Beside it means in the folder that its outermost package or file lies in. Imports are read from the text, so that one
    inside a function counts and one by a computed name does not. Of an installed module its own file alone is taken: its
    package has a version. coattail's own packages are left out.
    """
    path = Path(getattr(module, "__file__", None) or "")
    if not path.is_file():
        return hashlib.sha256(module.__name__.encode()).hexdigest()
    sources = {module.__name__: path}
    if not any(path.resolve().is_relative_to(folder) for folder in INSTALLED):
        depth = module.__name__.count(".") + (path.name == "__init__.py")
        sources |= _closure(module.__name__, path.parents[depth])
    sha256 = hashlib.sha256()
    for name in sorted(sources):
        sha256.update(f"{name}\0{hashlib.sha256(sources[name].read_bytes()).hexdigest()}\0".encode())
    return sha256.hexdigest()


def _closure(name: str, folder: Path) -> dict[str, Path]:
    """Dotted name -> file, of a module and all that it imports from below `folder`."""
    sources: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        path = _file(folder, name)
        if name in sources or path is None or _is_ours(path):
            continue
        sources[name] = path
        waiting += _parents(name)
        for imported in _imports(path, name):
            waiting += [imported, *_parents(imported)]
    return sources


def _file(folder: Path, name: str) -> Path | None:
    place = folder.joinpath(*name.split("."))
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _is_ours(path: Path) -> bool:
    return any(path.resolve().is_relative_to(OURS / package) for package in ("cache", "pipeline"))


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _imports(path: Path, name: str) -> Iterator[str]:
    """The dotted names that a source may import; of `from a import b` both a and a.b, as b may be a module."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # of a file that is imported nowhere, or only where its error is caught
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)
