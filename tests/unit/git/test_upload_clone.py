"""Clones by C git's client, in every protocol version, through a conversation and through single requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from upload_house import EPOCH, Doors, Origin, commit_lines, content, free_of_faults, git, objects_in

DOORS = [("git", 2), ("git", 1), ("git", 0), ("http", 2), ("http", 1), ("http", 0)]


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def doors(origin: Origin) -> Iterator[Doors]:
    doors = Doors(origin)
    yield doors
    doors.close()


def clone(doors: Doors, tmp_path: Path, door: str, version: int, *options: str) -> Path:
    target = tmp_path / f"clone-{door}-{version}-{len(list(tmp_path.iterdir()))}"
    git(tmp_path, "-c", f"protocol.version={version}", "clone", "-q", *options, doors.url(door), str(target))
    git(target, "config", "protocol.version", str(version))
    return target


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_a_clone_holds_what_the_refs_reach(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    origin.commits(25)
    origin.commits(5, start=25)
    origin.git("tag", "-a", "-m", "x", "v1", "main~3")

    target = clone(doors, tmp_path, door, version)

    free_of_faults(target)
    assert objects_in(target) == origin.objects_of("--all")
    assert not doors.failures
