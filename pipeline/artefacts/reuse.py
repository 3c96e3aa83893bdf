"""Why no finished backbone can be taken as it is."""

from pathlib import Path
from typing import Any

from pipeline.artefacts import folders
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import flat, read_toml
from pipeline.settings.made_by import INDIFFERENT

NAMED = 3
"""Differing settings that a sentence names at most. The others are counted."""
MADE_BY = ("data", "longtail", "backbone", "stage1")
"""The sections of settings that a backbone comes from, beside the seed."""


def why_not_reused(settings: Settings, folder: Path) -> str:
    """The settings in which the newest finished backbone of this name differs, as text; or that there is no such backbone.

    `folder` is the run folder that these settings have, in which no backbone is finished.
    """
    others = [path for path in folder.parent.glob("backbone-*") if folders.is_done(path) and path != folder]
    if not others:
        return f"there is no finished backbone of {settings.name} yet"
    newest = max(others, key=lambda path: (path / "metrics.json").stat().st_mtime)
    try:
        recorded = flat(read_toml(newest / "config.toml"))
    except ConfigError:
        return f"{newest.name} does not say what it was made with"
    differing = [
        f"{key} ({_shown(recorded[key])}, now {_shown(value)})"
        for key, value in flat(settings.model_dump(mode="json", include={"seed", *MADE_BY})).items()
        if key in recorded and recorded[key] != value and key not in INDIFFERENT
    ]
    more = f" and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
    if not differing:
        return f"{newest.name} was trained with these settings on other images or labels"
    return f"{newest.name} differs in {', '.join(differing[:NAMED])}{more}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
