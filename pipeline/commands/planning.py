"""`--dry-run`: what a command would do."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.output import show

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.plan import Plan
    from pipeline.settings import Settings


def dry_run_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--dry-run`, which the command gets as `dry_run`."""
    text = "Say what would run, what is reused, and how long it takes; write nothing."
    return click.option("--dry-run", is_flag=True, help=text)(command)


def show_images_plan(
    settings: "Settings", as_json: bool, extracts: bool = True, retrains: bool = True, folds: int | None = 0
) -> None:
    """Print the plan of a command that starts from images; `folds` as in `pipeline.run`."""
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.plan import plan_images

    _show(plan_images(settings, stores_folder(), runs_folder(), extracts, retrains, folds), as_json)


def show_cache_plan(settings: "Settings", cache: "FeatureCache", as_json: bool, folds: int = 0) -> None:
    """Print the plan of a command that starts from a cache and does stages 2 and 3 with all their methods, perhaps in folds."""
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.plan import plan_cache

    _show(plan_cache(settings, cache, stores_folder(), runs_folder(), folds), as_json)


def show_stg_plan(settings: "Settings", cache: "FeatureCache", as_json: bool) -> None:
    """Print the plan of stage 2 alone."""
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.plan import plan_stg

    _show(plan_stg(settings, cache, stores_folder(), runs_folder()), as_json)


def show_retrain_plan(settings: "Settings", cache: "FeatureCache", stg: Path | None, as_json: bool) -> None:
    """Print the plan of stage 3 for one method; `stg` is the run folder of a generator that the user names."""
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.plan import plan_retrain

    _show(plan_retrain(settings, cache, stores_folder(), runs_folder(), stg), as_json)


def _show(plan: "Plan", as_json: bool) -> None:
    from pipeline.report.plan import plan_text

    show(plan.model_dump(mode="json"), as_json, lambda: plan_text(plan))
