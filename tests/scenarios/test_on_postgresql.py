"""The whole server on PostgreSQL: the same commands, the same promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import House
from tests.postgres import Cluster


@pytest.fixture
def house(tmp_path: Path, postgres: Cluster) -> Iterator[House]:
    """A running server whose database is PostgreSQL."""
    url = postgres.create("served")
    made = House(tmp_path / "house", init=["--database", url])
    yield made
    made.close()
    postgres.drop("served")


def test_a_server_on_postgresql_serves_both_doors_survives_a_kill_and_is_sound(house: House, tmp_path: Path) -> None:
    name, key, work = house.repository(), house.ssh_key(), tmp_path / "work"
    first = house.commit(work)
    house.git("push", "-q", house.https_url(name), "main", cwd=work)
    house.kill9()
    house.restart()
    second = house.commit(work)
    house.git("push", "-q", house.ssh_url(name), "main", cwd=work, key=key)

    house.git("clone", "-q", house.ssh_url(name), str(tmp_path / "clone"), key=key)
    log = house.git("log", "--format=%H", cwd=tmp_path / "clone").stdout.split()
    verified = house.cli("verify")
    backup = house.cli("backup", str(tmp_path / "backup"), check=False)

    assert log == [second, first]
    assert "all sound" in verified.stderr
    assert not (house.data / "gitserver.db").exists()
    assert backup.returncode == 1
    assert "pg_dump" in backup.stderr
