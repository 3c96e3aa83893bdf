"""Config show, doctor."""

import click

from pipeline.commands.caches import stores_path
from pipeline.commands.options import Commands, common, output_options, show


@click.group("config", cls=Commands)
def config_group() -> None:
    """Settings: what they are and where each came from."""


@config_group.command("show")
@common
def config_show(config: str | None, overrides: tuple[str, ...], seed: int | None, as_json: bool) -> None:
    """Print the resolved settings, as TOML, and where each value came from."""
    from pipeline.settings.files import to_toml
    from pipeline.settings.load import load

    resolved = load(config, overrides, seed)
    document = {"settings": resolved.settings.model_dump(mode="json"), "origins": resolved.origins}
    show(document, as_json, to_toml(resolved.settings, resolved.origins).rstrip())


@click.command("doctor")
@output_options
def doctor(as_json: bool) -> None:
    """Check versions, device, and the folders of caches and runs: space, kind, locks, fsync; exit code 1 if one fails."""
    from pipeline.artefacts.folders import runs_folder
    from pipeline.machine.doctor import diagnose, document, failed, text

    checks = diagnose(stores_path(), runs_folder())
    show(document(checks), as_json, text(checks))
    if failed(checks):
        raise SystemExit(1)
