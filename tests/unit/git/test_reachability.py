"""What a client lacks, over random histories, against ``git rev-list --objects``."""

import random
from collections.abc import Generator
from pathlib import Path

import pytest

from gitserver.git.filters import parse_filter
from gitserver.git.graph import CommitGraph, CommitRange
from gitserver.git.objects import Kind, ObjectId
from gitserver.git.reachability import missing
from gitserver.git.store import ObjectStore
from tests.unit.git.upload_house import EPOCH, Origin, commit_lines, content


def random_history(origin: Origin, seed: int, commits: int, *, honest: bool) -> list[str]:
    """A graph with merges, moves, reverts and shared trees; clocks run backwards where it is not *honest*."""
    chance = random.Random(seed)
    lines: list[str] = []
    marks: list[int] = []
    for mark in range(1, commits + 1):
        parents = (
            chance.sample(marks[-8:], k=min(len(marks[-8:]), chance.choice([1, 1, 1, 2, 3])))
            if chance.random() > 0.05
            else []
        )
        when = EPOCH + 60 * mark if honest else EPOCH + chance.randrange(100_000)
        files = {
            chance.choice(["a", "b", "d/a", "d/b", "d/e/a", "d/e/b", "x/a", "x/e/a"]): content(chance.randrange(6))
            for _ in range(chance.randrange(4))
        }
        commit = commit_lines("tmp", when, files)
        commit.insert(1, f"mark :{mark}")
        at = commit.index("data 7") + 2
        commit[at:at] = [("from" if number == 0 else "merge") + f" :{parent}" for number, parent in enumerate(parents)]
        if chance.random() < 0.2:
            commit.insert(
                -1, f"R {chance.choice(['d', 'x', 'a'])} {chance.choice(['y', 'd/z', 'x/y'])}"
            ) if parents else None
        lines += [] if parents else ["reset refs/heads/tmp", ""]
        lines += [*commit, f"reset refs/heads/c{mark}", f"from :{mark}", ""]
        marks.append(mark)
    origin.stream(*(line for line in lines if not line.startswith("R ")))
    return [f"c{mark}" for mark in marks]


@pytest.fixture(params=[1, 2, 3])
def honest(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Origin, list[str], random.Random]:
    origin = Origin(tmp_path / "origin")
    return origin, random_history(origin, request.param, 40, honest=True), random.Random(request.param)


@pytest.fixture(params=[4, 5, 6])
def crooked(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Origin, list[str], random.Random]:
    origin = Origin(tmp_path / "origin")
    return origin, random_history(origin, request.param, 40, honest=False), random.Random(request.param)


def ids(origin: Origin, names: list[str]) -> list[ObjectId]:
    return [ObjectId(bytes.fromhex(line)) for line in origin.git("rev-parse", *names).split()] if names else []


def hexes(oids: set[ObjectId]) -> set[str]:
    return {oid.hex() for oid in oids}


def commits_among(store: ObjectStore, oids: set[ObjectId]) -> set[str]:
    return {oid.hex() for oid in oids if store.kind(oid) is Kind.COMMIT}


def test_nothing_that_a_client_lacks_is_left_out_and_little_that_it_has_is_sent(
    honest: tuple[Origin, list[str], random.Random],
) -> None:
    origin, names, chance = honest
    store = origin.open().objects
    for _ in range(12):
        wants, haves = chance.sample(names, k=3), chance.sample(names, k=chance.randrange(4))

        found = missing(store, ids(origin, wants), ids(origin, haves))

        behind_wants, behind_haves = origin.objects_of(*wants), origin.objects_of(*haves) if haves else set()
        git_sends = origin.objects_of(*wants, *(f"^{name}" for name in haves))
        assert behind_wants - behind_haves <= hexes(found.objects) <= behind_wants
        assert commits_among(store, found.objects) == set(
            origin.git("rev-list", *wants, *(f"^{name}" for name in haves)).split()
        )
        assert len(found.objects) <= len(git_sends) + 12
        assert hexes(set(found.theirs)) <= behind_haves | hexes(found.objects)


def test_clocks_that_run_backwards_lose_nothing(crooked: tuple[Origin, list[str], random.Random]) -> None:
    origin, names, chance = crooked
    store = origin.open().objects
    for _ in range(12):
        wants, haves = chance.sample(names, k=3), chance.sample(names, k=3)

        found = missing(store, ids(origin, wants), ids(origin, haves))

        behind_wants, behind_haves = origin.objects_of(*wants), origin.objects_of(*haves)
        assert behind_wants - behind_haves <= hexes(found.objects) <= behind_wants
        assert hexes(set(found.theirs)) <= behind_haves | hexes(found.objects)


def test_a_clone_needs_exactly_what_is_reachable(honest: tuple[Origin, list[str], random.Random]) -> None:
    origin, names, _ = honest
    store = origin.open().objects

    found = missing(store, ids(origin, names[:20]))

    assert hexes(found.objects) == origin.objects_of(*names[:20])
    assert not found.theirs


@pytest.mark.parametrize(
    "spec",
    ["blob:none", "blob:limit=900", "tree:0", "tree:1", "tree:2", "tree:3", "object:type=tree", "object:type=blob"],
)
def test_a_filter_passes_what_it_passes_in_git(honest: tuple[Origin, list[str], random.Random], spec: str) -> None:
    origin, names, _ = honest
    store = origin.open().objects

    found = missing(store, ids(origin, names[-3:]), passing=parse_filter(spec.encode()))

    listing = origin.git("rev-list", "--objects", f"--filter={spec}", "--filter-provided-objects", *names[-3:])
    explicit = set(origin.git("rev-parse", *names[-3:]).split())
    assert hexes(found.objects) == {line.split(" ")[0] for line in listing.splitlines()} | explicit


def test_a_cut_commit_brings_its_whole_tree(honest: tuple[Origin, list[str], random.Random]) -> None:
    origin, names, _ = honest
    store = origin.open().objects
    tip = ids(origin, names[-1:])

    found = missing(store, tip, cut=frozenset(tip))

    tree = origin.git("ls-tree", "-r", "-t", "--format=%(objectname)", names[-1]).split()
    assert hexes(found.objects) == {*tree, origin.git("rev-parse", f"{names[-1]}^{{tree}}"), tip[0].hex()}


def test_commits_come_parents_first(crooked: tuple[Origin, list[str], random.Random]) -> None:
    origin, names, _ = crooked
    graph = CommitGraph(origin.open().objects)

    order = to_the_end(graph.range(ids(origin, names), [])).new

    places = {oid: number for number, oid in enumerate(order)}
    assert len(order) == 40
    assert all(places[parent] < places[oid] for oid in order for parent in graph.links(oid).parents)


def to_the_end(walk: Generator[int, None, CommitRange]) -> CommitRange:
    """What a walk answers."""
    while True:
        try:
            next(walk)
        except StopIteration as end:
            answer: CommitRange = end.value
            return answer
