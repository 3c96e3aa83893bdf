"""Everything that changes rows; its digest is the key."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\Z")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]

TEXT_LIMIT = 4096
Text = Annotated[str, Field(max_length=TEXT_LIMIT)]
"""Free text, such as the name of a class. It is printed, and held for every cache that is listed."""
Integer = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class Part(BaseModel):
    """Frozen, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, regex_engine="python-re")


class SplitIdentity(Part):
    """Which samples, in which order, with which content; `views` augmented views lie beside the clean one."""

    rows: Annotated[int, Field(ge=1, lt=1 << 40)]
    samples: Digest
    """sha256 of the sample ids, in order, joined by NUL."""
    content: Digest
    views: Annotated[int, Field(ge=0, le=99)] = 0


class Identity(Part):
    """Everything that changes rows. Two caches with equal identities hold equal features."""

    format: Literal[1] = 1
    kind: Literal["extracted", "imported"] = "extracted"
    classes: tuple[Text, ...]
    splits: Annotated[dict[Word, SplitIdentity], Field(min_length=1)]
    weights: Digest
    backbone: Text
    layer: Text
    width: Annotated[int, Field(ge=1, le=1 << 20)]
    transform: dict[str, Any]
    view_transform: dict[str, Any]
    views_seed: Integer
    bn: Literal["plain", "shifted"] = "plain"
    autocast: Literal["off", "bf16", "fp16"] = "off"
    dtype: Literal["float16", "float32"] = "float16"

    def key(self) -> str:
        """sha256, hex, of the identity as canonical JSON: sorted keys, no spaces, no escapes that JSON does not need."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


def canonical(value: Any) -> bytes:
    """The value as canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def samples_digest(sample_ids: list[str]) -> str:
    """`SplitIdentity.samples` of these ids."""
    return hashlib.sha256("\0".join(sample_ids).encode()).hexdigest()
