"""Brings the tables of a database to what this version expects, in steps that are never changed once released.

A step is a file ``migrations/versions/NNNN_WORDS.py`` with the revision ``NNNN``. All steps that are missing are
taken in one transaction, or none. There is no way down: restore the backup that was made before.

Source: Alembic, "Operations Reference", "Running Batch Migrations for SQLite".
"""

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData

from gitserver.core.errors import Unavailable
from gitserver.storage.database import Database

MIGRATIONS = Path(__file__).parent / "migrations"


class DatabaseOutdated(Unavailable):
    """The tables are older than this version, or there are none."""

    def __init__(self, found: str | None) -> None:
        super().__init__(
            f"the database is at version {found}, which is older than this server; run: gitserver db upgrade"
            if found
            else "the database has no tables yet; run: gitserver init"
        )
        self.found = found


class DatabaseTooNew(Unavailable):
    """The tables are of a version that this one does not know."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"the database is at version {found}, which this server does not know; install the newer gitserver again"
        )
        self.found = found


def head(migrations: Path = MIGRATIONS) -> str | None:
    """The version that this server expects; None while there is no step at all."""
    return _scripts(migrations).get_current_head()


def revision(database: Database) -> str | None:
    """The version that the database is at; None for one without tables."""
    with database.reading() as snapshot:
        return MigrationContext.configure(snapshot.connection()).get_current_revision()


def upgrade(database: Database, *, to: str = "head", migrations: Path = MIGRATIONS) -> list[str]:
    """Take every step that is missing; the versions that were passed, in order.

    Safe to call from several processes at once: one works, the others wait and find it done.

    Args:
        database: the one to change; make a backup first.
        to: stop at this version; for tests of an upgrade.
        migrations: where the steps are.

    Raises:
        DatabaseTooNew: it was made by a newer server.
    """
    scripts = _scripts(migrations)
    with database.migrating() as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        _require_known(scripts, before)
        command.upgrade(_config(migrations, connection), to)
        after = MigrationContext.configure(connection).get_current_revision()
        if after == before or after is None:
            return []
        steps = [step.revision for step in scripts.iterate_revisions(after, before or "base")]
    return steps[::-1]


def require_current(database: Database, migrations: Path = MIGRATIONS) -> None:
    """Let a server start only on tables that it knows.

    Raises:
        DatabaseOutdated: steps are missing.
        DatabaseTooNew: the tables come from a newer server.
    """
    found = revision(database)
    _require_known(_scripts(migrations), found)
    if found != head(migrations):
        raise DatabaseOutdated(found)


def differences(database: Database, metadata: MetaData) -> list[str]:
    """How the tables differ from what the code says they are; one line for each."""
    with database.reading() as snapshot:
        options = {"compare_type": True}
        context = MigrationContext.configure(snapshot.connection(), opts=options)
        return [str(difference) for difference in compare_metadata(context, metadata)]


def draft(database: Database, metadata: MetaData, number: str, words: str, migrations: Path = MIGRATIONS) -> Path:
    """Write the next step from the difference between *database* and *metadata*, for a person to finish.

    Args:
        database: one that is at the newest version.
        metadata: every table of the code.
        number: the step's number, of four digits.
        words: what it does, in a few words.
        migrations: where to write it.
    """
    with database.migrating() as connection:
        config = _config(migrations, connection)
        config.attributes["metadata"] = metadata
        made = command.revision(config, message=words, autogenerate=True, rev_id=number)
    if made is None or isinstance(made, list):
        raise RuntimeError("Alembic did not make one file")
    return Path(made.path)


def _require_known(scripts: ScriptDirectory, found: str | None) -> None:
    if found is not None and found not in {step.revision for step in scripts.walk_revisions()}:
        raise DatabaseTooNew(found)


def _scripts(migrations: Path) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(migrations, None))


def _config(migrations: Path, connection: Connection | None) -> Config:
    """Alembic's settings, without a file of them. ``%`` starts a substitution there."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("version_locations", str(migrations / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config
