"""What every test may ask for."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from gitserver.core.clock import FixedClock
from gitserver.storage import tables  # noqa: F401  the storage's own rows
from gitserver.storage.database import Base, Database
from tests.postgres import Cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server, one for each test process, started when it is first asked for."""
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A new database with every table, on SQLite and then on PostgreSQL."""
    with _on_sqlite(request) if request.param == "sqlite" else _on_postgresql(request) as made:
        yield made


@pytest.fixture
def sqlite(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A new SQLite database with every table, for what PostgreSQL has no part in."""
    with _on_sqlite(request) as made:
        yield made


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A new PostgreSQL database with every table, for what SQLite has no part in."""
    with _on_postgresql(request) as made:
        yield made


@pytest.fixture
def clock() -> FixedClock:
    """A clock that moves only when it is told to."""
    return FixedClock()


@contextmanager
def _on_sqlite(request: pytest.FixtureRequest) -> Iterator[Database]:
    folder: Path = request.getfixturevalue("tmp_path")
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    template = factory.getbasetemp() / f"tables-{_tables()}.db"
    if not template.exists():
        _fill(f"sqlite:///{template}")
    path = folder / "gitserver.db"
    shutil.copyfile(template, path)
    path.chmod(0o600)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@contextmanager
def _on_postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    cluster: Cluster = request.getfixturevalue("postgres")
    template, name = f"tables-{_tables()}", f"test-{secrets.token_hex(8)}"
    if template not in cluster.templates:
        _fill(cluster.create(template))
        cluster.templates.add(template)
    database = Database(cluster.create(name, template))
    yield database
    database.close()
    cluster.drop(name)


def _tables() -> str:
    """Names the set of tables that the modules imported so far have made."""
    return sha256(" ".join(sorted(Base.metadata.tables)).encode()).hexdigest()[:16]


def _fill(url: str) -> None:
    database = Database(url)
    Base.metadata.create_all(database.engine)
    database.close()
