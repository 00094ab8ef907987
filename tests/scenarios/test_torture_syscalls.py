"""A push interrupted at an exact system call, one after the other: the server killed, the disk full or failing."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.house import House
from tests.scenarios.conftest import NewHouse
from tests.scenarios.torture import (
    LONG,
    ZERO,
    Change,
    PushBroken,
    Pusher,
    Report,
    assert_clones,
    assert_sound,
    change,
    refs,
    sweep,
    tell,
    unrecorded,
)
from tests.scenarios.torture_strace import ONE_THREAD, Call, at_call, counting, needs_strace, push_thread

pytestmark = [pytest.mark.torture, needs_strace, pytest.mark.timeout(14_400 if LONG else 300)]

MAIN = "refs/heads/main"
SPOOLED_BYTES = 9_000_000  # more than waits in memory


def test_a_server_killed_at_any_call_that_a_push_makes_has_done_all_of_it_or_nothing(
    new_house: NewHouse, tmp_path: Path
) -> None:
    house = new_house(**ONE_THREAD)
    calls = count_calls(house, size_bytes=200)
    restarts: list[float] = []
    acknowledged = done = 0

    for call in chosen(calls):
        warm(house)
        told, repository, made = push_at(house, call, "signal=SIGKILL")
        house.kill9()
        restarts.append(house.start())
        found = refs(house, repository).get(MAIN, ZERO)
        assert found in (ZERO, made.oid)
        assert told is None or found == made.oid, f"killed at {call}: acknowledged, but lost"
        acknowledged, done = acknowledged + (told is not None), done + (found == made.oid)
        sweep(house)
        assert unrecorded(house) == set(), f"killed at {call}"
        assert_sound(house, tmp_path, repository)

    tell(
        f"{len(restarts)} of {len(calls)} calls: {done} pushes done, {acknowledged} of them acknowledged;"
        f" serving again after {sorted(restarts)[len(restarts) // 2]:.2f} s, {max(restarts):.2f} s at most"
    )
    assert 0 < done < len(restarts)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_disk_that_is_full_or_fails_at_any_call_of_a_push_costs_that_push_only(
    new_house: NewHouse, tmp_path: Path, error: str
) -> None:
    house = new_house(**ONE_THREAD)
    size_bytes = SPOOLED_BYTES if LONG else 200
    calls = [call for call in chosen(count_calls(house, size_bytes)) if call.changes(house.data)]
    names = []

    for call in calls:
        told, repository, made = push_at(house, call, f"error={error}", size_bytes)
        names.append(repository)
        found = refs(house, repository).get(MAIN, ZERO)
        assert found == (made.oid if told is not None and told.ok else ZERO), f"{error} at {call}: {told}"
        if call.name == "fdatasync":  # the blob may be in use, if the server dies now: it is left to the sweep
            sweep(house)
        elif error == "ENOSPC":
            assert unrecorded(house) == set(), f"{error} at {call}"
            assert told is not None, f"no report, {error} at {call}"
            assert told.ok or "disk is full" in told.unpack, f"{error} at {call}: {told}"

    sweep(house)
    assert unrecorded(house) == set()
    house.kill9()
    house.start()
    assert_sound(house, tmp_path)
    for repository in names:
        if not refs(house, repository):
            with closing(Pusher(house, repository)) as client:
                assert client.create(MAIN, change()).ok
    assert_clones(house, tmp_path, names[0])


def test_a_commit_that_could_not_be_flushed_keeps_its_blob_since_it_may_come_back(
    new_house: NewHouse, tmp_path: Path
) -> None:
    house = new_house(**ONE_THREAD)
    flush = next(call for call in count_calls(house, 200) if call.name == "fdatasync")

    told, repository, made = push_at(house, flush, "error=EIO")
    house.kill9()
    house.start()

    assert told is None or not told.ok
    assert refs(house, repository).get(MAIN, ZERO) in (ZERO, made.oid)  # nobody was told, so either is true
    assert_sound(house, tmp_path, repository)


def count_calls(house: House, size_bytes: int) -> Sequence[Call]:
    """The calls of a push of a new repository's first commit."""
    warm(house)
    repository = house.repository()
    with closing(Pusher(house, repository)) as client, counting(push_thread(house)) as calls:
        assert client.create(MAIN, change(size_bytes=size_bytes)).ok
    assert [call for call in calls if call.name in ("fsync", "fdatasync")]
    return calls


def push_at(house: House, call: Call, what: str, size_bytes: int = 200) -> tuple[Report | None, str, Change]:
    """Push while *what* happens at a call; the report if there was one, the repository, and what was pushed."""
    repository = house.repository()
    made = change(size_bytes=size_bytes)
    with closing(Pusher(house, repository)) as client, at_call(call, push_thread(house), what):
        try:
            return client.create(MAIN, made), repository, made
        except PushBroken:
            return None, repository, made


def warm(house: House) -> None:
    """Push once, so that connections to the database are open, and are not counted."""
    with closing(Pusher(house, house.repository())) as client:
        assert client.create(MAIN, change()).ok


def chosen(calls: Sequence[Call]) -> Sequence[Call]:
    """Which calls to interrupt: every one, or, in CI, the first and the last of each run of the same call."""
    if LONG:
        return calls
    runs: list[list[Call]] = []
    for call in calls:
        if runs and str(runs[-1][-1]) == str(call):
            runs[-1].append(call)
        else:
            runs.append([call])
    return [run[-1] for run in runs if run[-1].name != "openat" or "O_CREAT" in run[-1].arguments]
