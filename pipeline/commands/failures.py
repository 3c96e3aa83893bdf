"""A failure becomes one line on stderr and an exit code. One that nobody foresaw also leaves a log file with its traceback."""

import io
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from pipeline.commands.output import close_output, complain, fail, fail_in_json, speaks

FAILED, CALLED_WRONGLY = 1, 2
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
"""Exit codes of a process that a signal ended, as a shell reports it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a cluster sends before it takes the machine back. What is finished is kept, as after Ctrl-C."""


def terminate(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM."""
    raise Terminated


class Stopped(Exception):
    """A command that a signal ended. click would print an empty line for a KeyboardInterrupt, and forget which it was."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise Stopped."""
    try:
        yield
    except Terminated:
        raise Stopped(TERMINATED) from None
    except KeyboardInterrupt:
        raise Stopped(INTERRUPTED) from None


def exit_code(command: Callable[[], object]) -> int:
    """Run the command; 0, or the exit code of its failure, which is printed."""
    try:
        command()
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException as error:
        code = _reported(error)
        close_output()
        return code
    return 0


def _reported(error: BaseException) -> int:
    from cache.errors import CacheError, PlaceInvalid
    from pipeline.errors import ConfigError, PipelineError, out_of_memory

    if isinstance(error, BrokenPipeError):
        return FAILED  # whoever read our pipe has gone, such as `head`; there is nobody to tell
    if isinstance(error, (Stopped, KeyboardInterrupt, click.Abort)):
        return _interrupted(error)
    if isinstance(error, click.ClickException):
        return _called_wrongly(error)
    if isinstance(error, (ConfigError, PlaceInvalid)):
        return fail(lines_of_error(error), CALLED_WRONGLY)
    if isinstance(error, (PipelineError, CacheError)):
        return fail(lines_of_error(error), FAILED)
    if isinstance(error, ModuleNotFoundError) and error.name in ("torch", "torchvision"):
        return fail([f"{error.name} is not installed, and this command wants it; pip install {error.name}"], FAILED)
    if isinstance(error, OSError) and (reason := error.strerror or str(error)):
        where = f"{error.filename}: " if error.filename else ""
        return fail([f"{where}{reason}"], FAILED)
    if text := out_of_memory(error):
        return fail([text], FAILED)
    return fail([_unforeseen(error)], FAILED)


def lines_of_error(error: BaseException) -> tuple[str, ...]:
    """The lines of an error that names several problems, else its text as one line."""
    return tuple(getattr(error, "lines", ())) or (str(error),)


def _interrupted(error: BaseException) -> int:
    from pipeline.progress import interrupted_text

    if isinstance(error, Stopped):
        return fail([interrupted_text()], error.code)
    return fail([interrupted_text()], TERMINATED if isinstance(error, Terminated) else INTERRUPTED)


def _called_wrongly(error: click.ClickException) -> int:
    if speaks():
        shown = io.StringIO()
        error.show(file=shown)
        for line in shown.getvalue().splitlines():
            complain(line)
        fail_in_json(error.format_message())
    return error.exit_code


def _unforeseen(error: BaseException) -> str:
    reason = " ".join(str(error).split())
    what = f"unforeseen {type(error).__name__}" + (f": {reason}" if reason else "")
    try:
        return f"{what}; this is coattail's mistake: please report it with {_log(error)}"
    except OSError as problem:
        return f"{what}; this is coattail's mistake: please report it (no log: {problem.strerror or problem})"


def _log(error: BaseException) -> str:
    """The path of a new file with the command and the traceback."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="coattail-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as log:
        log.write(f"Python {platform.python_version()} on {platform.platform()}\n{sys.argv!r}\n\n")
        log.writelines(traceback.format_exception(error))
    return log.name
