"""Servers for scenarios."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.house import House


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
