"""Which settings a cache and its backbone come from, and which of those leave them as they are."""

FROM_IMAGES = ("data", "backbone", "stage1", "extract")
"""Sections of settings that only what makes a cache uses."""
DRAW = frozenset({f"longtail.{name}" for name in ("profile", "imbalance_factor", "draw", "n_max")})
"""Settings of `longtail` that only what makes a cache uses; the others say which class is many, medium or few."""
INDIFFERENT = (
    "longtail.many_above",
    "longtail.few_below",
    "data.on_bad",
    "data.bad_limit",
    "data.ram_limit",
    "data.decoded",
    "data.workers",
    "data.download",
    "stage1.device",
    "stage1.compile",
    "stage1.checkpoint_minutes",
    "extract.batch_size",
)
"""Settings of what makes a cache that change how the work is done, but not its result."""
