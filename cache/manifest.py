"""The manifest of a cache, `manifest.json`: identity, provenance and inventory.

The identity decides the features, and its digest is the key. The provenance says how the cache was made, and has no part in
the key. The inventory lists every file with its size and sha256.
"""

import hashlib
import json
import re
from itertools import islice
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import to_json

from cache.errors import CacheInvalid
from cache.format import layout
from cache.identity import Digest, Identity, Part, Text, Word, canonical

FORMAT = 1
NAME = layout.MANIFEST
LIMIT = 64 << 20
"""The most bytes of a manifest that are read. A million class names, and the rows of each class, take 40 MB."""
PARTS = 1 << 18
"""The most fields, lists and objects of a manifest: 5 for each of 50,000 files. To parse one takes 12 µs and 1 kB."""
TEXTS, VALUES = 2 << 20, 8 << 20
"""The most texts, and the most values of any kind, of a manifest: names and counts of a million classes."""
FREE_VALUES = 1 << 16
"""The most values of each field that has no shape of its own: the two transforms and the settings. They hold some dozens."""
_PART = re.compile(rb'"\s*:|[\[,:]\s*[\[{]')


class Provenance(Part):
    """How, when and by whom a cache was made. It is recorded, and is no part of the key."""

    name: Text
    created: Text = ""
    author: Text = ""
    versions: dict[str, Text] = Field(default_factory=dict)
    device: Text = ""
    batch_size: Annotated[int, Field(ge=0, lt=1 << 40)] = 0
    backbone_run: Text = ""
    settings: dict[str, Any] = Field(default_factory=dict)


def provenance(**fields: Any) -> Provenance:
    """A provenance. Raises CacheInvalid, which names the field, where a text is too long or a number out of range."""
    try:
        return Provenance(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise CacheInvalid(
            f"{'.'.join(map(str, first['loc']))} of the cache: {first['msg']}; nothing is written"
        ) from None


class Entry(Part):
    """One file of a cache: its path in the folder, its size in bytes, and its sha256.

    `crc32c` is the checksum of the checksums that stand in a file of chunks. Comparing it costs next to nothing, where sha256
    takes longer than the read, and it shows that a chunk lies in the place of another. Older caches have an empty one.
    """

    file: Annotated[str, Field(max_length=200)]
    size: Annotated[int, Field(ge=0, lt=1 << 50)]
    sha256: Digest
    crc32c: Annotated[str, Field(pattern=r"^([0-9a-f]{8})?\Z")] = ""


class Manifest(Part):
    """manifest.json, the file that is written last. `checksum` is the sha256 of everything else in it."""

    checksum: Digest
    key: Digest
    identity: Identity
    provenance: Provenance
    rows_per_chunk: Annotated[int, Field(ge=1)]
    chunks_per_shard: Annotated[int, Field(ge=1, le=1024)] = 1
    """How many chunks a file holds."""
    counts: dict[Word, tuple[Annotated[int, Field(ge=0)], ...]]
    """For each split the number of rows of each class, (C,)."""
    inventory: tuple[Entry, ...]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """Key, counts and inventory must be those of the identity. So no path in it can lead out of the folder."""
        key = self.identity.key()
        if key != self.key:
            raise ValueError(f"wanted the key of its identity, {key[:12]}, found {self.key[:12]}: it was edited")
        if self.raw_chunk_bytes > layout.CHUNK_LIMIT and self.rows_per_chunk > 1:
            raise ValueError(f"chunks of {self.raw_chunk_bytes} bytes, at most {layout.CHUNK_LIMIT} wanted")
        files = [entry.file for entry in self.inventory if entry.file != layout.CLASSIFIER]
        # The number comes first: a forged number of rows must not make a list of that length.
        cut = (self.identity, self.rows_per_chunk, self.chunks_per_shard)
        if len(files) != layout.number_of_files(*cut) or sorted(files) != sorted(layout.files(*cut)):
            raise ValueError("the inventory is not the list of files that the identity asks for")
        rows = {name: split.rows for name, split in self.identity.splits.items()}
        if {name: sum(counts) for name, counts in self.counts.items()} != rows or any(
            len(counts) != len(self.identity.classes) for counts in self.counts.values()
        ):
            raise ValueError("the counts are not those of the identity's rows and classes")
        return self

    def rows_per_file(self, array: str) -> int:
        """How many rows of an array, a view or `maps`, a file holds."""
        return layout.array_chunk(self.identity, array, self.rows_per_chunk) * self.chunks_per_shard

    @property
    def raw_chunk_bytes(self) -> int:
        """Bytes of a full chunk before compression."""
        return self.rows_per_chunk * self.identity.width * layout.ITEM_BYTES[self.identity.dtype]

    @property
    def size(self) -> int:
        """Bytes of all files together, without the manifest."""
        return sum(entry.size for entry in self.inventory)

    def entry(self, file: str) -> Entry | None:
        """The entry of a file; None where the inventory does not list it."""
        return next((entry for entry in self.inventory if entry.file == file), None)


def build(**fields: Any) -> Manifest:
    """A manifest of these fields; its checksum is computed."""
    draft = Manifest(checksum="0" * 64, **fields)
    return draft.model_copy(update={"checksum": _checksum(draft.model_dump(mode="json"))})


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as its file holds it."""
    return _text(manifest.model_dump(mode="json"))


def parse(content: bytes) -> Manifest:
    """The manifest in a file's bytes.

    Raises ValueError where any bit of them was changed. pydantic's ValidationError is one.
    """
    _check_bounds(content)
    try:
        raw = json.loads(content, parse_float=_float)
        _check_free_fields(raw)
        manifest = Manifest.model_validate(raw, strict=False)
        unchanged = _checksum(raw) == manifest.checksum and (_quick_text(raw) == content or _text(raw) == content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not unchanged:
        raise ValueError("its checksum is not that of its content; it was edited or damaged")
    return manifest


def _check_bounds(content: bytes) -> None:
    """Raise ValueError for a text that would cost more to parse than any manifest of coattail's. It is counted, not parsed."""
    parts = sum(1 for _ in islice(_PART.finditer(content), PARTS + 1))
    if parts > PARTS or content.count(b'"') > 2 * TEXTS or content.count(b",") > VALUES:
        raise ValueError(f"more than {PARTS} fields, {TEXTS} texts or {VALUES} values")


def _check_free_fields(raw: Any) -> None:
    """Raise ValueError for a transform, or settings, of more values than anybody's have: to compute its key costs seconds."""
    fields = {"identity": ("transform", "view_transform"), "provenance": ("settings",)}
    for part, names in fields.items():
        for name in names:
            section = raw.get(part) if isinstance(raw, dict) else None
            if isinstance(section, dict) and _has_more_values(section.get(name), FREE_VALUES):
                raise ValueError(f"{part}.{name}: more than {FREE_VALUES} values")


def _has_more_values(value: Any, limit: int) -> bool:
    """Whether a JSON value holds more than `limit` values, itself included. No more than these are looked at."""
    waiting, count = [value], 0
    while waiting:
        inner = waiting.pop()
        count += 1
        nested = list(inner.values()) if isinstance(inner, dict) else inner if isinstance(inner, list) else []
        if count + len(waiting) + len(nested) > limit:
            return True
        waiting += nested
    return False


def _checksum(raw: dict[str, Any]) -> str:
    return hashlib.sha256(canonical({name: value for name, value in raw.items() if name != "checksum"})).hexdigest()


def _text(raw: dict[str, Any]) -> bytes:
    return (json.dumps(raw, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _quick_text(raw: dict[str, Any]) -> bytes:
    """The same text as `_text`, except that some floats are spelt otherwise, such as 5e-5 for 0.00005.

    It takes a tenth of the time, because `json` indents in Python.
    """
    return to_json(raw, indent=1) + b"\n"


def _float(text: str) -> float:
    """The float that a text spells. Raises ValueError where `_text` would spell it otherwise: then it was edited."""
    value = float(text)
    if repr(value) != text:
        raise ValueError(f"wanted the number {value!r}, found it as {text[:30]}: it was edited")
    return value
