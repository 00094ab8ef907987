"""Many push at once: one wins, the others are told, nothing is by halves. On SQLite and on PostgreSQL."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.house import House
from tests.postgres import Cluster
from tests.scenarios.torture import (
    LONG,
    ZERO,
    Change,
    Pusher,
    Report,
    assert_clones,
    change,
    problems,
    refs,
    tell,
    times,
    unrecorded,
)

pytestmark = [pytest.mark.torture, pytest.mark.timeout(14_400 if LONG else 300)]

RACERS = 32
MAIN = "refs/heads/main"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server on either database, shared by this file's tests."""
    root = tmp_path_factory.mktemp("races")
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgres")
        made = House(root, init=["--database", cluster.create("races")])
    else:
        made = House(root)
    yield made
    made.close()


@pytest.fixture
def racers(house: House) -> Iterator[tuple[str, list[Pusher]]]:
    """A repository, and a connection of each client to it."""
    repository = house.repository()
    with ExitStack() as open_ones:
        yield repository, [open_ones.enter_context(closing(Pusher(house, repository))) for _ in range(RACERS)]


def at_once(actions: Sequence[Callable[[], Report]]) -> list[Report]:
    """Do everything at the same moment."""
    gate = threading.Barrier(len(actions))

    def wait(action: Callable[[], Report]) -> Report:
        gate.wait(30)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(wait, actions))


def pushing(client: Pusher, made: Change, old: str, ref: str = MAIN) -> Callable[[], Report]:
    """A push that waits to be done."""
    return lambda: client.push([(old, made.oid, ref)], made.pack)


def atomically(client: Pusher, made: Change, at: dict[str, str], names: Sequence[str]) -> Callable[[], Report]:
    """An atomic push of several refs that waits to be done."""
    return lambda: client.push([(at[ref], made.oid, ref) for ref in names], made.pack, atomic=True)


def test_of_32_clients_that_race_one_ref_exactly_one_wins(
    house: House, racers: tuple[str, list[Pusher]], tmp_path: Path
) -> None:
    repository, clients = racers
    rounds, at = times(5, 50), ZERO

    for _ in range(rounds):
        changes = [change(at if at != ZERO else None) for _ in clients]
        reports = at_once([pushing(one, made, at) for one, made in zip(clients, changes, strict=True)])
        winners = [made.oid for told, made in zip(reports, changes, strict=True) if told.ok]
        reasons = [told.refs[MAIN] for told in reports if not told.ok]
        assert len(winners) == 1
        assert all(reason is not None and reason.startswith("stale info") for reason in reasons), reasons
        assert refs(house, repository) == {MAIN: winners[0]}
        at = winners[0]

    assert unrecorded(house) == set()
    assert problems(house) == []
    assert_clones(house, tmp_path, repository)
    tell(f"{rounds} rounds of {len(clients)} clients on one ref: one winner each")


def test_pushes_to_different_refs_do_not_disturb_each_other(house: House, racers: tuple[str, list[Pusher]]) -> None:
    repository, clients = racers
    changes = {f"refs/heads/branch-{number}": change() for number in range(len(clients))}

    reports = at_once(
        [pushing(one, made, ZERO, ref) for one, (ref, made) in zip(clients, changes.items(), strict=True)]
    )

    assert all(told.ok for told in reports), reports
    assert refs(house, repository) == {ref: made.oid for ref, made in changes.items()}


def test_an_atomic_push_with_one_bad_ref_moves_nothing(house: House) -> None:
    repository = house.repository()
    with closing(Pusher(house, repository)) as client:
        base = change()
        assert client.create(MAIN, base).ok

        for number in range(times(10, 100)):
            made = change(base.oid)
            bad = [
                (ZERO, made.oid, "refs/heads/main/below"),  # collides
                ("1" * 40, made.oid, "refs/heads/stale"),
                (ZERO, made.objects[2].oid, "refs/heads/a-file"),  # a branch at a blob
                (ZERO, "2" * 40, "refs/heads/absent"),
                (ZERO, made.oid, "refs/heads/bad..name"),
            ][number % 5]
            commands = [(base.oid, made.oid, MAIN), (ZERO, made.oid, f"refs/heads/new-{number}")]
            commands.insert(number % 3, bad)
            told = client.push(commands, made.pack, atomic=True)
            assert all(told.refs[ref] for _, _, ref in commands), told
            assert refs(house, repository) == {MAIN: base.oid}

    assert unrecorded(house) == set()
    assert problems(house) == []


def test_atomic_pushes_that_race_move_all_their_refs_or_none(house: House, racers: tuple[str, list[Pusher]]) -> None:
    repository, clients = racers
    names = [f"refs/heads/part-{number}" for number in range(4)]
    at = dict.fromkeys(names, ZERO)

    for _ in range(times(3, 30)):
        changes = [change() for _ in clients]
        turns = enumerate(zip(clients, changes, strict=True))
        actions = [atomically(one, made, at, names[turn % 4 :] + names[: turn % 4]) for turn, (one, made) in turns]
        winners = [made.oid for told, made in zip(at_once(actions), changes, strict=True) if told.ok]
        assert len(winners) == 1
        at = refs(house, repository)
        assert at == dict.fromkeys(names, winners[0])


def test_of_a_ref_and_a_ref_below_it_pushed_at_once_one_is_made(house: House, racers: tuple[str, list[Pusher]]) -> None:
    repository, clients = racers

    for number in range(times(5, 50)):
        names = (f"refs/heads/a-{number}", f"refs/heads/a-{number}/b")
        changes = [change() for _ in clients[:8]]
        reports = at_once(
            [
                pushing(one, made, ZERO, names[turn % 2])
                for turn, (one, made) in enumerate(zip(clients, changes, strict=False))
            ]
        )
        winners = [turn for turn, told in enumerate(reports) if told.ok]
        assert len(winners) == 1
        made = {ref: oid for ref, oid in refs(house, repository).items() if ref in names}
        assert made == {names[winners[0] % 2]: changes[winners[0]].oid}

    assert problems(house) == []


def test_of_several_gits_that_push_to_one_branch_one_wins_and_the_others_say_rejected(
    house: House, tmp_path: Path
) -> None:
    repository, count = house.repository(), times(4, 12)
    works = [tmp_path / f"work-{number}" for number in range(count)]
    commits = [house.commit(work, {"file": str(work)}) for work in works]
    url = house.https_url(repository)

    with ThreadPoolExecutor(count) as pool:
        ended = list(pool.map(lambda work: house.git("push", url, "main", cwd=work, check=False), works))

    winners = [oid for oid, one in zip(commits, ended, strict=True) if one.returncode == 0]
    assert len(winners) == 1
    assert refs(house, repository) == {MAIN: winners[0]}
    assert all("rejected]" in one.stderr for one in ended if one.returncode != 0), [one.stderr for one in ended]
    assert_clones(house, tmp_path, repository)
