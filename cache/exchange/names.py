"""What an array is, by the name that people give such arrays. Pure.

`features`, `train/features`, `X_train`, `ytest`, `test-labels`, `val.ids`: a split, where the name says one, and a role.
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
    "features": ("features", "feature", "feats", "feat", "embeddings", "embedding", "img_emb", "x", "clean"),
    "labels": ("labels", "label", "targets", "target", "y"),
    "ids": ("ids", "id", "sample_ids", "sample_id"),
    "split": ("split", "splits"),
    "classes": ("classes", "class_names", "label_names"),
    "weight": ("weight", "classifier_weight", "fc_weight", "head_weight", "linear_weight", "coef", "kernel"),
    "bias": ("bias", "classifier_bias", "fc_bias", "head_bias", "linear_bias", "intercept"),
}
_VIEW = re.compile(r"view_?(\d{1,2})")


@dataclass(frozen=True)
class Meaning:
    """Split ("" where the name says none), role, and for features the view."""

    split: str
    role: str
    view: str = ""


def meaning(name: str, local: str, given: Mapping[str, str], file_split: str = "") -> Meaning | None:
    """What the array `name`, called `local` within its file, is; None where the name says nothing.

    `given` maps a role, or SPLIT/ROLE, to the name that the user gave it; such a role has no other name then.
    `file_split` is the split of the whole file, "" where the file may hold several.
    """
    split = next((of for of, _ in map(_fused, _tokens(name)) if of), "")
    rest = "_".join(left for _, left in map(_fused, _tokens(local or name)) if left)
    last = "_".join(left for _, left in map(_fused, _tokens(name.rpartition("/")[2])) if left)
    for key, wanted in given.items():
        given_split, role = split_and_role(key)
        if wanted in (local, name, rest) and (not file_split or given_split in ("", file_split)):
            return _of(role, given_split or split)
    taken = {role for of, role in map(split_and_role, given) if of in ("", file_split or split or "train")}
    # `img_emb/img_emb.npy`: where the whole path says nothing, the file's own name may.
    for text in (rest.lower(), "" if local else last.lower()):
        if view := _VIEW.fullmatch(text):
            return _of(f"view-{int(view[1]):02d}", split)
        for role, names in ROLES.items():
            if role not in taken and text in names:
                return _of(role, split)
    return _of("features", split) if rest == "" and "features" not in taken else None


def split_and_role(key: str) -> tuple[str, str]:
    """`test/labels` as split and role; the split is "" where the key is a role alone."""
    split, _, role = key.rpartition("/")
    return SPLITS.get(split, split), role


def _fused(token: str) -> tuple[str, str]:
    """The split that a token says, "" for none, and what is left of the token: `ytest` is the labels of test."""
    lower = token.lower()
    if lower in SPLITS:
        return SPLITS[lower], ""
    for role in ("x", "y"):
        if lower[:1] == role and lower[1:] in SPLITS:
            return SPLITS[lower[1:]], token[:1]
    return "", token


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[/_.\-\s]+", name) if token]


def _of(role: str, split: str) -> Meaning:
    if role == "features":
        return Meaning(split, role, "clean")
    return Meaning(split, "features", role) if role.startswith("view-") else Meaning(split, role)
