"""``gitserver db``: the database."""

import click

from gitserver.cli.options import config_option
from gitserver.config import Config
from gitserver.operations import guard


@click.group()
def db() -> None:
    """The database."""


@db.command()
@config_option
def upgrade(config: Config) -> None:
    """Bring the tables to this version's form. Make a backup first; harmless when there is nothing to do."""
    from gitserver.storage import migrate
    from gitserver.storage.database import Database

    guard.check(config)
    database = Database(config.database_url)
    try:
        before = migrate.revision(database)
        migrate.upgrade(database)
        after = migrate.revision(database)
    finally:
        database.close()
    click.echo(f"At revision {after} already." if before == after else f"Upgraded from {before} to {after}.", err=True)
