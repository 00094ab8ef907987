"""Which objects a client lacks: behind what it wants, and not behind what it has.

The answer must never leave out an object that the client lacks; it should hold few that the client has.

Commits are taken parents first, and each adds its *novelty*: what its tree reaches that no parent's tree does. Of a
tree that both have, nothing is read. ``_Novelty`` computes that from the trees; lists kept at push can take its place.
A set of ids is *settled* when everything behind each of them is selected already or proven to be the client's.

Source: git-rev-list(1), ``--objects``; git-pack-objects(1), ``--thin``, ``--shallow``.
"""

import re
from collections.abc import Collection, Generator, Iterable, Set
from dataclasses import dataclass, field
from itertools import chain, islice

from gitserver.git.filters import EVERYTHING, Filter
from gitserver.git.graph import NO_COMMITS, CommitGraph, CommitRange
from gitserver.git.objects import Kind, ObjectId, ObjectMalformed
from gitserver.git.store import ObjectStore

TREE_MEMO_IDS = 400_000  # ids that one request keeps of trees it may look at again: about 40 MiB
LEANED_HAVES = 8  # trees of the client that a commit without usable parents is compared with
REPORT_EVERY = 256  # commits between two reports of the count


@dataclass(frozen=True, slots=True)
class Selection:
    """The objects to send, and ids that the client is proven to have (some of which may also be in ``objects``)."""

    objects: set[ObjectId]
    theirs: Set[ObjectId]


@dataclass(slots=True)
class _Roots:
    """Wanted or held objects, tags followed, by kind."""

    tags: list[ObjectId] = field(default_factory=list)
    commits: list[ObjectId] = field(default_factory=list)
    trees: list[ObjectId] = field(default_factory=list)
    blobs: list[ObjectId] = field(default_factory=list)


def missing(
    store: ObjectStore,
    wants: Iterable[ObjectId],
    haves: Iterable[ObjectId] = (),
    *,
    cut: Collection[ObjectId] = NO_COMMITS,
    passing: Filter = EVERYTHING,
) -> Selection:
    """The objects behind *wants* and not behind *haves*; see :func:`selecting`."""
    steps = selecting(CommitGraph(store), store, wants, haves, cut=cut, passing=passing)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            selection: Selection = end.value
            return selection


def selecting(
    graph: CommitGraph,
    store: ObjectStore,
    wants: Iterable[ObjectId],
    haves: Iterable[ObjectId],
    *,
    cut: Collection[ObjectId] = NO_COMMITS,
    passing: Filter = EVERYTHING,
) -> Generator[int, None, Selection]:
    """Find the objects behind *wants* that a client with *haves* lacks.

    Args:
        graph: the commits of *store*.
        store: the objects.
        wants: ids of any kind, all in the store; each is in the answer unless the client has it.
        haves: ids the client says it has, all in the store; everything behind them, as far as *cut*, is taken for its.
        cut: commits without parents for this client: its shallow ones, and the ones that become so.
        passing: leaves objects out of the answer. ``theirs`` is empty then, save for commits and tags, since the
            client may lack what an earlier filter left out.

    Yields:
        How many objects were found so far, now and then.

    Raises:
        ObjectMissing: the store is not closed.
    """
    want = _roots(graph, wants)
    have = _roots(graph, haves)
    commits = yield from graph.range(want.commits, have.commits, cut)
    named = set(chain(have.tags, commits.theirs))
    objects = set(chain(want.tags, want.trees, want.blobs))
    objects.difference_update(have.tags, have.trees, have.blobs)
    objects.update(set(want.commits).difference(commits.theirs))
    if Kind.COMMIT in passing.kinds:
        objects.update(commits.new)
    if not passing.contents and not want.trees:
        return Selection(objects, named)
    if passing.tree_depth is not None:
        yield from _shallow_trees(graph, store, want, have, commits, passing, objects)
        return Selection(objects, named)
    thin = bool(have.commits or have.trees)
    novelty = _Novelty(store, blobs=passing.blobs, memo_ids=TREE_MEMO_IDS if thin else 0)
    novelty.settle(have.blobs)
    yield from _novelties(graph, novelty, want, have, commits, cut)
    objects |= _passing(store, novelty, passing)
    return Selection(objects, novelty.settled | named if thin and passing == EVERYTHING else named)


def _roots(graph: CommitGraph, oids: Iterable[ObjectId]) -> _Roots:
    roots = _Roots()
    by_kind = {Kind.COMMIT: roots.commits, Kind.TREE: roots.trees, Kind.BLOB: roots.blobs}
    for oid in dict.fromkeys(oids):
        peeled = graph.peel(oid)
        roots.tags += peeled.tags
        by_kind[peeled.kind].append(peeled.oid)
    return roots


def _novelties(
    graph: CommitGraph,
    novelty: "_Novelty",
    want: _Roots,
    have: _Roots,
    commits: CommitRange,
    cut: Collection[ObjectId],
) -> Generator[int, None, None]:
    """Feed every new commit's tree, then the wanted trees, to *novelty*."""
    held = [graph.links(oid).tree for oid in islice(have.commits, LEANED_HAVES)] + have.trees[:LEANED_HAVES]
    for number, oid in enumerate(commits.new, 1):
        links = graph.links(oid)
        known = [] if oid in cut else [graph.links(parent).tree for parent in links.parents]
        novelty.add([links.tree], (known or held) if held else [])
        if number % REPORT_EVERY == 0:
            yield len(commits.new) + novelty.count
    for tree in want.trees:
        novelty.add([tree], held)


def _passing(store: ObjectStore, novelty: "_Novelty", passing: Filter) -> set[ObjectId]:
    chosen: set[ObjectId] = set()
    if Kind.TREE in passing.kinds:
        chosen |= novelty.trees
    if passing.blob_limit is None and Kind.BLOB in passing.kinds:
        chosen |= novelty.blobs
    elif passing.blobs and passing.blob_limit is not None:
        chosen.update(oid for oid in novelty.blobs if store.size(oid) < passing.blob_limit)
    return chosen


class _Novelty:
    """Objects found in trees so far: ``trees`` and ``blobs`` that are new, and ``settled``, which must not be lost."""

    def __init__(self, store: ObjectStore, *, blobs: bool, memo_ids: int) -> None:
        self.trees: set[ObjectId] = set()
        self.blobs: set[ObjectId] = set()
        self.settled: set[ObjectId] = set()
        self._memo = TreeMemo(store, memo_ids)
        self._with_blobs = blobs

    @property
    def count(self) -> int:
        """How many new objects were found."""
        return len(self.trees) + len(self.blobs)

    def settle(self, oids: Iterable[ObjectId]) -> None:
        """Take *oids*, and everything behind them, for the client's."""
        self.settled.update(oids)

    def add(self, roots: Iterable[ObjectId], known: Iterable[ObjectId]) -> None:
        """Take what *roots* reach, as far as it is new.

        Args:
            roots: trees.
            known: trees that are settled; they are read only as far as they differ from the roots.
        """
        old = set(known)
        self.settled |= old
        new = set(roots) - self.settled
        while new:
            self.settled |= new
            self.trees |= new
            subtrees, blobs = self._memo.children(new)
            old_subtrees, old_blobs = self._memo.children(old)
            self.settled |= old_subtrees
            fresh = subtrees - self.settled
            if self._with_blobs:
                self.settled |= old_blobs
                fresh_blobs = blobs - self.settled
                self.blobs |= fresh_blobs
                self.settled |= fresh_blobs
            new, old = fresh, old_subtrees - subtrees


class TreeMemo:
    """Which ids a tree names; a bounded number of them is remembered."""

    def __init__(self, store: ObjectStore, room: int) -> None:
        self._store = store
        self._trees: dict[ObjectId, tuple[frozenset[ObjectId], frozenset[ObjectId]]] = {}
        self._room = self._left = room

    def children(self, trees: Iterable[ObjectId]) -> tuple[set[ObjectId], set[ObjectId]]:
        """The trees and the blobs that *trees* name. Submodules are neither."""
        subtrees: set[ObjectId] = set()
        blobs: set[ObjectId] = set()
        for oid in trees:
            found = self._trees.get(oid) or self._read(oid)
            subtrees |= found[0]
            blobs |= found[1]
        return subtrees, blobs

    def _read(self, oid: ObjectId) -> tuple[frozenset[ObjectId], frozenset[ObjectId]]:
        kind, data = self._store.read(oid)
        if kind is not Kind.TREE:
            raise ObjectMalformed(f"object {oid.hex()} is no tree")
        entries = _ENTRY.findall(data)
        subtrees = frozenset([entry for mode, entry in entries if mode in _TREE_MODES])
        blobs = frozenset([entry for mode, entry in entries if mode not in _NO_BLOB_MODES])
        self._left -= len(entries) + 1
        if self._left < 0:
            self._trees.clear()
            self._left = self._room
        self._trees[oid] = subtrees, blobs
        return subtrees, blobs


# Stored trees were checked when they came in, so whole entries follow one another.
_ENTRY = re.compile(rb"([0-7]+) [^\0]+\0(.{20})", re.DOTALL)
_TREE_MODES = frozenset({b"40000", b"040000"})
_NO_BLOB_MODES = _TREE_MODES | {b"160000"}


def _shallow_trees(
    graph: CommitGraph,
    store: ObjectStore,
    want: _Roots,
    have: _Roots,
    commits: CommitRange,
    passing: Filter,
    objects: set[ObjectId],
) -> Generator[int, None, None]:
    """Add the trees and blobs less deep than ``passing.tree_depth`` to *objects*."""
    walk = _DepthWalk(store, passing)
    for oid in have.commits[:LEANED_HAVES]:
        walk.add(graph.links(oid).tree)
    theirs = walk.found()
    for number, oid in enumerate(commits.new, 1):
        walk.add(graph.links(oid).tree)
        if number % REPORT_EVERY == 0:
            yield len(objects) + number
    for tree in want.trees:
        walk.add(tree)
    objects |= walk.found() - theirs


class _DepthWalk:
    """Trees walked no deeper than a filter lets through; an object's depth is the least one it was seen at."""

    def __init__(self, store: ObjectStore, passing: Filter) -> None:
        self._store = store
        self._passing = passing
        self._depths: dict[ObjectId, int] = {}
        self._blobs: set[ObjectId] = set()
        self._memo = TreeMemo(store, TREE_MEMO_IDS)

    def add(self, root: ObjectId) -> None:
        """Walk one root tree, which is at depth 0."""
        level = {root}
        for depth in range(self._passing.tree_depth or 0):
            level = {oid for oid in level if self._depths.get(oid, depth + 1) > depth}
            if not level:
                break
            self._depths.update(dict.fromkeys(level, depth))
            if depth + 1 == self._passing.tree_depth:
                break
            level, blobs = self._memo.children(level)
            if self._passing.blobs:
                self._blobs |= blobs

    def found(self) -> set[ObjectId]:
        """What passes the whole filter so far."""
        chosen = set(self._depths) if Kind.TREE in self._passing.kinds else set()
        if self._passing.blobs:
            limit = self._passing.blob_limit
            chosen.update(oid for oid in self._blobs if limit is None or self._store.size(oid) < limit)
        return chosen
