"""Config show, doctor."""

import click

from pipeline.commands.options import Command, Commands, Options, common, output_options
from pipeline.commands.output import show
from pipeline.commands.places import stores_path


@click.group("config", cls=Commands)
def config_group() -> None:
    """Settings: what they are and where each came from."""


@config_group.command("show")
@common
def config_show(options: Options) -> None:
    """Print the resolved settings, as TOML, and where each value came from."""
    from pipeline.commands.which_cache import resolve_settings
    from pipeline.settings.files import to_toml

    resolved = resolve_settings(options)
    document = {"settings": resolved.settings.model_dump(mode="json"), "origins": resolved.origins}
    show(document, options.as_json, to_toml(resolved.settings, resolved.origins).rstrip().split("\n"))


@click.command("doctor", cls=Command)
@output_options
def doctor(as_json: bool) -> None:
    """Check versions, device, and the folders of caches and runs: space, kind, locks, fsync; exit code 1 if one fails."""
    from pipeline.artefacts.folders import runs_folder
    from pipeline.machine.doctor import diagnose, document, failed, text

    checks = diagnose(stores_path(), runs_folder())
    show(document(checks), as_json, text(checks).split("\n"))
    if failed(checks):
        raise SystemExit(1)
