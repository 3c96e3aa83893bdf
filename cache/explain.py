"""In which fields two caches, or a cache and what a config would make, differ."""

from dataclasses import dataclass
from typing import Any

from cache.identity import Identity
from cache.manifest import Manifest


@dataclass(frozen=True)
class Difference:
    """A field, by its path such as `identity.transform.size`, and both values; None where one has no such field."""

    field: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.left)} | {_shown(self.right)}"


def explain(left: Manifest | Identity, right: Manifest | Identity) -> tuple[Difference, ...]:
    """The differences, those of the identity (which make another key) first, then those of the provenance.

    With an Identity on either side only identities are compared. Empty: the same rows.
    """
    if isinstance(left, Manifest) and isinstance(right, Manifest):
        provenance = _differences("provenance", _plain(left.provenance), _plain(right.provenance))
        return (*explain(left.identity, right.identity), *provenance)
    return tuple(_differences("identity", _plain(_identity(left)), _plain(_identity(right))))


def _identity(one: Manifest | Identity) -> Identity:
    return one.identity if isinstance(one, Manifest) else one


def _plain(one: Any) -> Any:
    return one.model_dump(mode="json")


def _differences(field: str, left: Any, right: Any) -> list[Difference]:
    if isinstance(left, dict) and isinstance(right, dict):
        names = [*left, *(name for name in right if name not in left)]
        return [found for name in names for found in _differences(f"{field}.{name}", left.get(name), right.get(name))]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [found for number, (a, b) in pairs for found in _differences(f"{field}[{number}]", a, b)]
    return [] if left == right and type(left) is type(right) else [Difference(field, left, right)]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
