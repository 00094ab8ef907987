"""Shallow clones and how they grow: the same ends as C git's server leaves, and nothing missing."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.git.test_upload_clone import DOORS, criss_cross
from tests.unit.git.upload_house import EPOCH, Doors, Origin, git, objects_in

NUMBERS = itertools.count()


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def doors(origin: Origin) -> Iterator[Doors]:
    doors = Doors(origin)
    yield doors
    doors.close()


class Twins:
    """Two clones that are told the same: one talks to our server, the other to C git's."""

    def __init__(self, doors: Doors, tmp_path: Path, door: str, version: int, *options: str) -> None:
        number = next(NUMBERS)
        self.ours, self.theirs = tmp_path / f"ours{number}", tmp_path / f"theirs{number}"
        self._config = ("-c", f"protocol.version={version}")
        for target, url in ((self.ours, doors.url(door)), (self.theirs, f"file://{doors.origin.path}")):
            git(tmp_path, *self._config, "clone", "-q", *options, url, str(target))
            git(target, "config", "protocol.version", str(version))

    def do(self, *arguments: str) -> None:
        for target in (self.ours, self.theirs):
            git(target, *arguments)

    def agree(self) -> None:
        """The same refs, ends and reachable objects; ours may hold more."""
        ends = [git(target, "rev-parse", "--git-path", "shallow") for target in (self.ours, self.theirs)]
        files = [target / end for target, end in zip((self.ours, self.theirs), ends, strict=True)]
        shallow = [sorted(file.read_text().split()) if file.exists() else [] for file in files]
        assert shallow[0] == shallow[1]
        listings = [
            git(target, "rev-list", "--objects", "--all", "--missing=print") for target in (self.ours, self.theirs)
        ]
        assert sorted(listings[0].splitlines()) == sorted(listings[1].splitlines())
        assert git(self.ours, "for-each-ref") == git(self.theirs, "for-each-ref")
        git(self.ours, "fsck", "--full")


def history(origin: Origin) -> None:
    """A line, a side branch with merges, and tags."""
    criss_cross(origin, 24)
    origin.commits(20)
    origin.git("tag", "-a", "-m", "x", "v1", "main~5")
    origin.git("tag", "-a", "-m", "x", "v2", "left~2")


def grow(origin: Origin) -> None:
    """New commits on every branch."""
    criss_cross(origin, 30, start=24)
    origin.commits(4, start=20)


@pytest.mark.parametrize("depth", [1, 3, 20])
@pytest.mark.parametrize(("door", "version"), DOORS)
def test_a_clone_to_a_depth_ends_where_git_ends_it(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int, depth: int
) -> None:
    history(origin)

    twins = Twins(doors, tmp_path, door, version, f"--depth={depth}", "--no-single-branch")

    twins.agree()
    assert len(objects_in(twins.ours)) == len(objects_in(twins.theirs))


CHANGES: dict[str, list[tuple[str, ...]]] = {
    "deepen": [("fetch", "-q", "--depth=7")],
    "less deep": [("fetch", "-q", "--depth=1")],
    "relative": [("fetch", "-q", "--deepen=3"), ("fetch", "-q", "--deepen=2")],
    "unshallow": [("fetch", "-q", "--unshallow")],
    "plain": [("fetch", "-q")],
    "since": [("fetch", "-q", f"--shallow-since={EPOCH + 600}")],
    "exclude": [("fetch", "-q", "--shallow-exclude=v1")],
    "several": [
        ("fetch", "-q", "--deepen=1"),
        ("fetch", "-q"),
        ("fetch", "-q", "--depth=9"),
        ("fetch", "-q", "--unshallow"),
    ],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("door", "version"), DOORS)
def test_a_shallow_clone_grows_and_follows_as_with_git(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int, change: str
) -> None:
    history(origin)
    twins = Twins(doors, tmp_path, door, version, "--depth=3", "--no-single-branch")
    grow(origin)

    for arguments in CHANGES[change]:
        twins.do(*arguments)

    twins.agree()


@pytest.mark.parametrize(
    "options", [(f"--shallow-since={EPOCH + 700}",), ("--shallow-exclude=v2",), ("--shallow-exclude=left",)]
)
@pytest.mark.parametrize(("door", "version"), [("git", 2), ("git", 0), ("http", 2)])
def test_a_clone_from_a_date_or_without_a_ref_ends_where_git_ends_it(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int, options: tuple[str, ...]
) -> None:
    history(origin)

    twins = Twins(doors, tmp_path, door, version, "--no-single-branch", "-b", "right", *options)

    twins.agree()


def test_a_date_after_everything_is_refused(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    origin.commits(3)

    said = git(tmp_path, "clone", f"--shallow-since={EPOCH * 1.1:.0f}", doors.url("git"), "x", ok=False)

    assert "no commits selected for shallow requests" in said


def test_a_shallow_end_of_a_hidden_commit_opens_nothing(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    origin.commits(5)
    origin.commits(5, branch="secret", since=EPOCH + 7)
    origin.git("update-ref", "refs/internal/secret", "secret")
    secret = origin.git("rev-parse", "secret")
    origin.git("branch", "-q", "-D", "secret")
    target = tmp_path / "target"
    git(tmp_path, "clone", "-q", "--depth=1", doors.url("git"), str(target))
    with (target / ".git" / "shallow").open("a") as ends:
        ends.write(secret + "\n")
    hold = git(origin.path, "cat-file", "commit", secret)
    git(target, "hash-object", "-w", "-t", "commit", "--stdin", "--literally", text=hold + "\n")

    git(target, "fetch", "-q", "--unshallow")

    assert not objects_in(target) & (origin.objects_of("refs/internal/secret") - origin.objects_of("main") - {secret})
