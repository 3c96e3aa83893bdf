"""What an array holds, told from its name: its role, such as features or labels, and its split if the name has one.

Examples are `features`, `train/features`, `X_train`, `ytest`, `test-labels` and `val.ids`.
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
    """What a name says: the split ("" where it says none), the role, and of features the view."""

    split: str
    role: str
    view: str = ""


def meaning(name: str, local: str, given: Mapping[str, str], file_split: str = "") -> Meaning | None:
    """What the array `name`, called `local` within its file, holds; None where the name says nothing.

    `given` maps a role, or SPLIT/ROLE, to the name that the user says it has. No other name means that role then.
    `file_split` is the split of the whole file, "" where the file may hold several.
    """
    split = next((token_split for token_split, _ in map(_parted, _tokens(name)) if token_split), "")
    rest = _without_splits(local or name)
    file_name = _without_splits(name.rpartition("/")[2])
    for key, wanted in given.items():
        given_split, role = split_and_role(key)
        if wanted in (local, name, rest) and (not file_split or given_split in ("", file_split)):
            return _clean(given_split or split, role)
    own_splits = ("", file_split or split or "train")
    taken = {role for given_split, role in map(split_and_role, given) if given_split in own_splits}
    # In `img_emb/img_emb.npy` the whole path says nothing, and the name of the file does.
    for text in (rest.lower(), "" if local else file_name.lower()):
        if view := _VIEW.fullmatch(text):
            return Meaning(split, "features", f"view-{int(view[1]):02d}")
        for role, names in ROLES.items():
            if role not in taken and text in names:
                return _clean(split, role)
    return _clean(split, "features") if rest == "" and "features" not in taken else None


def split_and_role(key: str) -> tuple[str, str]:
    """The split and the role that a key such as `test/labels` names; the split is "" where the key is a role alone."""
    split, _, role = key.rpartition("/")
    return SPLITS.get(split, split), role


def _parted(token: str) -> tuple[str, str]:
    """The split in a part of a name, "" for none, and the rest of the part: `ytest` is test and y."""
    lower = token.lower()
    if lower in SPLITS:
        return SPLITS[lower], ""
    for role in ("x", "y"):
        if lower[:1] == role and lower[1:] in SPLITS:
            return SPLITS[lower[1:]], token[:1]
    return "", token


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[/_.\-\s]+", name) if token]


def _without_splits(name: str) -> str:
    return "_".join(rest for _, rest in map(_parted, _tokens(name)) if rest)


def _clean(split: str, role: str) -> Meaning:
    """The meaning of a role; features are of the view `clean`."""
    return Meaning(split, role, "clean" if role == "features" else "")
