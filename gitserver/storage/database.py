"""The database: one way to write, one way to read, the same on SQLite and on PostgreSQL.

A transaction must be short (a few milliseconds) and must not be held across I/O: on SQLite there is one writer
at a time for the whole server, and its lock is not fair between processes.

A process must call :meth:`Database.close` before it forks. SQLite keeps its file locks in the memory of the
process, and a child that inherits them believes in locks that it does not have.

Source: SQLite, "Write-Ahead Logging", "How To Corrupt An SQLite Database File" (section 2.6);
PostgreSQL 15 manual, 13.2 (transaction isolation).
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session

from gitserver.core.errors import Invalid, Unavailable
from gitserver.storage.blobs import DiskFull
from gitserver.storage.columns import LARGE_INTEGER, UtcTimeColumn
from gitserver.storage.files import create_file, sync

BUSY_TIMEOUT_S = 20
"""How long a writer waits for another one before it gives up."""

_POOL_SIZE = 8
_POOL_OVERFLOW = 56
_MIGRATION_LOCK = 0x67697473  # any number that nobody else takes
_AFTER_COMMIT = "gitserver.after_commit"
_AFTER_ROLLBACK = "gitserver.after_rollback"

_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",  # a shredded key must not stay readable in a free page
    "PRAGMA foreign_keys = ON",
)

# Constraints need names of their own to be changed by a later migration.
_NAMES = {
    "ix": "%(table_name)s_%(column_0_N_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}

# SQLSTATE classes: connection, insufficient resources, operator intervention, transaction rollback
_POSTGRESQL_TRANSIENT = ("08", "53", "57", "40")
_POSTGRESQL_DISK_FULL = "53100"
_POSTGRESQL_LOCK_TIMEOUT = "55P03"

_SQLITE_SENTENCES = {
    sqlite3.SQLITE_BUSY: f"another change has kept it busy for {BUSY_TIMEOUT_S} s; try again",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened; does the directory exist, and may this user write there?",
    sqlite3.SQLITE_READONLY: "its file cannot be written; look at the owner and mode of the data directory",
    sqlite3.SQLITE_IOERR: "the disk failed under it; look at the system's log",
    sqlite3.SQLITE_CORRUPT: "its file is damaged; restore a backup",
    sqlite3.SQLITE_NOTADB: "its file is not a database; restore a backup",
}


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached, is busy for too long, or is damaged."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the database cannot be used now: {what}")


class CommitUncertain(DatabaseUnavailable):
    """The database failed in the middle of a commit: the change was made whole or not at all, and nobody knows which.

    What the change points to must be kept: a log that was written but not flushed can make it true after a restart.
    """

    def __init__(self) -> None:
        super().__init__("it failed while the change was being written down; look whether it was made, then try again")


class UnknownDatabase(Invalid):
    """The database URL names something we do not run on."""

    def __init__(self) -> None:
        super().__init__(
            "the database URL must read sqlite:////ABSOLUTE/PATH.db or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        )


class NotBackedUpHere(Invalid):
    """Only SQLite is backed up by this server."""

    def __init__(self) -> None:
        super().__init__("this server does not back up PostgreSQL; use pg_dump or your usual tool, before the blobs")


class Base(DeclarativeBase):
    """The parent of every row. Text is text, an ``int`` has 64 bits and a time is aware, on both databases."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {int: LARGE_INTEGER, datetime: UtcTimeColumn()}  # noqa: RUF012


class Database:
    """One database and its connections; safe to share between threads."""

    def __init__(self, url: str) -> None:
        """Remember where the database is; the first transaction connects.

        Args:
            url: ``sqlite:////absolute/path.db`` or ``postgresql+psycopg://…``.

        Raises:
            UnknownDatabase: *url* is neither.
        """
        self._url = _parse(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._writer = threading.Lock()
        self._local = threading.local()
        self._opened_by: int | None = None
        if self.is_sqlite:
            self._writing, self._reading = (
                _sqlite_engine(self._url, writes=True),
                _sqlite_engine(self._url, writes=False),
            )
        else:
            self._writing = _postgresql_engine(self._url)
            self._reading = self._writing.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction that may write; commit when the block ends, roll back when it raises.

        SQLite: ``BEGIN IMMEDIATE``, so that the transaction waits for other writers once, at its beginning, and
        cannot fail half-way because somebody else wrote. PostgreSQL: ``READ COMMITTED``; take row locks, or
        use conditional updates and look at their row counts.

        Raises:
            DatabaseUnavailable: no connection, or no turn within ``BUSY_TIMEOUT_S``.
            DiskFull: the commit did not fit; nothing was written.
            CommitUncertain: the commit failed otherwise; actions for after it are called in neither way.
        """
        session = Session(self._writing, expire_on_commit=False)
        try:
            with self._turn(), _in_sentences(), session:
                session.begin()
                yield session
                session.flush()
                _commit(session)
        except CommitUncertain:
            raise
        except BaseException:
            _run(session, _AFTER_ROLLBACK)
            raise
        _run(session, _AFTER_COMMIT)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a read-only transaction that sees one moment of the database from its first query on.

        It neither waits for writers nor makes them wait.

        Raises:
            DatabaseUnavailable: no connection, or the database is damaged.
        """
        self._check_process()
        with _in_sentences(), Session(self._reading, expire_on_commit=False) as session:
            yield session

    def after_commit(self, tx: Session, action: Callable[[], None]) -> None:
        """Have *action* called once *tx* is committed and closed; what it raises reaches whoever committed."""
        tx.info.setdefault(_AFTER_COMMIT, []).append(action)

    def after_rollback(self, tx: Session, action: Callable[[], None]) -> None:
        """Have *action* called once *tx* is rolled back and closed."""
        tx.info.setdefault(_AFTER_ROLLBACK, []).append(action)

    @property
    def engine(self) -> Engine:
        """The writing engine, for tests; everything else takes :meth:`transaction`."""
        self._check_process()
        return self._writing

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Open a transaction that may change tables; whoever else wants to, waits.

        SQLite changes a table by copying it and dropping the old one, which would delete the rows that point to it:
        foreign keys are off meanwhile, and checked before the commit.
        """
        self._check_process()
        with self._turn(), _in_sentences(), self._writing.connect() as connection:
            if not self.is_sqlite:
                with connection.begin():
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                    yield connection
                return
            driver = _outside_transaction(connection)
            driver.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
                    broken = _broken_references(connection)
                    if broken:
                        raise DatabaseUnavailable(f"a migration was undone, since {broken[0]}")
            finally:
                driver.execute("PRAGMA foreign_keys = ON")

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the database and empty it, so that what was deleted is on no disk.

        PostgreSQL keeps its log by its own settings: nothing is done there.

        Returns:
            Whether the log is empty now; False when readers or writers were using it, and it must be tried again.
        """
        self._check_process()
        if not self.is_sqlite:
            return True
        with _in_sentences(), self._writing.connect() as connection:
            driver = _outside_transaction(connection)
            driver.execute("PRAGMA busy_timeout = 100")
            try:
                return not driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")

    def backup_to(self, path: Path) -> None:
        """Copy the database, as of one moment, to a new file while it is being used.

        Args:
            path: a file that does not exist yet; it is made with mode 0600 and is on disk on return.

        Raises:
            NotBackedUpHere: the database is PostgreSQL.
            FileExistsError: there is something at *path*.
        """
        self._check_process()
        if not self.is_sqlite:
            raise NotBackedUpHere
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with _in_sentences(), self._reading.connect() as connection:
            copy = sqlite3.connect(path)
            try:
                _outside_transaction(connection).backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, complete in itself
            finally:
                copy.close()
        sync(path)
        sync(path.parent)

    def problems(self) -> list[str]:
        """Look for damage and unsuitable settings; one sentence for each, none when all is well."""
        self._check_process()
        try:
            with _in_sentences(), self._reading.connect() as connection:
                return _sqlite_problems(connection) if self.is_sqlite else _postgresql_problems(connection)
        except DatabaseUnavailable as problem:
            return [str(problem)]

    def close(self) -> None:
        """Close every idle connection. The next transaction opens new ones, in this process or in a child."""
        self._check_process()
        self._writing.dispose()
        if self.is_sqlite:
            self._reading.dispose()
        self._opened_by = None

    def _check_process(self) -> None:
        if self._opened_by not in (None, os.getpid()):
            raise RuntimeError("the database was open when this process was forked; close it before forking")
        self._opened_by = os.getpid()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Take this process's turn at writing: threads queue here, more fairly than on SQLite's own lock."""
        self._check_process()
        if getattr(self._local, "writing", False):
            raise RuntimeError("a thread may have one transaction open at a time; hand the session on instead")
        if self.is_sqlite and not self._writer.acquire(timeout=BUSY_TIMEOUT_S):
            raise DatabaseUnavailable(f"another change has kept it busy for {BUSY_TIMEOUT_S} s; try again")
        self._local.writing = True
        try:
            yield
        finally:
            self._local.writing = False
            if self.is_sqlite:
                self._writer.release()


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite database at *path*, whichever characters it is made of."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as malformed:
        raise UnknownDatabase from malformed
    if parsed.get_backend_name() == "sqlite" and parsed.database and Path(parsed.database).is_absolute():
        return parsed
    if parsed.drivername == "postgresql+psycopg":
        return parsed
    raise UnknownDatabase


def _sqlite_engine(url: URL, *, writes: bool) -> Engine:
    """An engine whose connections either write or cannot."""
    engine = create_engine(
        url,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT_S,
        hide_parameters=True,  # an error must not print a secret
    )

    @event.listens_for(engine, "do_connect")
    def make_private(_dialect: Any, _record: Any, arguments: list[Any], _options: dict[str, Any]) -> None:
        # Never opened here when it exists: to close it would drop the locks that SQLite holds on it.
        if not Path(arguments[0]).exists():
            with suppress(OSError):  # SQLite says what is the matter
                create_file(Path(arguments[0]), b"")

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves; the driver would say it too late
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if not writes:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    return create_engine(
        url,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={"options": f"-c lock_timeout={BUSY_TIMEOUT_S}s -c synchronous_commit=on"},
    )


@contextmanager
def _in_sentences() -> Iterator[None]:
    """Turn the failures that are nobody's bug into ones that may be shown."""
    try:
        yield
    except PoolTimeout as crowded:
        raise DatabaseUnavailable("every connection is in use; try again") from crowded
    except DBAPIError as error:
        shown = _shown(error.orig)
        if shown is None:
            raise
        raise shown from error
    except sqlite3.Error as error:
        shown = _shown(error)
        if shown is None:
            raise
        raise shown from error


def _shown(error: BaseException | None) -> Unavailable | None:
    """What may be said of a driver's error; None for one that only a bug can cause."""
    if isinstance(error, sqlite3.Error):
        primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            return DiskFull()
        sentence = _SQLITE_SENTENCES.get(primary)
        return DatabaseUnavailable(sentence) if sentence else None
    state = getattr(error, "sqlstate", None)
    if state == _POSTGRESQL_DISK_FULL:
        return DiskFull()
    if state is None and type(error).__name__ == "OperationalError":
        return DatabaseUnavailable("PostgreSQL cannot be reached; is it running, and is the URL right?")
    if state is not None and (state.startswith(_POSTGRESQL_TRANSIENT) or state == _POSTGRESQL_LOCK_TIMEOUT):
        return DatabaseUnavailable(f"PostgreSQL answered with error {state}; try again")
    return None


def _commit(session: Session) -> None:
    try:
        session.commit()
    except DBAPIError as failure:
        if isinstance(_shown(failure.orig), DiskFull):
            raise  # the last page, which makes the others count, was never written
        raise CommitUncertain from failure


def _run(session: Session, outcome: str) -> None:
    for action in session.info.pop(outcome, []):
        action()


def _outside_transaction(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for the few things that SQLite does outside a transaction only."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("only SQLite has this")
    return driver


def _sqlite_problems(connection: Connection) -> list[str]:
    found = [f"SQLite's integrity check: {row[0]}" for row in connection.execute(text("PRAGMA integrity_check"))]
    return [line for line in found if not line.endswith(": ok")] + _broken_references(connection)


def _broken_references(connection: Connection) -> list[str]:
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    return [f"a row of table {row[0]} points to a row of {row[2]} that is not there" for row in broken]


def _postgresql_problems(connection: Connection) -> list[str]:
    collation, encoding = connection.execute(
        text("SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()")
    ).one()
    found = []
    if encoding != "UTF8":
        found.append(f"the database's encoding is {encoding}; create it with ENCODING 'UTF8'")
    if collation not in {"C", "POSIX", "C.UTF-8"}:
        found.append(f"the database sorts by {collation}; create it with LC_COLLATE 'C' TEMPLATE template0")
    return found
