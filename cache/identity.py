"""The identity of a cache: everything that decides its features. The sha256 of it is the key."""

import hashlib
import json
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cache.format import layout

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\Z")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]

TEXT_LIMIT = 4096
Text = Annotated[str, Field(max_length=TEXT_LIMIT)]
"""Free text, such as the name of a class. Its length has a limit because `cache ls` holds and prints that of every cache."""
Side = Annotated[int, Field(ge=1, le=4096)]
Integer = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class Part(BaseModel):
    """Base of the parts of a manifest. A part cannot be changed, and refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, regex_engine="python-re")


class SplitIdentity(Part):
    """The samples of a split, their order and their content; `views` counts the augmented views beside the clean one."""

    rows: Annotated[int, Field(ge=1, lt=1 << 40)]
    samples: Digest
    """sha256 of the sample ids, in order, joined by NUL."""
    content: Digest
    """sha256 of what the features were made from: the images, or the user's own features and labels."""
    views: Annotated[int, Field(ge=0, le=99)] = 0


class Identity(Part):
    """Everything that decides the features. Two caches of equal identities hold equal features."""

    format: Literal[1] = 1
    kind: Literal["extracted", "imported"] = "extracted"
    classes: tuple[Text, ...]
    splits: Annotated[dict[Word, SplitIdentity], Field(min_length=1)]
    weights: Digest
    """sha256 of the backbone's tensors; of an import, of the classifier's."""
    backbone: Text
    layer: Text
    width: Annotated[int, Field(ge=1, le=1 << 20)]
    transform: dict[str, Any]
    view_transform: dict[str, Any]
    views_seed: Integer
    bn: Literal["plain", "shifted"] = "plain"
    autocast: Literal["off", "bf16", "fp16"] = "off"
    dtype: Literal["float16", "float32"] = "float16"
    maps: tuple[Side, Side] | None = None
    """(h, w) of the last feature map of each clean image, where the cache has those maps, (D, h, w), beside the features."""

    @model_validator(mode="after")
    def _a_map_can_be_read(self) -> Self:
        """A row is read whole, so that a forged shape must not take memory."""
        size = self.width * prod(self.maps or ()) * layout.ITEM_BYTES[self.dtype]
        if size > layout.CHUNK_LIMIT:
            raise ValueError(f"maps of {size} bytes, at most {layout.CHUNK_LIMIT} wanted")
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_were_maps(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a field for maps where there are none: keys and manifests are then those of caches before there were any."""
        values: dict[str, Any] = plain(self)
        if self.maps is None:
            del values["maps"]
        return values

    def key(self) -> str:
        """The key of the cache: sha256 of the identity as canonical JSON, 64 hex digits."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


def canonical(value: Any) -> bytes:
    """The value as canonical JSON, in which equal values have equal bytes.

    Keys are sorted, nothing is spaced, and only what JSON demands is escaped.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def samples_digest(sample_ids: list[str]) -> str:
    """The digest of sample ids that `SplitIdentity.samples` holds."""
    return hashlib.sha256("\0".join(sample_ids).encode()).hexdigest()
