"""One line of `cache ls`: what a folder holds, as its manifest says it."""

from dataclasses import dataclass
from typing import Literal

from cache.manifest import Manifest

State = Literal["published", "incomplete", "damaged", "foreign", "local", "decoded"]
"""What a folder holds. `published`: a cache. `incomplete`: one that is being written, or whose writing was cut off.
`damaged`: a cache with files missing, or of a wrong size. `foreign`: something that no cache is, in a folder that looks like
one by its name or by a file, or that lies beside unpublished ones. `local`: a copy that `cache.mapped` made. `decoded`: images,
decoded."""


@dataclass(frozen=True)
class Listing:
    """One line of `cache ls`.

    `bytes` is the size of the files, `modified` a time in seconds since 1970, and `created` a time as ISO 8601 text. `rows`
    counts the samples of all splits. `problem` says what is wrong with a folder that is not published.
    """

    key: str
    path: str
    state: State
    bytes: int
    modified: float
    name: str = ""
    backbone: str = ""
    rows: int = 0
    width: int = 0
    views: int = 0
    """Augmented views of training rows; of the split that has most, where none is called train."""
    test_views: int = 0
    """Views of test rows beside the clean one."""
    dtype: str = ""
    classes: int = 0
    created: str = ""
    author: str = ""
    problem: str = ""

    @classmethod
    def of(cls, manifest: Manifest, path: str, modified: float) -> "Listing":
        """The listing of a published cache, by its manifest alone."""
        identity, provenance = manifest.identity, manifest.provenance
        views = {name: split.views for name, split in identity.splits.items()}
        return cls(
            key=manifest.key,
            path=path,
            state="published",
            bytes=manifest.size,
            modified=modified,
            name=provenance.name,
            backbone=identity.backbone,
            rows=sum(split.rows for split in identity.splits.values()),
            width=identity.width,
            views=views["train"] if "train" in views else max(views.values()),
            test_views=views.get("test", 0),
            dtype=identity.dtype,
            classes=len(identity.classes),
            created=provenance.created,
            author=provenance.author,
        )
