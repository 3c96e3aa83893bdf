"""What a cache records of its making: by whom, when, and with which version of coattail."""

import getpass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def author() -> str:
    """The user's name on this machine; empty where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def coattail_version() -> str:
    """The installed version; `source` where coattail is not installed."""
    try:
        return version("coattail")
    except PackageNotFoundError:
        return "source"
