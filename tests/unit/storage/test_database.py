"""Transactions mean the same on SQLite and on PostgreSQL."""

import multiprocessing
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import MetaData, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gitserver.storage import database as module
from gitserver.storage.blobs import DiskFull
from gitserver.storage.columns import RowNumber, UtcTime
from gitserver.storage.database import Base, Database, DatabaseUnavailable, NotBackedUpHere, UnknownDatabase, sqlite_url


class OurBase(DeclarativeBase):
    """What Base is, without adding our table to the product's."""

    metadata = MetaData()
    type_annotation_map = Base.type_annotation_map


class CounterRow(OurBase):
    """A row for these tests."""

    __tablename__ = "test_counter"
    number: Mapped[RowNumber]
    name: Mapped[str] = mapped_column(unique=True)
    value: Mapped[int]
    at: Mapped[UtcTime]
    ended: Mapped[UtcTime | None]


NOW = datetime(2026, 11, 23, 21, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture(autouse=True)
def counters(request: pytest.FixtureRequest) -> None:
    """Make the table in whichever database the test is given."""
    for name in {"database", "sqlite", "postgresql"} & set(request.fixturenames):
        OurBase.metadata.create_all(request.getfixturevalue(name).engine)


def add(database: Database, name: str, value: int = 0) -> None:
    """Commit one row."""
    with database.transaction() as tx:
        tx.add(CounterRow(name=name, value=value, at=NOW))


def names(database: Database) -> list[str]:
    """Every row's name, sorted."""
    with database.reading() as snapshot:
        return sorted(snapshot.scalars(select(CounterRow.name)))


def test_a_transaction_commits_at_its_end(database: Database) -> None:
    add(database, "a")

    assert names(database) == ["a"]


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(IntegrityError):
        _add_twice(database)

    assert names(database) == []


def test_a_savepoint_is_undone_alone(database: Database) -> None:
    with database.transaction() as tx:
        tx.add(CounterRow(name="a", value=0, at=NOW))
        with pytest.raises(IntegrityError), tx.begin_nested():
            tx.add(CounterRow(name="a", value=1, at=NOW))
        tx.add(CounterRow(name="b", value=0, at=NOW))

    assert names(database) == ["a", "b"]


def test_a_reader_sees_one_moment(database: Database) -> None:
    add(database, "a")

    with database.reading() as snapshot:
        before = list(snapshot.scalars(select(CounterRow.name)))
        add(database, "b")
        after = list(snapshot.scalars(select(CounterRow.name)))

    assert before == after == ["a"]
    assert names(database) == ["a", "b"]


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"read-?only|cannot be written"), database.reading() as snapshot:
        snapshot.execute(text("INSERT INTO test_counter (name, value, at) VALUES ('a', 1, '2026-01-01')"))

    add(database, "b")
    assert names(database) == ["b"]


def test_neither_readers_nor_writers_wait_for_each_other(database: Database) -> None:
    add(database, "a")

    with database.reading() as snapshot, database.transaction() as tx:
        snapshot.scalars(select(CounterRow)).all()
        tx.add(CounterRow(name="b", value=0, at=NOW))
        tx.flush()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(names, database).result(5) == ["a"]


def test_threads_that_count_lose_nothing(database: Database) -> None:
    add(database, "a")

    def count(_: int) -> None:
        with database.transaction() as tx:
            tx.execute(update(CounterRow).values(value=CounterRow.value + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(80)))

    with database.reading() as snapshot:
        assert snapshot.scalar(select(CounterRow.value)) == 80


def test_a_thread_has_one_transaction_at_a_time(database: Database) -> None:
    with database.transaction(), pytest.raises(RuntimeError, match="hand the session on"):
        add(database, "a")

    add(database, "b")
    assert names(database) == ["b"]


def test_actions_run_after_the_outcome_they_wait_for(database: Database) -> None:
    done: list[str] = []
    with database.transaction() as tx:
        database.after_commit(tx, lambda: done.append(f"committed {names(database)}"))
        database.after_commit(tx, lambda: add(database, "b"))
        database.after_rollback(tx, lambda: done.append("never"))
        tx.add(CounterRow(name="a", value=0, at=NOW))
    with suppress(KeyError), database.transaction() as tx:
        database.after_commit(tx, lambda: done.append("never"))
        database.after_rollback(tx, lambda: done.append("rolled back"))
        raise KeyError

    assert done == ["committed ['a']", "rolled back"]
    assert names(database) == ["a", "b"]


def test_times_are_aware_utc_and_keep_their_microseconds_and_order(database: Database) -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    with database.transaction() as tx:
        tx.add(CounterRow(name="later", value=1 << 40, at=NOW + timedelta(microseconds=1)))
        tx.add(CounterRow(name="first", value=0, at=berlin))

    with database.reading() as snapshot:
        rows = snapshot.scalars(select(CounterRow).order_by(CounterRow.at)).all()
        after = snapshot.scalars(select(CounterRow.name).where(CounterRow.at > NOW)).all()
    assert [(row.name, row.at, row.ended) for row in rows] == [
        ("first", NOW, None),
        ("later", NOW + timedelta(microseconds=1), None),
    ]
    assert rows[0].at.tzinfo is UTC
    assert (rows[1].value, after) == (1 << 40, ["later"])


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="must be aware"), database.transaction() as tx:
        tx.add(CounterRow(name="a", value=0, at=NOW.replace(tzinfo=None)))


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "sqlite:///relative.db", "mysql://x", "postgresql://x/y"])
def test_a_database_we_do_not_run_on_is_refused(url: str) -> None:
    with pytest.raises(UnknownDatabase, match="sqlite:////ABSOLUTE"):
        Database(url)


def test_a_path_may_be_made_of_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "50%41 of?a=b&c#d.db"
    database = Database(sqlite_url(path))
    with database.transaction() as tx:
        tx.execute(text("CREATE TABLE a (b)"))
    database.close()

    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_database_that_cannot_be_reached_is_told_in_a_sentence(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/absent/x.db", f"postgresql+psycopg://secret@/x?host={tmp_path}"):
        with pytest.raises(DatabaseUnavailable, match="cannot be used now") as told:
            add(Database(url), "a")
        assert "secret" not in str(told.value)


def test_a_file_that_is_no_database_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 1000)

    with pytest.raises(DatabaseUnavailable, match="not a database; restore a backup"):
        add(Database(f"sqlite:///{tmp_path}/x.db"), "a")


def test_a_full_disk_is_told_in_a_sentence_and_nothing_changes(sqlite: Database) -> None:
    add(sqlite, "a")
    with sqlite.engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    with pytest.raises(DiskFull, match="disk is full"), sqlite.transaction() as tx:
        tx.add(CounterRow(name="b" * 100_000, value=0, at=NOW))

    assert names(sqlite) == ["a"]


def test_who_waits_too_long_for_another_process_is_told_so(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PRAGMAS", ("PRAGMA busy_timeout = 20", "PRAGMA journal_mode = WAL"))
    sqlite.close()  # connections that are made from now on wait for a shorter time
    other = sqlite3.connect(tmp_path / "gitserver.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(DatabaseUnavailable, match="another change has kept it busy"):
        add(sqlite, "a")

    other.execute("ROLLBACK")
    other.close()
    add(sqlite, "a")
    assert names(sqlite) == ["a"]


def test_who_waits_too_long_for_another_thread_is_told_so(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with sqlite.transaction():
            inside.set()
            leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        inside.wait(10)
        with pytest.raises(DatabaseUnavailable, match="kept it busy"):
            add(sqlite, "a")
        leave.set()
        held.result()


def test_every_connection_is_durable_and_forgets_what_is_deleted(sqlite: Database) -> None:
    for opened in (sqlite.transaction, sqlite.reading):
        with opened() as session:
            found = [
                session.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
            ]
        assert found == ["wal", 2, 1, 1]


def test_the_database_file_is_its_owners(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new.db")
    with database.transaction() as tx:
        tx.execute(text("CREATE TABLE a (b)"))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("new.db*")}
    database.close()

    assert modes == {0o600}


def test_what_is_deleted_is_on_no_page_after_a_checkpoint(sqlite: Database, tmp_path: Path) -> None:
    add(sqlite, "a-marker-in-a-row")
    with sqlite.transaction() as tx:
        tx.execute(text("DELETE FROM test_counter"))

    assert sqlite.checkpoint()

    files = list(tmp_path.glob("gitserver.db*"))
    assert len(files) > 1
    assert not any(b"a-marker" in path.read_bytes() for path in files)


def test_a_checkpoint_does_not_wait_for_readers(sqlite: Database) -> None:
    add(sqlite, "a")
    with sqlite.reading() as snapshot:
        snapshot.scalars(select(CounterRow)).all()
        add(sqlite, "b")
        started = time.monotonic()
        assert not sqlite.checkpoint()
        assert time.monotonic() - started < 2

    assert sqlite.checkpoint()


def test_a_backup_is_one_moment_of_a_database_in_use(sqlite: Database, tmp_path: Path) -> None:
    add(sqlite, "a")
    with sqlite.transaction() as tx:
        tx.add(CounterRow(name="unfinished", value=0, at=NOW))
        tx.flush()
        sqlite.backup_to(tmp_path / "copy.db")

    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("copy.db*")] == ["copy.db"]
    copy = Database(f"sqlite:///{tmp_path}/copy.db")
    assert (names(copy), copy.problems()) == (["a"], [])
    copy.close()
    with pytest.raises(FileExistsError):
        sqlite.backup_to(tmp_path / "copy.db")


def test_postgresql_is_backed_up_by_its_own_tools(postgresql: Database, tmp_path: Path) -> None:
    with pytest.raises(NotBackedUpHere, match="pg_dump"):
        postgresql.backup_to(tmp_path / "copy.db")
    assert postgresql.checkpoint()


def test_a_healthy_database_has_no_problems(database: Database) -> None:
    assert database.problems() == []


def test_damage_is_found(sqlite: Database, tmp_path: Path) -> None:
    for number in range(200):
        add(sqlite, f"{number}-{'x' * 200}")
    sqlite.checkpoint()
    sqlite.close()
    path = tmp_path / "gitserver.db"
    damaged = bytearray(path.read_bytes())
    damaged[-8192:-4096] = os.urandom(4096)
    path.write_bytes(damaged)

    assert Database(f"sqlite:///{path}").problems() != []


def test_a_database_that_was_open_is_not_used_in_a_child(database: Database) -> None:
    add(database, "a")

    assert _in_child(_adds, database) == "the database was open when this process was forked; close it before forking"
    database.close()
    assert _in_child(_adds, database) == "added"
    assert names(database) == ["a", "child"]


def _add_twice(database: Database) -> None:
    with database.transaction() as tx:
        for _ in range(2):
            tx.add(CounterRow(name="a", value=0, at=NOW))
            tx.flush()


def _adds(database: Database) -> str:
    try:
        add(database, "child")
    except RuntimeError as refused:
        return str(refused)
    database.close()
    return "added"


def _in_child(work: Callable[[Database], str], database: Database) -> str:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work(database)))
    child.start()
    answer: str = receiver.recv()
    child.join()
    receiver.close()
    sender.close()
    return answer
