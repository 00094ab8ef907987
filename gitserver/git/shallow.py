"""Shallow clones: where a client's history ends now, and where it will end after this fetch.

Source: gitprotocol-pack(5), "Packfile Negotiation"; gitprotocol-v2(5), ``deepen``; git-fetch(1), ``--depth`` and after.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gitserver.core.errors import Invalid
from gitserver.git.graph import NO_COMMITS, CommitGraph
from gitserver.git.objects import ObjectId

INFINITE_DEPTH = 0x7FFFFFFF  # what ``git fetch --unshallow`` asks for


class NothingSelected(Invalid):
    """A date or an excluded ref left no commit of what the client wants."""

    def __init__(self) -> None:
        super().__init__("no commits selected for shallow requests")


@dataclass(frozen=True, slots=True)
class Deepening:
    """What a client asks about the depth of its history. At most one of ``depth`` and the other two is given."""

    depth: int = 0  # commits from each tip, 1 being the tip alone; 0: not asked
    relative: bool = False  # count from the client's present boundary
    since: int | None = None  # seconds since 1970; older commits stay out
    excluded: tuple[ObjectId, ...] = ()  # commits that stay out, with everything behind them

    @property
    def asked(self) -> bool:
        """Whether the boundary is to move."""
        return bool(self.depth or self.since is not None or self.excluded)


@dataclass(frozen=True, slots=True)
class Boundary:
    """The edge of a client's history.

    ``shallow``: commits to announce as new ends; ``unshallow``: its old ends that get parents now.
    ``cut``: commits whose parents no walk for this client may follow.
    ``wants``: parents of the commits in ``unshallow``.
    """

    shallow: tuple[ObjectId, ...] = ()
    unshallow: tuple[ObjectId, ...] = ()
    cut: Collection[ObjectId] = NO_COMMITS
    wants: tuple[ObjectId, ...] = ()


def boundary(
    graph: CommitGraph,
    wants: Iterable[ObjectId],
    ends: Collection[ObjectId],
    asked: Deepening,
    tips: Iterable[ObjectId],
) -> Boundary:
    """Decide where the client's history ends.

    Args:
        graph: the server's commits.
        wants: the wanted commits.
        ends: the commits in the store that the client says are its shallow ends now.
        asked: how far it wants to go.
        tips: the commits that visible refs point at: only what is behind them is ever laid open.

    Raises:
        NothingSelected: nothing is young enough, or everything is excluded.
    """
    if not asked.asked:
        return Boundary(cut=frozenset(ends))
    if asked.depth >= INFINITE_DEPTH:
        border, inside = _everything(graph, ends, tips)
    elif asked.depth:
        heads = _behind(graph, tips, ends) if asked.relative else wants
        border, inside = _to_depth(graph, heads, asked.depth + asked.relative)
    else:
        border, inside = _selected(graph, wants, asked)
    unshallow = tuple(oid for oid in ends if oid in inside)
    parents = dict.fromkeys(parent for oid in unshallow for parent in graph.links(oid).parents)
    return Boundary(
        shallow=tuple(oid for oid in border if oid not in ends),
        unshallow=unshallow,
        cut=frozenset(border) | frozenset(ends),
        wants=tuple(parents),
    )


_Edges = tuple[list[ObjectId], Collection[ObjectId]]  # the new ends; commits that keep their parents


def _everything(graph: CommitGraph, ends: Collection[ObjectId], tips: Iterable[ObjectId]) -> _Edges:
    return [], set(_behind(graph, tips, ends))


def _behind(graph: CommitGraph, tips: Iterable[ObjectId], sought: Collection[ObjectId]) -> list[ObjectId]:
    """Those of *sought* that *tips* reach."""
    found: list[ObjectId] = []
    left = set(sought)
    for oid in graph.ancestors(tips):
        if not left:
            break
        if oid in left:
            left.discard(oid)
            found.append(oid)
    return found


def _to_depth(graph: CommitGraph, heads: Iterable[ObjectId], depth: int) -> _Edges:
    inside: set[ObjectId] = set()
    level = list(dict.fromkeys(heads))
    for _ in range(depth - 1):
        if not level:
            break
        inside.update(level)
        parents = dict.fromkeys(parent for oid in level for parent in graph.links(oid).parents)
        level = [oid for oid in parents if oid not in inside]
    return level, inside


def _selected(graph: CommitGraph, wants: Iterable[ObjectId], asked: Deepening) -> _Edges:
    excluded = set(graph.ancestors(asked.excluded)) if asked.excluded else set()
    inside = _young(graph, wants, asked.since or 0, excluded)
    if not inside:
        raise NothingSelected
    border = [oid for oid in inside if not inside.issuperset(graph.links(oid).parents)]
    return border, inside.difference(border)


def _young(graph: CommitGraph, wants: Iterable[ObjectId], since: int, excluded: set[ObjectId]) -> set[ObjectId]:
    inside: set[ObjectId] = set()
    stack = list(wants)
    while stack:
        oid = stack.pop()
        if oid not in inside and oid not in excluded and graph.links(oid).committed >= since:
            inside.add(oid)
            stack += graph.links(oid).parents
    return inside
