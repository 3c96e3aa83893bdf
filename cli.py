"""coattail's command line: the group of all commands, and the exit code of a failure. Imports no torch by itself."""

import importlib.util
import io
import os
import signal
import sys
from pathlib import Path

import click

from pipeline.commands.about import doctor
from pipeline.commands.caches import cache_group
from pipeline.commands.comparing import compare, results
from pipeline.commands.configs import config_group
from pipeline.commands.exporting import export
from pipeline.commands.failures import exit_code, terminate
from pipeline.commands.inspecting import inspect
from pipeline.commands.options import Commands
from pipeline.commands.output import fail
from pipeline.commands.reporting import report
from pipeline.commands.run import demo, run
from pipeline.commands.stage1 import extract, train_backbone
from pipeline.commands.stages_2_and_3 import evaluate, retrain, train_stg
from pipeline.commands.sweeping import sweep
from pipeline.commands.using import predict

# Read when torch loads: threads that spin while they wait take the cores that other processes want.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HERE = Path(__file__).resolve().parent


@click.group(cls=Commands, context_settings={"max_content_width": 110})
@click.version_option(package_name="coattail")
def cli() -> None:
    """Long-tailed image classifiers in decoupled stages: extract features once, then retrain in seconds.

    Caches lie in stores/ (or $COATTAIL_STORES), run folders in runs/ (or $COATTAIL_RUNS). Both are looked for in the
    working folder and those above it, and else made in the working folder.
    """


for command in (
    *(demo, run, train_backbone, extract, train_stg, retrain, evaluate, predict, export),
    *(inspect, compare, sweep, results, report, cache_group, config_group, doctor),
):
    cli.add_command(command)


def _check_neighbours() -> None:
    """Exit with 1 where Python would import another package named `cache` or `pipeline` than the one beside this file."""
    for name in ("cache", "pipeline"):
        spec = importlib.util.find_spec(name)
        folder = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if folder != HERE / name:
            text = (
                f"wanted the package {name} in {HERE / name}, found {folder}; install coattail in its own environment"
            )
            raise SystemExit(fail([text], 1))


def main() -> None:
    """Run a command; a failure is one line on stderr and exit code 1 (failed) or 2 (called wrongly)."""
    signal.signal(signal.SIGTERM, terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal's encoding lacks are escaped, so that printing a name never fails.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(exit_code(_main))


def _main() -> None:
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    _check_neighbours()
    cli.main(standalone_mode=False)


if __name__ == "__main__":
    main()
