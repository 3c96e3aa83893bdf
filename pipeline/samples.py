"""Caches that ship with coattail: real features of published benchmarks, to try stages 2 and 3 on without an image."""

import difflib
from pathlib import Path

from pipeline.config import CONFIGS
from pipeline.errors import ConfigError

SAMPLES = CONFIGS / "samples"


def available() -> list[str]:
    """Names that `demo --sample` takes."""
    return sorted(path.parent.name for path in SAMPLES.glob("*/manifest.json"))


def sample_path(name: str) -> Path:
    """The folder of the sample cache called `name`. Raises ConfigError, with the closest name, where there is none."""
    if name in available():
        return SAMPLES / name
    closest = difflib.get_close_matches(name, available(), n=1)
    hint = f"did you mean {closest[0]}? " if closest else ""
    raise ConfigError(f"sample {name!r}: no such sample; {hint}wanted one of: {', '.join(available()) or '(none)'}")
