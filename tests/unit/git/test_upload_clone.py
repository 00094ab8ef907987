"""Clones by C git's client, in every protocol version, through a conversation and through single requests."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.git.upload_house import (
    ENVIRONMENT,
    EPOCH,
    Doors,
    Origin,
    commit_lines,
    content,
    free_of_faults,
    git,
    objects_in,
)

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


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_a_fetch_brings_what_was_missing(origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int) -> None:
    origin.commits(40)
    target = clone(doors, tmp_path, door, version)
    origin.commits(10, start=40)

    git(target, "fetch", "-q")

    free_of_faults(target)
    assert objects_in(target) == origin.objects_of("--all")


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_a_fetch_of_one_commit_sends_little(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    origin.commits(40)
    target = clone(doors, tmp_path, door, version)
    origin.commits(1, start=40)

    said = git_trace(target, "fetch")

    assert received(said) <= 5
    free_of_faults(target)


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_an_empty_repository_is_cloned_with_its_unborn_branch(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    origin.git("symbolic-ref", "HEAD", "refs/heads/trunk")

    target = clone(doors, tmp_path, door, version)

    assert objects_in(target) == set()
    if version == 2:
        assert git(target, "symbolic-ref", "HEAD") == "refs/heads/trunk"


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_a_fetch_after_a_forced_push_follows(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    origin.commits(30)
    target = clone(doors, tmp_path, door, version)
    origin.git("update-ref", "refs/heads/main", "main~10")
    origin.commits(6, start=90)

    git(target, "fetch", "-q")

    assert git(target, "rev-parse", "origin/main") == origin.git("rev-parse", "main")
    free_of_faults(target)


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_diverged_clients_find_their_common_base(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    origin.commits(60)
    target = clone(doors, tmp_path, door, version)
    for number in range(70):
        git(target, "commit", "-q", "--allow-empty", "-m", str(number), when=EPOCH + 9000 + number)
    origin.commits(20, start=60)

    said = git_trace(target, "fetch")

    assert received(said) <= 100
    assert git(target, "rev-parse", "origin/main") == origin.git("rev-parse", "main")
    free_of_faults(target)


@pytest.mark.parametrize(("door", "version"), [("git", 2), ("git", 0), ("http", 2)])
def test_a_mirror_of_many_refs_is_whole(origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int) -> None:
    origin.commits(20)
    tips = origin.git("rev-list", "main").split()
    names = "".join(f"create refs/heads/many/{number} {tips[number % 20]}\n" for number in range(5000))
    origin.git("update-ref", "--stdin", text=names)
    origin.git("pack-refs", "--all")

    target = clone(doors, tmp_path, door, version, "--mirror")

    assert git(target, "for-each-ref") == origin.git("for-each-ref")
    free_of_faults(target)


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_tags_come_with_what_they_point_at(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    odd_tags(origin)

    target = clone(doors, tmp_path, door, version)
    single = clone(doors, tmp_path, door, version, "--single-branch", "-b", "side")

    assert objects_in(target) == origin.objects_of("--all")
    assert git(single, "tag", "-l").split() == ["onside"]
    free_of_faults(target)
    free_of_faults(single)


def test_hidden_refs_are_neither_told_nor_sent(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    origin.commits(5)
    origin.commits(3, branch="secret", start=0, since=EPOCH + 77)
    origin.stream(*commit_lines("secret", EPOCH + 999, {"secret": "secret\n"}, parent="refs/heads/secret^0"))
    origin.git("update-ref", "refs/internal/secret", "secret")
    origin.git("update-ref", "refs/pull/1/head", "main~1")
    origin.git("branch", "-D", "secret")

    target = clone(doors, tmp_path, "git", 2, "--mirror")
    secret = origin.git("rev-parse", "refs/internal/secret")

    assert objects_in(target) == origin.objects_of("main")
    assert git(target, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main", "refs/pull/1/head"]
    for version in (0, 1, 2):
        said = git(target, "-c", f"protocol.version={version}", "fetch", doors.url("git"), secret, ok=False)
        assert f"not our ref {secret}" in said
    blob = origin.git("rev-parse", "refs/internal/secret:secret")
    assert f"not our ref {blob}" in git(target, "fetch", doors.url("git"), blob, ok=False)


def test_unreachable_objects_stay_out_of_a_clone(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    origin.commits(20)
    lost = origin.git("rev-parse", "main")
    origin.git("update-ref", "refs/heads/main", "main~7")

    target = clone(doors, tmp_path, "git", 2)

    assert objects_in(target) == origin.objects_of("main")
    assert f"not our ref {lost}" in git(target, "fetch", "-q", "origin", lost, ok=False)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_any_reachable_object_may_be_fetched_by_its_id(
    origin: Origin, doors: Doors, tmp_path: Path, version: int
) -> None:
    origin.commits(20)
    target = clone(doors, tmp_path, "git", version, "--depth=1")
    old = origin.git("rev-parse", "main~12")
    tree = origin.git("rev-parse", "main~12:dir1")

    git(target, "fetch", "-q", "--depth=1", "origin", old)
    git(target, "fetch", "-q", "origin", tree)

    assert git(target, "cat-file", "-t", old) == "commit"
    assert git(target, "cat-file", "-t", tree) == "tree"


def test_submodules_are_left_where_they_are(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    lines = commit_lines("main", EPOCH, {"a": "a\n"})
    lines.insert(-1, f"M 160000 {'5' * 40} sub")
    origin.stream(*lines)

    target = clone(doors, tmp_path, "git", 2)

    assert f"160000 commit {'5' * 40}\tsub" in git(target, "ls-tree", "HEAD")
    assert objects_in(target) == origin.objects_of("--all")


@pytest.mark.parametrize(("door", "version"), DOORS)
def test_merges_and_criss_crosses_arrive_whole(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    criss_cross(origin, 12)
    target = clone(doors, tmp_path, door, version, "--single-branch", "-b", "left")
    criss_cross(origin, 24, start=12)

    git(target, "fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")

    assert objects_in(target) == origin.objects_of("--all")
    free_of_faults(target)


def test_a_ref_in_a_want_is_answered_with_its_id(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    origin.commits(5)
    target = tmp_path / "target"
    git(tmp_path, "init", "-q", str(target))

    said = git_trace(target, "fetch", doors.url("git"), "refs/heads/main:refs/heads/copy")

    assert "fetch> want-ref refs/heads/main" in said or "want " in said
    assert git(target, "rev-parse", "copy") == origin.git("rev-parse", "main")


@pytest.mark.parametrize("door", ["git", "http"])
def test_negotiation_alone_finds_the_common_commits(origin: Origin, doors: Doors, tmp_path: Path, door: str) -> None:
    origin.commits(5)
    target = clone(doors, tmp_path, door, 2)
    common = git(target, "rev-parse", "HEAD")
    git(target, "commit", "-q", "--allow-empty", "-m", "mine")

    found = git(target, "fetch", "--negotiate-only", "--negotiation-tip=main", "origin")

    assert common in found.split()
    assert set(found.split()) <= set(origin.git("rev-list", "main").split())


def test_a_client_without_deltas_by_distance_gets_them_by_id(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    origin.commits(30)

    target = clone(doors, tmp_path, "git", 0, "-c", "repack.useDeltaBaseOffset=false")
    git(target, "config", "repack.useDeltaBaseOffset", "false")
    origin.commits(30, start=30)
    git(target, "fetch", "-q")

    assert objects_in(target) == origin.objects_of("--all")
    free_of_faults(target)


def git_trace(where: Path, *arguments: str) -> str:
    """Standard error of a command that shows its progress and its packets."""
    done = subprocess.run(
        ["git", "-C", str(where), *arguments, "--progress"],
        env=ENVIRONMENT | {"GIT_TRACE_PACKET": "1"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stderr.decode(errors="replace")


def received(said: str) -> int:
    """How many objects the server sent."""
    counts = re.findall(r"Enumerating objects: (\d+), done", said)
    assert counts, said
    return int(counts[-1])


def odd_tags(origin: Origin) -> None:
    """Tags of commits, tags, trees and blobs, on two branches."""
    origin.commits(6)
    origin.commits(3, branch="side", start=0, since=EPOCH + 7)
    origin.git("tag", "-a", "-m", "x", "onmain", "main~1")
    origin.git("tag", "-a", "-m", "x", "onside", "side")
    origin.git("tag", "-a", "-m", "x", "oftag", "onmain")
    origin.git("tag", "-a", "-m", "x", "oftree", "main~2^{tree}")
    origin.git("tag", "-a", "-m", "x", "ofblob", "main:top1")
    origin.git("tag", "light", "main~2")
    blob = origin.git("hash-object", "-w", "--stdin", text="only tagged\n")
    origin.git("tag", "lightblob", blob)


def criss_cross(origin: Origin, count: int, start: int = 0) -> None:
    """Two branches that merge each other again and again."""
    lines: list[str] = []
    for number in range(start, count):
        for branch, other, shift in (("left", "right", 0), ("right", "left", 1)):
            parent = f"refs/heads/{branch}^0" if start and number == start else None
            merge = f"refs/heads/{other}" if number % 3 == 2 else None
            files = {f"{branch}/{number % 4}": content(number), "both": f"{branch} {number}\n"}
            lines += commit_lines(branch, EPOCH + 100 * number + shift, files, parent=parent, merge=merge)
    origin.stream(*lines)
