"""``gitserver backup`` and ``gitserver restore``."""

import os
from pathlib import Path

import click

from gitserver.cli.init import tell_step
from gitserver.cli.options import config_option, data_option, json_option, show
from gitserver.config import Config
from gitserver.operations import guard


@click.command()
@click.argument("to", type=click.Path(path_type=Path))
@json_option
@config_option
def backup(config: Config, to: Path, as_json: bool) -> None:
    """Copy the database and the blobs it names, still sealed, to the new directory TO; the server may run.

    The keys are not in it: make a copy of them with `gitserver keys backup`, afterwards, and keep it elsewhere. With
    PostgreSQL, use pg_dump first and then copy the blob directory.
    """
    from gitserver import app
    from gitserver.operations.backup import backup as make_backup

    guard.check(config)
    services = app.build(config)
    try:
        made = make_backup(config, services, to, tell_step)
    finally:
        services.close()
    size = sum(one.size_bytes for one in (*made.files.values(), *made.blobs.values()))
    facts = {"directory": str(to.absolute()), "blobs": len(made.blobs), "bytes": size}
    show(as_json, facts, f"{to}: {len(made.blobs)} blobs, {size} bytes. Now copy the keys: gitserver keys backup FILE")


@click.command()
@click.argument("source", metavar="FROM", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--keys",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Put the keys back too, from the file that `gitserver keys backup` made.",
)
@data_option
def restore(data: Path, source: Path, key_file: Path | None) -> None:
    """Make a new data directory from the backup in the directory FROM.

    Every file is compared with the sums in the backup. Afterwards run `gitserver verify`, which opens every blob.
    """
    from gitserver.operations.backup import restore as make_data
    from gitserver.operations.key_copies import restore_keys

    config = make_data(source, data, dict(os.environ), tell_step)
    if key_file is not None:
        restore_keys(config, key_file)
    if (config.key_directory / guard.MASTER_KEY).exists():
        click.echo(f"Restored. Now run: gitserver verify --data {data}", err=True)
    else:
        click.echo(f"Restored. Now put the keys back: gitserver keys restore FILE --data {data}", err=True)
