"""`--dry-run`: what a command would do."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.output import show

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.settings import Settings


def dry_run_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--dry-run`, which the command gets as `dry_run`."""
    text = "Say what would run, what is reused, and how long it takes; write nothing."
    return click.option("--dry-run", is_flag=True, help=text)(command)


def show_images_plan(settings: "Settings", as_json: bool, extracts: bool = True, retrains: bool = True) -> None:
    """Print the plan of a command that starts from images."""
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.plan import plan_images
    from pipeline.report.plan import plan_text

    plan = plan_images(settings, stores_folder(), runs_folder(), extracts, retrains)
    show(plan.model_dump(mode="json"), as_json, lambda: plan_text(plan))


def show_cache_plan(settings: "Settings", cache: "FeatureCache", as_json: bool, retrains: bool = True) -> None:
    """Print the plan of a command that starts from a cache."""
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.plan import plan_cache
    from pipeline.report.plan import plan_text

    plan = plan_cache(settings, cache, stores_folder(), runs_folder(), retrains)
    show(plan.model_dump(mode="json"), as_json, lambda: plan_text(plan))
