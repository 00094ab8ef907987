"""The tables that migrations make are the ones the code says there are."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitserver.schema import metadata
from gitserver.storage import migrate
from gitserver.storage.database import Database
from tests.postgres import Cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without a table."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        cluster: Cluster = request.getfixturevalue("postgres")
        url = cluster.create(f"empty-{secrets.token_hex(8)}")
    database = Database(url)
    yield database
    database.close()


def test_migrating_an_empty_database_makes_the_tables_that_the_code_describes(empty: Database) -> None:
    migrate.upgrade(empty)

    differences = migrate.differences(empty, metadata)

    assert differences == []


def test_a_migrated_database_is_at_the_newest_version_and_stays_there(empty: Database) -> None:
    migrate.upgrade(empty)

    again = migrate.upgrade(empty)

    assert again == []
    assert migrate.revision(empty) == migrate.head()
