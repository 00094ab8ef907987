"""Servers for scenarios."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.house import House
from tests.scenarios.clients.sample import make_sample


class NewHouse(Protocol):
    """Makes a server that belongs to one test."""

    def __call__(self, **settings: str) -> House:
        """A fresh server; *settings* are ``GITSERVER_SECTION_KEY`` variables."""
        ...


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One running server for the whole test process; see tests/house.py."""
    made = House(tmp_path_factory.mktemp("house"))
    yield made
    made.close()


@pytest.fixture
def new_house(tmp_path: Path) -> Iterator[NewHouse]:
    """Makes running servers that this test may stop, kill or damage."""
    made: list[House] = []

    def make(**settings: str) -> House:
        made.append(House(tmp_path / f"house-{len(made)}", settings=settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with a bit of everything; see tests/scenarios/clients/sample.py."""
    return make_sample(tmp_path_factory.mktemp("sample") / "sample.git")


@pytest.fixture(scope="session")
def stocked(house: House, sample: Path) -> str:
    """The name of a repository at the server that holds the sample."""
    name = house.repository()
    house.git("push", "-q", "--mirror", house.https_url(name), cwd=sample)
    return name
