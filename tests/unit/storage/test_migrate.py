"""Migrations run on both databases, all or nothing, once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, text

from gitserver.storage import migrate
from gitserver.storage.database import Database, DatabaseUnavailable
from tests.postgres import Cluster

FIRST = """
import sqlalchemy as sa
from alembic import op
revision = "0001"
down_revision = None
def upgrade():
    op.create_table("person", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.String(20)))
    op.create_table(
        "letter",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("person", sa.Integer(), sa.ForeignKey("person.id", ondelete="CASCADE")),
    )
"""

SECOND = """
import sqlalchemy as sa
from alembic import op
revision = "0002"
down_revision = "0001"
def upgrade():
    with op.batch_alter_table("person") as table:
        table.alter_column("name", existing_type=sa.String(20), type_=sa.String(40))
"""

BROKEN = """
import sqlalchemy as sa
from alembic import op
revision = "0003"
down_revision = "0002"
def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("INSERT INTO nowhere VALUES (1)")
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a table."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
        yield database
        database.close()
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    database = Database(cluster.create(tmp_path.name))
    yield database
    database.close()
    cluster.drop(tmp_path.name)


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """A directory of migrations with two steps."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_people.py").write_text(FIRST)
    (versions / "0002_longer_names.py").write_text(SECOND)
    return versions.parent


def test_an_upgrade_takes_every_missing_step_and_then_none(empty: Database, steps: Path) -> None:
    taken = [migrate.upgrade(empty, migrations=steps), migrate.upgrade(empty, migrations=steps)]

    assert taken == [["0001", "0002"], []]
    assert migrate.revision(empty) == migrate.head(steps) == "0002"
    migrate.require_current(empty, steps)


def test_changing_a_table_keeps_the_rows_that_point_to_it(empty: Database, steps: Path) -> None:
    migrate.upgrade(empty, to="0001", migrations=steps)
    with empty.transaction() as tx:
        tx.execute(text("INSERT INTO person VALUES (1, 'ada')"))
        tx.execute(text("INSERT INTO letter VALUES (1, 1)"))

    migrate.upgrade(empty, migrations=steps)

    with empty.reading() as snapshot:
        assert snapshot.execute(text("SELECT count(*) FROM letter")).scalar() == 1
    with empty.transaction() as tx:
        tx.execute(text("DELETE FROM person"))
        assert tx.execute(text("SELECT count(*) FROM letter")).scalar() == 0


def test_a_step_that_fails_undoes_them_all(empty: Database, steps: Path) -> None:
    (steps / "versions" / "0003_broken.py").write_text(BROKEN)

    with pytest.raises(Exception, match="nowhere"):
        migrate.upgrade(empty, migrations=steps)

    assert migrate.revision(empty) is None
    with empty.transaction() as tx:
        tx.execute(text("CREATE TABLE person (id integer)"))


def test_a_step_that_leaves_a_reference_to_nothing_is_undone(sqlite: Database) -> None:
    with sqlite.transaction() as tx:
        tx.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
        tx.execute(text("CREATE TABLE child (parent INTEGER REFERENCES parent)"))

    with pytest.raises(DatabaseUnavailable, match="table child"), sqlite.migrating() as connection:
        connection.execute(text("INSERT INTO child VALUES (7)"))

    assert sqlite.problems() == []


def test_a_server_does_not_start_on_missing_old_or_newer_tables(empty: Database, steps: Path) -> None:
    with pytest.raises(migrate.DatabaseOutdated, match="gitserver init"):
        migrate.require_current(empty, steps)
    migrate.upgrade(empty, to="0001", migrations=steps)
    with pytest.raises(migrate.DatabaseOutdated, match="db upgrade"):
        migrate.require_current(empty, steps)
    migrate.upgrade(empty, migrations=steps)
    (steps / "versions" / "0002_longer_names.py").unlink()
    with pytest.raises(migrate.DatabaseTooNew, match="0002"):
        migrate.require_current(empty, steps)
    with pytest.raises(migrate.DatabaseTooNew, match="0002"):
        migrate.upgrade(empty, migrations=steps)


def test_a_draft_makes_the_tables_of_the_code(empty: Database, tmp_path: Path) -> None:
    metadata = MetaData()
    Table("person", metadata, Column("id", Integer, primary_key=True), Column("name", String(20), nullable=False))
    Table("letter", metadata, Column("id", Integer, primary_key=True), Column("person", ForeignKey("person.id")))
    (tmp_path / "versions").mkdir()

    made = migrate.draft(empty, metadata, "0001", "first tables", tmp_path)
    taken = migrate.upgrade(empty, migrations=tmp_path)

    assert (made.name, taken) == ("0001_first_tables.py", ["0001"])
    assert migrate.differences(empty, metadata) == []
