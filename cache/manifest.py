"""What a cache is: its identity, which names it; its provenance, which does not; its inventory, which proves it whole."""

import hashlib
import json
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

FORMAT = 1
NAME = "manifest.json"
LIMIT = 256 << 20
"""Bytes of a manifest that are read at most."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Part(BaseModel):
    """Frozen, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SplitIdentity(Part):
    """Which samples, in which order, with which content; `views` augmented views lie beside the clean one."""

    rows: Annotated[int, Field(ge=1)]
    samples: Digest
    content: Digest
    views: Annotated[int, Field(ge=0, le=99)] = 0


class Identity(Part):
    """Everything that changes rows. Two caches with equal identities hold equal features."""

    format: Literal[1] = FORMAT
    kind: Literal["extracted", "imported"] = "extracted"
    classes: tuple[str, ...]
    splits: dict[Word, SplitIdentity]
    weights: Digest
    backbone: str
    layer: str
    width: Annotated[int, Field(ge=1, le=1 << 20)]
    transform: dict[str, Any]
    view_transform: dict[str, Any]
    views_seed: int
    bn: Literal["plain", "shifted"] = "plain"
    autocast: Literal["off", "bf16", "fp16"] = "off"
    dtype: Literal["float16", "float32"] = "float16"

    def key(self) -> str:
        """sha256, hex, of the identity as canonical JSON: sorted keys, no spaces, no escapes that JSON does not need."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


class Provenance(Part):
    """How, when and by whom it was made; recorded, not hashed."""

    name: str
    created: str = ""
    author: str = ""
    versions: dict[str, str] = {}
    device: str = ""
    batch_size: int = 0
    backbone_run: str = ""
    settings: dict[str, Any] = {}


class Entry(Part):
    """One file of the cache: its path inside, bytes, sha256."""

    file: str
    size: Annotated[int, Field(ge=0)]
    sha256: Digest

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or "\\" in file or str(path) != file or file in ("", ".", NAME):
            raise ValueError(f"not a path inside the cache: {file!r}")
        return file


class Manifest(Part):
    """manifest.json, written last."""

    key: Digest
    identity: Identity
    provenance: Provenance
    inventory: tuple[Entry, ...]
    counts: dict[Word, tuple[int, ...]]
    """Rows of each class, a list a split."""


def canonical(value: Any) -> bytes:
    """The value as canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
