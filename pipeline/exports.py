"""`cache.exporting` with a bar: a large cache takes minutes."""

from collections.abc import Sequence
from pathlib import Path

from cache import FeatureCache
from cache.exporting import Exported, export
from pipeline.progress import track


def export_shown(path: Path, destination: Path, splits: Sequence[str], views: Sequence[str]) -> Exported:
    """Export the cache at `path`; raises as `export` does."""
    cache = FeatureCache.open(path)
    found = cache.manifest.identity.splits
    total = sum(
        found[split].rows * (len(views) or found[split].views + 1) for split in splits or found if split in found
    )
    with track(total, f"exporting {cache.key[:12]}") as progress:
        return export(cache, destination, splits, views, progress.advance)
