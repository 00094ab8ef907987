"""``gitserver keys``: what opens everything."""

import os
from pathlib import Path

import click

from gitserver.cli.options import config_option
from gitserver.config import Config
from gitserver.core.clock import SystemClock
from gitserver.core.errors import Conflict
from gitserver.operations import guard


@click.group()
def keys() -> None:
    """The master key, the repositories' keys, and the private keys of both doors."""


@keys.command("backup")
@click.argument("to", type=click.Path(path_type=Path))
@config_option
def backup_keys(config: Config, to: Path) -> None:
    """Copy every key into one file, TO, or into a file in the directory TO.

    Make it after each `gitserver backup`, so that it has the keys of everything backed up, and keep it apart from the
    backups: with both, anybody can read everything. A repository deleted later can be opened with it for as long as
    it exists.
    """
    from gitserver.operations.key_copies import copy_keys

    guard.check(config)
    try:
        file = copy_keys(config, to)
    except FileExistsError as taken:
        raise Conflict(f"{taken.filename} exists already and was left as it is; choose another name") from taken
    click.echo(str(file))
    click.echo("Whoever has this file and a backup can read everything: keep them apart.", err=True)


@keys.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option
def restore_keys(config: Config, file: Path) -> None:
    """Put the keys of FILE, made by `gitserver keys backup`, where the settings say; there must be none yet."""
    from gitserver.operations import key_copies

    key_copies.restore_keys(config, file)
    guard.check(config)
    click.echo(f"The keys are in {config.key_directory}.", err=True)


@keys.command()
@config_option
def rotate(config: Config) -> None:
    """Replace the master key, and wrap every other key with the new one.

    What is stored stays as it is, and servers go on running. Older copies of the keys still open older backups; make
    a new copy now, and destroy the old ones when they are no longer needed.
    """
    from gitserver.storage.keyring import FileKeyring

    guard.check(config)
    version = FileKeyring(config.key_directory).rotate_master()
    click.echo(f"The master key is now version {version}. Copy the keys again: gitserver keys backup FILE", err=True)


@keys.command("renew-certificate")
@config_option
def renew_certificate(config: Config) -> None:
    """Make a new server certificate, signed by the local CA, for the host of server.public_url."""
    from gitserver.operations import certificates

    guard.check(config)
    if certificates.renew_certificate(config, SystemClock()):
        click.echo("The certificate is renewed; restart the server.", err=True)
    else:
        click.echo(f"The CA is new too: give clients {config.ca_certificate}, and restart the server.", err=True)


@keys.command("path")
@config_option
def path(config: Config) -> None:
    """Print the directory the keys are in."""
    click.echo(os.fspath(config.key_directory))
