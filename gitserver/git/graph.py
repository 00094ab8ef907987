"""The commit graph of one store, read commit by commit and remembered for one request.

A walk paints commits *theirs* (an ancestor of something the client has) or *new*. Every mark "theirs" must be a fact.
Committer dates only decide the order of the walk and where it stops: clocks that run backwards can make it send a
commit that the client has, never leave out one that it lacks.
"""

from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from gitserver.git.objects import CommitLinks, Kind, ObjectId, commit_links, tag_links
from gitserver.git.store import ObjectStore

NO_COMMITS: frozenset[ObjectId] = frozenset()
REPORT_EVERY = 2048  # steps of a walk between two reports of its count


@dataclass(frozen=True, slots=True)
class Peeled:
    """Where a chain of annotated tags ends."""

    tags: tuple[ObjectId, ...]  # the outermost first; empty where the object is no tag
    oid: ObjectId
    kind: Kind


@dataclass(frozen=True, slots=True)
class CommitRange:
    """The commits that a client lacks.

    ``new`` has parents before their children. ``theirs`` holds commits that the walk saw and the client has.
    """

    new: list[ObjectId]
    theirs: set[ObjectId]


class CommitGraph:
    """Commits and tags of a store; each is read once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._links: dict[ObjectId, CommitLinks] = {}

    def links(self, oid: ObjectId) -> CommitLinks:
        """A commit's tree, parents and date.

        Raises:
            ObjectMissing: the store does not hold it.
            ObjectMalformed: it is no commit.
        """
        links = self._links.get(oid)
        if links is None:
            links = self._links[oid] = commit_links(self._store.read(oid)[1])
        return links

    def peel(self, oid: ObjectId) -> Peeled:
        """Follow annotated tags from *oid* to what is not one."""
        tags: list[ObjectId] = []
        while (kind := self._store.kind(oid)) is Kind.TAG:
            tags.append(oid)
            oid = tag_links(self._store.read(oid)[1]).target
        return Peeled(tuple(tags), oid, kind)

    def ancestors(self, tips: Iterable[ObjectId]) -> Generator[ObjectId, None, None]:
        """The commits *tips* and everything behind them, about newest first, each once."""
        seen: set[ObjectId] = set()
        heap: list[tuple[int, ObjectId]] = []

        def reach(oid: ObjectId) -> None:
            if oid not in seen:
                seen.add(oid)
                heappush(heap, (-self.links(oid).committed, oid))

        for tip in tips:
            reach(tip)
        while heap:
            oid = heappop(heap)[1]
            yield oid
            for parent in self.links(oid).parents:
                reach(parent)

    def range(
        self, wants: Iterable[ObjectId], haves: Iterable[ObjectId], cut: Collection[ObjectId] = NO_COMMITS
    ) -> Generator[int, None, CommitRange]:
        """The commits behind *wants* that are not behind *haves*; a commit in *cut* counts as having no parents.

        Yields:
            How many commits were visited so far, now and then.
        """
        walk = _Painting(self, cut)
        for oid in haves:
            walk.paint(oid, theirs=True)
        for oid in wants:
            walk.paint(oid, theirs=False)
        steps = 0
        while walk.step():
            steps += 1
            if steps % REPORT_EVERY == 0:
                yield steps
        new = {oid for oid, theirs in walk.theirs.items() if not theirs}
        return CommitRange(self._parents_first(new, cut), {oid for oid, theirs in walk.theirs.items() if theirs})

    def _parents_first(self, commits: set[ObjectId], cut: Collection[ObjectId]) -> list[ObjectId]:
        ordered: list[ObjectId] = []
        entered: set[ObjectId] = set()
        left: set[ObjectId] = set()
        for tip in commits:
            stack = [tip]
            while stack:
                oid = stack[-1]
                if oid not in entered:
                    entered.add(oid)
                    if oid not in cut:
                        stack += [up for up in self.links(oid).parents if up in commits and up not in entered]
                    continue
                stack.pop()
                if oid not in left:
                    left.add(oid)
                    ordered.append(oid)
        return ordered


class _Painting:
    """The state of one range walk: a heap of commits whose mark has to be handed on to their parents."""

    def __init__(self, graph: CommitGraph, cut: Collection[ObjectId]) -> None:
        self.theirs: dict[ObjectId, bool] = {}
        self._graph = graph
        self._cut = cut
        self._heap: list[tuple[int, ObjectId]] = []
        self._open: set[ObjectId] = set()  # new commits that wait in the heap
        self._oldest: int | None = None  # the least date among commits that were taken for new

    def paint(self, oid: ObjectId, *, theirs: bool) -> None:
        known = self.theirs.get(oid)
        if known is not None and (known or not theirs):
            return
        self.theirs[oid] = theirs
        if theirs:
            self._open.discard(oid)
        else:
            self._open.add(oid)
        heappush(self._heap, (-self._graph.links(oid).committed, oid))

    def step(self) -> bool:
        """Hand one commit's mark on; False once no mark can change what is new, as far as dates tell."""
        if not self._heap:
            return False
        date = -self._heap[0][0]
        if not self._open and (self._oldest is None or date < self._oldest):
            return False
        oid = heappop(self._heap)[1]
        theirs = self.theirs[oid]
        if not theirs:
            self._open.discard(oid)
            self._oldest = date if self._oldest is None else min(date, self._oldest)
        if oid not in self._cut:
            for parent in self._graph.links(oid).parents:
                self.paint(parent, theirs=theirs)
        return True
