"""What an array is, by the name that people give such arrays. Pure.

`features`, `train/features`, `X_train`, `test-labels`, `val.ids`: a split, where the name says one, and a role.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
ROLES = {
    "features": ("features", "feature", "feats", "feat", "embeddings", "embedding", "x", "clean"),
    "labels": ("labels", "label", "targets", "target", "y"),
    "ids": ("ids", "id", "sample_ids", "sample_id"),
    "split": ("split", "splits"),
    "classes": ("classes", "class_names", "label_names"),
    "weight": ("weight", "classifier_weight", "fc_weight", "head_weight"),
    "bias": ("bias", "classifier_bias", "fc_bias", "head_bias"),
}
_VIEW = re.compile(r"view_?(\d{1,2})")


@dataclass(frozen=True)
class Meaning:
    """Split ("" where the name says none), role, and for features the view."""

    split: str
    role: str
    view: str = ""


def meaning(name: str, local: str, given: Mapping[str, str]) -> Meaning | None:
    """What the array `name`, called `local` within its file, is; None where the name says nothing.

    `given` maps roles to names that the user gave them; such a role has no other name then.
    """
    split = next((SPLITS[token.lower()] for token in _tokens(name) if token.lower() in SPLITS), "")
    rest = "_".join(token for token in _tokens(local or name) if token.lower() not in SPLITS)
    for role, wanted in given.items():
        if wanted in (local, name, rest):
            return _of(role, split)
    rest = rest.lower()
    if view := _VIEW.fullmatch(rest):
        return _of(f"view-{int(view[1]):02d}", split)
    for role, names in ROLES.items():
        if role not in given and (rest in names or (rest == "" and role == "features")):
            return _of(role, split)
    return None


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[/_.\-\s]+", name) if token]


def _of(role: str, split: str) -> Meaning:
    if role == "features":
        return Meaning(split, role, "clean")
    return Meaning(split, "features", role) if role.startswith("view-") else Meaning(split, role)
