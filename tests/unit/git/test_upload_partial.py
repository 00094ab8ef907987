"""Partial clones: what a filter leaves out, and the later fetches of what was left out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.git.test_upload_clone import clone, criss_cross, git_trace, received
from tests.unit.git.upload_house import EPOCH, Doors, Origin, commit_lines, git, objects_in

FILTERS = [
    "blob:none",
    "blob:limit=0",
    "blob:limit=100",
    "blob:limit=1k",
    "tree:0",
    "tree:1",
    "tree:2",
    "combine:tree:2+blob:limit=100",
    "object:type=tree",
    "object:type=commit",
]


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin")
    criss_cross(origin, 9)
    origin.commits(12)
    origin.stream(
        *commit_lines(
            "main", EPOCH + 9000, {"deep/er/and/deeper": "x\n" * 5000, "small": "s\n"}, parent="refs/heads/main^0"
        )
    )
    origin.git("tag", "-a", "-m", "x", "v1", "main~5")
    return origin


@pytest.fixture
def doors(origin: Origin) -> Iterator[Doors]:
    doors = Doors(origin)
    yield doors
    doors.close()


def passing(origin: Origin, spec: str) -> set[str]:
    """What C git sends for all refs through a filter."""
    listing = origin.git("rev-list", "--objects", "--all", f"--filter={spec}", "--filter-print-omitted")
    return {line.split(" ")[0] for line in listing.splitlines() if not line.startswith("~")}


@pytest.mark.parametrize("spec", FILTERS)
@pytest.mark.parametrize(("door", "version"), [("git", 2), ("git", 0), ("http", 2)])
def test_a_filtered_clone_holds_what_git_would_send(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int, spec: str
) -> None:
    target = clone(doors, tmp_path, door, version, "--bare", f"--filter={spec}")

    assert objects_in(target) == passing(origin, spec)


@pytest.mark.parametrize("spec", ["blob:none", "tree:0", "blob:limit=100"])
@pytest.mark.parametrize(("door", "version"), [("git", 2), ("http", 2), ("git", 0)])
def test_what_a_filter_left_out_comes_when_it_is_needed(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int, spec: str
) -> None:
    target = clone(doors, tmp_path, door, version, f"--filter={spec}")

    git(target, "checkout", "-q", "origin/left~3")
    shown = git(target, "log", "-p", "--stat", "origin/main")

    assert shown == origin.git("log", "-p", "--stat", "main")
    git(target, "fsck", "--full")


@pytest.mark.parametrize("spec", ["blob:none", "tree:1", "blob:limit=100"])
@pytest.mark.parametrize("door", ["git", "http"])
def test_a_partial_clone_follows(origin: Origin, doors: Doors, tmp_path: Path, door: str, spec: str) -> None:
    target = clone(doors, tmp_path, door, 2, f"--filter={spec}")
    criss_cross(origin, 15, start=9)

    said = git_trace(target, "fetch")
    git(target, "checkout", "-q", "origin/right")

    assert received(said) < 60
    assert git(target, "log", "-p", "origin/right") == origin.git("log", "-p", "right")
    git(target, "fsck", "--full")


@pytest.mark.parametrize("door", ["git", "http"])
def test_a_shallow_partial_clone_deepens(origin: Origin, doors: Doors, tmp_path: Path, door: str) -> None:
    target = clone(doors, tmp_path, door, 2, "--filter=blob:none", "--depth=2")

    git(target, "fetch", "-q", "--deepen=3")
    git(target, "fetch", "-q", "--unshallow")

    assert git(target, "rev-list", "--count", "HEAD") == origin.git("rev-list", "--count", "main")
    git(target, "fsck", "--full")


def test_the_objects_of_a_partial_clone_can_be_fetched_again_whole(
    origin: Origin, doors: Doors, tmp_path: Path
) -> None:
    target = clone(doors, tmp_path, "git", 2, "--bare", "--filter=blob:none")

    git(target, "fetch", "-q", "--refetch", "--filter=blob:limit=100", "origin", "+refs/*:refs/*")

    assert objects_in(target) == passing(origin, "blob:limit=100")


@pytest.mark.parametrize(
    "spec", ["sparse:oid=main:small", "blob:limit=9x", "object:type=thing", "combine:tree:1+sparse:oid=x"]
)
@pytest.mark.parametrize("version", [0, 2])
def test_a_filter_that_is_not_offered_is_refused_by_name(doors: Doors, spec: str, version: int) -> None:
    from tests.unit.git.test_upload_protocol import ask, fetch_v2, packets

    want = doors.origin.git("rev-parse", "main").encode()
    request = (
        fetch_v2(b"want " + want, b"filter " + spec.encode(), b"done")
        if version
        else packets(b"want " + want + b" filter", b"filter " + spec.encode(), None, b"done")
    )

    said = ask(doors.origin, request, version)

    assert b"ERR filter " in said
    assert b"is not supported; use blob:none" in said
