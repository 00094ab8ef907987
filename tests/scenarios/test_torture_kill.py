"""A server killed in the middle of pushes, at random moments, keeps what it acknowledged and nothing by halves."""

import random
import threading
import time
from pathlib import Path

import pytest

from tests.house import House, Key
from tests.scenarios.conftest import NewHouse
from tests.scenarios.torture import (
    LONG,
    ZERO,
    PushBroken,
    Pusher,
    assert_sound,
    change,
    refs,
    sealed_files,
    sweep,
    tell,
    times,
    unrecorded,
)

pytestmark = [pytest.mark.torture, pytest.mark.timeout(14_400 if LONG else 300)]

ROUNDS = times(8, 200)
ROUNDS_EACH = 12  # with the same repositories
RESTART_S = 20  # of a machine that does other things too; on a quiet one it must be below 2, and docs/torture.md has it
MAIN = "refs/heads/main"


class Writer(threading.Thread):
    """Pushes one commit after another until the server is gone, and remembers what was acknowledged."""

    def __init__(self, house: House, repository: str, at: str, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.house, self.repository, self.sizes = house, repository, sizes
        self.acknowledged, self.attempted, self.pushes = at, at, 0

    def run(self) -> None:
        """Push over HTTPS."""
        client = Pusher(self.house, self.repository)
        while True:
            made = change(self.acknowledged if self.acknowledged != ZERO else None, random.choice(self.sizes))
            self.attempted = made.oid
            try:
                told = client.push([(self.acknowledged, made.oid, MAIN)], made.pack)
            except PushBroken:
                client.close()
                return
            assert told.ok, told
            self.acknowledged = made.oid
            self.pushes += 1


class GitWriter(Writer):
    """The same with git, over SSH."""

    def __init__(self, house: House, repository: str, at: str, work: Path, key: Key) -> None:
        super().__init__(house, repository, at, ())
        self.work, self.key = work, key

    def run(self) -> None:
        """Push over SSH."""
        while True:
            self.attempted = self.house.commit(self.work)
            url = self.house.ssh_url(self.repository)
            told = self.house.git("push", "-q", url, "HEAD:main", cwd=self.work, key=self.key, check=False)
            if told.returncode != 0:
                return
            self.acknowledged = self.attempted
            self.pushes += 1


def test_a_server_killed_at_random_moments_of_pushes_loses_nothing_it_acknowledged(
    new_house: NewHouse, tmp_path: Path
) -> None:
    house = new_house()
    names: list[str] = []
    at: dict[str, str] = {}
    key, work = house.ssh_key(), tmp_path / "work"
    restarts, pushes, unacknowledged = [], 0, 0

    for number in range(ROUNDS):
        if number % ROUNDS_EACH == 0:
            for name in names:
                house.services.repositories.delete(house.caller, name)
            names = [house.repository() for _ in range(3)]
            at = dict.fromkeys(names, ZERO)
        writers = [
            Writer(house, names[0], at[names[0]], (200, 50_000)),
            Writer(house, names[1], at[names[1]], (3_000_000, 12_000_000)),  # the second waits in the spool's file
            GitWriter(house, names[2], at[names[2]], work, key),
        ]
        for writer in writers:
            writer.start()
        time.sleep(random.uniform(0.02, 0.9))
        house.kill9()
        for writer in writers:
            writer.join(60)
            assert not writer.is_alive(), f"{writer.repository} still waits for a server that is gone"
        restarts.append(house.start())
        for writer in writers:
            found = refs(house, writer.repository).get(MAIN, ZERO)
            assert found in (writer.acknowledged, writer.attempted), "a push that was acknowledged is lost"
            unacknowledged += found != writer.acknowledged
            at[writer.repository] = found
            pushes += writer.pushes
        sweep(house)
        assert unrecorded(house) == set()
        assert_sound(house, tmp_path, names[number % 3])

    assert house.cli("verify").returncode == 0
    tell(
        f"{ROUNDS} kills during {pushes} acknowledged pushes; {unacknowledged} more had been done, but not yet told;"
        f" serving again after {sorted(restarts)[len(restarts) // 2]:.2f} s, {max(restarts):.2f} s at most"
    )
    assert max(restarts) < RESTART_S
    assert sealed_files(house)
