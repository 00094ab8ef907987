"""Options, output and exit codes that every command shares."""

import enum
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from gitserver import config
from gitserver.config import Config
from gitserver.operations.log import log_to_stderr

Command = TypeVar("Command", bound=Callable[..., Any])


class Exit(enum.IntEnum):
    """What a command's end means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNUSABLE = 3
    BUG = 70
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 done; 1 it failed, or problems were found; 2 the command line is wrong; 3 the data directory, its "
    "keys or its settings cannot be used as they are, or another server uses them; 70 a bug in gitserver; "
    "130 interrupted."
)


def data_option(command: Command) -> Command:
    """``--data DIR``, handed on as ``data: Path``; and ``--debug``, which the entry point reads."""
    data = click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="GITSERVER_DATA",
        required=True,
        metavar="DIR",
        help="The data directory; or set GITSERVER_DATA.",
    )
    return data(debug_option(command))


def debug_option(command: Command) -> Command:
    """``--debug``: tracebacks. :func:`gitserver.cli.main.run` looks for it; the command never sees it."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--data DIR``, handed on as ``config: Config``, read from it and the environment."""

    @functools.wraps(command)
    def with_config(*, data: Path, **rest: Any) -> Any:
        return command(config=read_config(data), **rest)

    return data_option(with_config)


def read_config(data: Path) -> Config:
    """The settings of *data* and the environment; log lines go to standard error from now on."""
    settings = config.load(data, os.environ)
    log_to_stderr(settings.log.level)
    return settings


def json_option(command: Command) -> Command:
    """``--json``, handed on as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")(
        command
    )


def show(as_json: bool, facts: Mapping[str, Any], text: str) -> None:
    """Print what a command made or found: *facts* as JSON, or *text*."""
    click.echo(json.dumps(facts, indent=2) if as_json else text)


def show_rows(as_json: bool, name: str, rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Print a list: ``{name: rows}`` as JSON, or a table of *columns*."""
    if as_json:
        click.echo(json.dumps({name: rows}, indent=2))
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max([len(column), *(len(line[i]) for line in cells)]) for i, column in enumerate(columns)]
    for line in [[column.upper().replace("_", " ") for column in columns], *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "".join(character if character.isprintable() else "�" for character in str(value))
