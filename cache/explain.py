"""The fields in which two caches differ, or in which a cache differs from what a config would make."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

from cache.identity import Identity, Part
from cache.manifest import Manifest


@dataclass(frozen=True)
class Difference:
    """A field by its path, such as `identity.transform.size`, and its two values. None stands for a field that is not there."""

    field: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.left)} | {_shown(self.right)}"


def explain(left: Manifest | Identity, right: Manifest | Identity) -> tuple[Difference, ...]:
    """The differences of the identities, which give another key, then those of the provenances.

    Where one side is an Identity, only identities are compared. No difference of identities means equal features.
    """
    if isinstance(left, Manifest) and isinstance(right, Manifest):
        provenance = _differences("provenance", _plain(left.provenance), _plain(right.provenance))
        return (*explain(left.identity, right.identity), *provenance)
    return tuple(_differences("identity", _plain(_identity(left)), _plain(_identity(right))))


def _identity(side: Manifest | Identity) -> Identity:
    return side.identity if isinstance(side, Manifest) else side


def _plain(part: Part) -> Any:
    return part.model_dump(mode="json")


def _differences(field: str, left: Any, right: Any) -> list[Difference]:
    if isinstance(left, dict) and isinstance(right, dict):
        names = [*left, *(name for name in right if name not in left)]
        nested = [_differences(f"{field}.{name}", left.get(name), right.get(name)) for name in names]
        return list(chain.from_iterable(nested))
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return list(chain.from_iterable(_differences(f"{field}[{number}]", *pair) for number, pair in pairs))
    return [] if left == right and type(left) is type(right) else [Difference(field, left, right)]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
