"""Which object ids a client may ask for: those behind the refs it may see, and no others.

Source: git-config(1), ``uploadpack.allowReachableSHA1InWant``, ``transfer.hideRefs``.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from threading import Lock

from gitserver.core.errors import NotFound, TooMuch
from gitserver.git.graph import CommitGraph
from gitserver.git.objects import OID_BYTES, Kind, ObjectId
from gitserver.git.reachability import TreeMemo
from gitserver.git.ref_names import is_hidden
from gitserver.git.refs import RefSnapshot
from gitserver.git.store import ObjectStore

MEMORY_IDS = 1_000_000  # 20 MB
_MEMO_IDS = 0  # each tree is read once
_PATIENCE_TREES = 4096  # a search longer than this goes on to the end, so that it need not be made again


class NotOurRef(NotFound):
    """The client asked for an object that no ref it may see leads to."""

    def __init__(self, oid: ObjectId) -> None:
        super().__init__(f"upload-pack: not our ref {oid.hex()}")
        self.oid = oid


class SearchTooLong(TooMuch):
    """Whether a tree or blob may be asked for could not be found out within the limit."""

    def __init__(self, oid: ObjectId) -> None:
        super().__init__(f"upload-pack: the history is too large to look for {oid.hex()}; fetch a commit that holds it")


class VisibleRefs:
    """The refs that clients may see: all but ``refs/internal/``. Names ascend."""

    def __init__(self, snapshot: RefSnapshot) -> None:
        self.refs: Mapping[bytes, ObjectId] = {name: oid for name, oid in snapshot.refs.items() if not is_hidden(name)}
        self.peeled: Mapping[bytes, ObjectId] = snapshot.peeled
        self.symref = snapshot.head  # what HEAD names; that branch may not exist yet

    @property
    def head(self) -> ObjectId | None:
        """What HEAD resolves to."""
        return None if self.symref is None else self.refs.get(self.symref)

    def find(self, name: bytes) -> ObjectId | None:
        """What a full ref name, or ``HEAD``, resolves to."""
        return self.head if name == b"HEAD" else self.refs.get(name)

    def find_short(self, name: bytes) -> list[bytes]:
        """The full names that a name as people write it can mean. Source: gitrevisions(7)."""
        candidates = (pattern % name for pattern in _SHORT_FORMS)
        return [full for full in candidates if self.find(full) is not None]


_SHORT_FORMS = (b"%s", b"refs/%s", b"refs/tags/%s", b"refs/heads/%s", b"refs/remotes/%s", b"refs/remotes/%s/HEAD")


class ReachableMemory:
    """The trees and blobs behind sets of refs, kept from one fetch to the next; threads may share it.

    What lies behind an object id never changes, so an answer stays right for as long as the refs are the same.
    """

    def __init__(self, room_ids: int = MEMORY_IDS) -> None:
        self._room = self._left = room_ids
        self._known: OrderedDict[bytes, bytes] = OrderedDict()  # ids, ascending, joined
        self._lock = Lock()

    def lacking(self, tips: set[ObjectId], sought: set[ObjectId]) -> set[ObjectId] | None:
        """Those of *sought* that do not lie behind *tips*; None where nothing is known about these tips."""
        with self._lock:
            key = _digest(tips)
            ids = self._known.get(key)
            if ids is None:
                return None
            self._known.move_to_end(key)
        return {oid for oid in sought if not _holds(ids, oid)}

    def remember(self, tips: set[ObjectId], behind: set[ObjectId]) -> None:
        """Keep what lies behind *tips*, if there is room; what was used least recently goes first."""
        if len(behind) > self._room:
            return
        ids = b"".join(sorted(behind))
        with self._lock:
            key = _digest(tips)
            self._left += len(self._known.pop(key, b"")) // OID_BYTES
            self._known[key] = ids
            self._left -= len(behind)
            while self._left < 0:
                self._left += len(self._known.popitem(last=False)[1]) // OID_BYTES


def _digest(tips: set[ObjectId]) -> bytes:
    return sha256(b"".join(sorted(tips))).digest()


def _holds(ids: bytes, oid: ObjectId) -> bool:
    count = len(ids) // OID_BYTES
    place = bisect_left(range(count), oid, key=lambda number: _nth(ids, number))
    return place < count and _nth(ids, place) == oid


def _nth(ids: bytes, number: int) -> ObjectId:
    return ObjectId(ids[number * OID_BYTES : (number + 1) * OID_BYTES])


class Reachable:
    """Answers whether ids are behind visible refs, looking at what is newest first and stopping at the answer."""

    def __init__(
        self,
        graph: CommitGraph,
        store: ObjectStore,
        visible: VisibleRefs,
        tree_limit: int,
        memory: ReachableMemory | None = None,
    ) -> None:
        self._graph = graph
        self._store = store
        self._tree_limit = tree_limit
        self._memory = memory
        self._tips = set(visible.refs.values())
        self._peeled = {oid for name, oid in visible.peeled.items() if name in visible.refs}

    def require(self, oids: Iterable[ObjectId]) -> None:
        """Refuse ids that are not reachable, and ids that do not exist, with the same words.

        Raises:
            NotOurRef: the first of them.
            SearchTooLong: a tree or blob could not be found within the limit.
        """
        sought = [oid for oid in dict.fromkeys(oids) if oid not in self._tips and oid not in self._peeled]
        lacking = self.lacking(sought)
        for oid in sought:
            if oid in lacking:
                raise NotOurRef(oid)

    def lacking(self, oids: Iterable[ObjectId]) -> set[ObjectId]:
        """Those of *oids* that no visible ref leads to.

        Raises:
            SearchTooLong: as for :meth:`require`.
        """
        sought = set(oids) - self._tips - self._peeled
        lost = {oid for oid in sought if oid not in self._store}
        sought -= lost
        if not sought:
            return lost
        commits = {oid for oid in sought if self._store.kind(oid) is Kind.COMMIT}
        tags = {oid for oid in sought if self._store.kind(oid) is Kind.TAG}
        return lost | self._without_commits(commits) | self._without_tags(tags) | self._without(sought - commits - tags)

    def commit_tips(self) -> list[ObjectId]:
        """The commits that visible refs lead to, tags followed."""
        return [oid for oid in self._ends() if self._store.kind(oid) is Kind.COMMIT]

    def _ends(self) -> list[ObjectId]:
        return list(dict.fromkeys(self._graph.peel(oid).oid for oid in self._tips))

    def _without_commits(self, sought: set[ObjectId]) -> set[ObjectId]:
        left = set(sought)
        if left:
            for oid in self._graph.ancestors(self.commit_tips()):
                left.discard(oid)
                if not left:
                    break
        return left

    def _without_tags(self, sought: set[ObjectId]) -> set[ObjectId]:
        if not sought:
            return sought
        return sought.difference(*(self._graph.peel(oid).tags for oid in self._tips))

    def _without(self, sought: set[ObjectId]) -> set[ObjectId]:
        """Those trees and blobs of *sought* that are in no visible commit."""
        if not sought:
            return sought
        known = self._memory.lacking(self._tips, sought) if self._memory else None
        return self._search(sought) if known is None else known

    def _search(self, sought: set[ObjectId]) -> set[ObjectId]:
        ends = self._ends()
        left = sought.difference(ends)
        memo = TreeMemo(self._store, _MEMO_IDS)
        trees: set[ObjectId] = set()
        others = {oid for oid in ends if self._store.kind(oid) is Kind.BLOB}
        for root in self._root_trees(ends):
            level = {root} - trees
            while level:
                trees |= level
                if len(trees) > self._tree_limit:
                    break
                subtrees, blobs = memo.children(level)
                others |= blobs
                left -= level | blobs
                level = subtrees - trees
            if not left and (self._memory is None or len(trees) <= _PATIENCE_TREES):
                return left
            if len(trees) > self._tree_limit:
                if left:
                    raise SearchTooLong(next(iter(left)))
                return left
        if self._memory:
            self._memory.remember(self._tips, trees | others)
        return left

    def _root_trees(self, ends: list[ObjectId]) -> Iterable[ObjectId]:
        yield from (oid for oid in ends if self._store.kind(oid) is Kind.TREE)
        commits = [oid for oid in ends if self._store.kind(oid) is Kind.COMMIT]
        for oid in self._graph.ancestors(commits):
            yield self._graph.links(oid).tree
