"""``gitserver serve``: run the server."""

import dataclasses
import os
from pathlib import Path

import click

from gitserver.cli.init import tell_step
from gitserver.cli.options import data_option, read_config
from gitserver.config import Config, parse_address
from gitserver.operations import installation
from gitserver.operations.server import ROLES
from gitserver.operations.server import serve as run_server
from gitserver.operations.welcome import welcome


def _address(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None:
        try:
            parse_address(text)
        except ValueError as wrong:
            raise click.BadParameter(str(wrong)) from wrong
    return text


@click.command()
@click.option("--https", metavar="HOST:PORT", callback=_address, help="Where the HTTPS door listens.")
@click.option("--ssh", metavar="HOST:PORT", callback=_address, help="Where the SSH door listens.")
@click.option("--only", type=click.Choice(ROLES), help="Run one role; others may run beside it.")
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the bound addresses here, as JSON, when all doors answer.",
)
@click.option("--init", "make", is_flag=True, help="Make the data directory first, if it is not there yet.")
@data_option
def serve(
    data: Path, https: str | None, ssh: str | None, only: str | None, ready_file: Path | None, make: bool
) -> None:
    """Serve git over HTTPS and SSH, until SIGTERM or Ctrl-C.

    Stopping lets running requests finish, for 30 seconds by default; a second signal stops at once. Port 0 takes a
    free port.
    """
    if make and installation.is_needed(data):
        made = installation.install(data, installation.Wishes(), dict(os.environ), tell_step)
        click.echo(welcome(made))
    config = read_config(data)
    if https is not None:
        config = dataclasses.replace(config, https=dataclasses.replace(config.https, listen=https))
    if ssh is not None:
        config = dataclasses.replace(config, ssh=dataclasses.replace(config.ssh, listen=ssh))
    run_server(config, only, lambda bound: _say_ready(config, bound), ready_file)


def _say_ready(config: Config, bound: dict[str, dict[str, object]]) -> None:
    doors = [f"{name} on {facts['host']}:{facts['port']}" for name, facts in bound.items() if facts]
    click.echo(f"Ready: {', '.join(doors) or 'worker'}; {config.public_url} and {config.ssh_url}", err=True)
