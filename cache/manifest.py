"""What a cache is: its identity, which names it; its provenance, which does not; its inventory, which proves it whole."""

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
"""Bytes of a manifest that are read at most. A million class names, and the rows of each, take 40 MB."""
PARTS = 1 << 18
"""Fields, lists and objects of a manifest at most: 5 a file, of 50,000 files. Parsing one costs 12 µs and 1 kB."""
TEXTS, VALUES = 2 << 20, 8 << 20
"""Texts, and values of any kind, of a manifest at most: names and counts of a million classes."""
_PART = re.compile(rb'"\s*:|[\[,:]\s*[\[{]')


class Provenance(Part):
    """How, when and by whom it was made; recorded, not hashed."""

    name: Text
    created: Text = ""
    author: Text = ""
    versions: dict[str, Text] = Field(default_factory=dict)
    device: Text = ""
    batch_size: Annotated[int, Field(ge=0, lt=1 << 40)] = 0
    backbone_run: Text = ""
    settings: dict[str, Any] = Field(default_factory=dict)


def provenance(**fields: Any) -> Provenance:
    """A provenance; CacheInvalid, naming the field, where a text is too long or a number out of bounds."""
    try:
        return Provenance(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise CacheInvalid(
            f"{'.'.join(map(str, first['loc']))} of the cache: {first['msg']}; nothing is written"
        ) from None


class Entry(Part):
    """One file of the cache: its path inside, bytes, sha256.

    `crc32c`, of the checksums that stand in a file of chunks, costs a plain read nothing (sha256 takes longer than the read)
    and tells chunks that changed places. Caches of before have none.
    """

    file: Annotated[str, Field(max_length=200)]
    size: Annotated[int, Field(ge=0, lt=1 << 50)]
    sha256: Digest
    crc32c: Annotated[str, Field(pattern=r"^([0-9a-f]{8})?\Z")] = ""


class Manifest(Part):
    """manifest.json, written last. `checksum` is the sha256 of everything else in it."""

    checksum: Digest
    key: Digest
    identity: Identity
    provenance: Provenance
    rows_per_chunk: Annotated[int, Field(ge=1)]
    chunks_per_shard: Annotated[int, Field(ge=1, le=1024)] = 1
    """Chunks of a file."""
    counts: dict[Word, tuple[Annotated[int, Field(ge=0)], ...]]
    """Rows of each class, a list a split."""
    inventory: tuple[Entry, ...]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        """Key, counts and inventory follow from the identity; so no path can lead out of the folder."""
        if self.identity.key() != self.key:
            raise ValueError(
                f"key {self.key[:12]} is not that of its identity, {self.identity.key()[:12]}; it was edited"
            )
        if self.raw_chunk_bytes > layout.CHUNK_LIMIT and self.rows_per_chunk > 1:
            raise ValueError(f"chunks of {self.raw_chunk_bytes} bytes, at most {layout.CHUNK_LIMIT} wanted")
        found = [entry.file for entry in self.inventory]
        without = [file for file in found if file != layout.CLASSIFIER]
        # Counted before it is enumerated: a hostile row count must not make a list of that length.
        if len(without) != layout.number_of_files(self.identity, self.rows_per_file) or sorted(without) != sorted(
            layout.files(self.identity, self.rows_per_file)
        ):
            raise ValueError("the inventory is not the list of files that the identity asks for")
        rows = {name: split.rows for name, split in self.identity.splits.items()}
        if {name: sum(counts) for name, counts in self.counts.items()} != rows or any(
            len(counts) != len(self.identity.classes) for counts in self.counts.values()
        ):
            raise ValueError("the counts are not those of the identity's rows and classes")
        return self

    @property
    def rows_per_file(self) -> int:
        return self.rows_per_chunk * self.chunks_per_shard

    @property
    def raw_chunk_bytes(self) -> int:
        """Bytes of a full chunk before compression."""
        return self.rows_per_chunk * self.identity.width * layout.ITEM_BYTES[self.identity.dtype]

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(entry.size for entry in self.inventory)

    def entry(self, file: str) -> Entry | None:
        return next((entry for entry in self.inventory if entry.file == file), None)


def build(**fields: Any) -> Manifest:
    """A manifest with its checksum."""
    draft = Manifest(checksum="0" * 64, **fields)
    return draft.model_copy(update={"checksum": _checksum(draft.model_dump(mode="json"))})


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as its file holds it."""
    return _text(manifest.model_dump(mode="json"))


def parse(content: bytes) -> Manifest:
    """The manifest in a file's content; ValueError (pydantic's ValidationError is one) where any bit of it is off."""
    _check_bounds(content)
    try:
        raw = json.loads(content, parse_float=_float)
        found = Manifest.model_validate(raw, strict=False)
        itself = _checksum(raw) == found.checksum and (_quick_text(raw) == content or _text(raw) == content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not itself:
        raise ValueError("its checksum is not that of its content; it was edited or damaged")
    return found


def _check_bounds(content: bytes) -> None:
    """ValueError for a text that would cost more to parse than any manifest of ours, found by counting alone."""
    parts = sum(1 for _ in islice(_PART.finditer(content), PARTS + 1))
    if parts > PARTS or content.count(b'"') > 2 * TEXTS or content.count(b",") > VALUES:
        raise ValueError(f"more than {PARTS} fields, {TEXTS} texts or {VALUES} values")


def _checksum(raw: dict[str, Any]) -> str:
    return hashlib.sha256(canonical({name: value for name, value in raw.items() if name != "checksum"})).hexdigest()


def _text(raw: dict[str, Any]) -> bytes:
    return (json.dumps(raw, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _quick_text(raw: dict[str, Any]) -> bytes:
    """`_text`, except that some floats are spelt otherwise (5e-5: 0.00005), in a tenth of the time: json indents in Python."""
    return to_json(raw, indent=1) + b"\n"


def _float(text: str) -> float:
    """ValueError for a float that `_text` would spell otherwise: it, and not `_quick_text`, says how."""
    value = float(text)
    if repr(value) != text:
        raise ValueError(f"the number {text[:30]} wanted as {value!r}; it was edited")
    return value
