"""One image of Places365 or ImageNet under the names that different releases give it. Pure.

The lists of Places-LT write `train/<class>/<file>`; the large release keeps `data_256/<letter>/<class>/<file>`, where a
class may be two folders (`apartment_building/outdoor`), and a flat `val_256/<file>`; the small one keeps
`places365_standard/train/<class>/<file>`, where the two are joined (`apartment_building-outdoor`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Split (`train` or `val`), class folder with `-` for an inner `/` ("" in the flat folder), and file name."""

    split: str
    folder: str
    file: str

    @property
    def canonical(self) -> str:
        return f"{self.split}/{self.folder}/{self.file}"


def parse(path: str) -> Place | None:
    """What the path means in one of the three dialects; None where it is in none."""
    parts = path.split("/")
    if parts[0] == "places365_standard":
        parts = parts[1:]
    if parts[0] == "data_256" and len(parts) >= 4:
        return Place("train", "-".join(parts[2:-1]), parts[-1])
    if parts[0] == "val_256" and len(parts) == 2:
        return Place("val", "", parts[-1])
    if parts[0] in ("train", "val") and len(parts) == 3:
        return Place(parts[0], parts[1], parts[2])
    return None


def candidates(path: str, folder: str = "") -> list[str]:
    """The path itself, then where the other dialects keep the file; `folder`: its class, for a path that does not say."""
    place = parse(path)
    names = [path]
    if place is not None:
        name = place.folder or folder
        inner = f"{place.split}/{name}/{place.file}"
        names += [inner, f"places365_standard/{inner}"] if name else []
        if place.split == "val":
            names += [f"val_256/{place.file}", place.file]
        elif name:
            large = f"{name[0]}/{name.replace('-', '/')}/{place.file}"
            names += [f"data_256/{large}", large, f"{name}/{place.file}"]
    return list(dict.fromkeys(names))
