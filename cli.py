"""coattail's commands: parse, load the config, call one function, print. No logic and no torch at import."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import click

from pipeline.commands.about import config_group, doctor
from pipeline.commands.caches import cache_group
from pipeline.commands.options import Commands, fail, speaks
from pipeline.commands.stages import demo, extract, retrain, run, train_backbone, train_stg

# Read when torch loads: threads that spin while they wait take the cores that other processes want.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HERE = Path(__file__).resolve().parent


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="coattail")
def cli() -> None:
    """Long-tailed image classifiers in decoupled stages: extract features once, then retrain in seconds.

    Caches lie in stores/ (or $COATTAIL_STORES), run folders in runs/ (or $COATTAIL_RUNS).
    """


for command in (demo, run, train_backbone, extract, train_stg, retrain, cache_group, config_group, doctor):
    cli.add_command(command)


def _check_neighbours() -> None:
    """`cache` and `pipeline` are common names: an installed stranger of that name must not be taken for ours."""
    for name in ("cache", "pipeline"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != HERE / name:
            sys.exit(
                f"coattail: wanted the package {name} in {HERE / name}, found {found}; install coattail in its own environment"
            )


def main() -> None:
    """Run a command; a failure is one line on stderr and exit code 1 (failed) or 2 (called wrongly)."""
    # A cluster that takes the machine back sends SIGTERM; what is finished is kept as it is after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _main()
    except (KeyboardInterrupt, click.Abort):
        from pipeline.progress import interrupted_text

        sys.exit(fail(interrupted_text(), 1))


def _main() -> None:
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    _check_neighbours()
    from cache.errors import CacheError, PlaceInvalid
    from pipeline.errors import ConfigError, PipelineError, out_of_memory

    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        if speaks():
            error.show()
        sys.exit(error.exit_code)
    except (ConfigError, PlaceInvalid) as error:
        sys.exit(fail(str(error), 2))
    except (PipelineError, CacheError) as error:
        sys.exit(fail(str(error), 1))
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision"):
            raise
        sys.exit(fail(f"{error.name} is not installed, and this command wants it; pip install {error.name}", 1))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(fail(f"{where}{error.strerror or error}", 1))
    except (RuntimeError, MemoryError) as error:  # click.Abort, too, is a RuntimeError
        if not (text := out_of_memory(error)):
            raise
        sys.exit(fail(text, 1))


if __name__ == "__main__":
    main()
