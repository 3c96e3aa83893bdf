"""`--csv FILE`, `--parquet FILE`, `--md FILE`, `--latex FILE`: a command's table as a file, or on stdout for `-`."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.output import say
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from pipeline.report.layout import Table

FORMATS = {
    "csv": "Write the figures as CSV",
    "parquet": "Write the figures as Parquet",
    "md": "Write the table as Markdown",
    "latex": "Write the table as LaTeX",
}


def export_options(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of these formats; the command gets them as `md: str | None` and so on."""

    def declared(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(formats):
            where = "a file" if name == "parquet" else "a file, or - for stdout"
            command = click.option(f"--{name}", metavar="FILE", help=f"{FORMATS[name]} to {where}.")(command)
        return command

    return declared


def _output(name: str, file: str) -> Path:
    from pipeline.artefacts.outputs import output_path

    return output_path(f"--{name}", file)


@dataclass(frozen=True)
class Exports:
    """The files that the command line asks for, by format."""

    files: dict[str, str]

    @classmethod
    def of(cls, as_json: bool, **files: str | None) -> "Exports":
        """Raises ConfigError where two documents are to go to stdout or into one file, where Parquet is to go to stdout, or where
        a file cannot be written."""
        given = {name: file for name, file in files.items() if file is not None}
        to_stdout = [f"--{name} -" for name, file in given.items() if file == "-"] + ["--json"] * as_json
        if len(to_stdout) > 1:
            raise ConfigError(f"{' and '.join(to_stdout)}: one document goes to stdout; name files for the others")
        if given.get("parquet") == "-":
            raise ConfigError("--parquet -: Parquet is no text; name a file")
        paths = {name: file if file == "-" else str(_output(name, file)) for name, file in given.items()}
        for first, second in itertools.combinations(paths, 2):
            if paths[first] == paths[second]:
                raise ConfigError(f"--{first} and --{second}: both name {paths[first]}; name a file for each")
        return cls(paths)

    @property
    def take_stdout(self) -> bool:
        """Whether one of them goes to stdout, in place of the text for a person."""
        return "-" in self.files.values()

    def write(self, figures: "pl.DataFrame", table: "Table") -> None:
        """Write each file whole, or not at all."""
        from cache.disk import durable
        from pipeline.progress import note
        from pipeline.report.exported import latex, markdown
        from pipeline.results import parquet

        contents: dict[str, Callable[[], bytes]] = {
            "csv": lambda: figures.write_csv().encode(),
            "parquet": lambda: parquet(figures),
            "md": lambda: markdown(table).encode(),
            "latex": lambda: latex(table).encode(),
        }
        for name, file in self.files.items():
            if file == "-":
                for line in contents[name]().decode().splitlines():
                    say(line)
                continue
            durable.replace(Path(file), contents[name]())
            note(f"written: {file}")
