"""Finding out what client and server have in common.

Source: gitprotocol-pack(5), "Packfile Negotiation"; git's upload-pack decides the same way when it is ready.
"""

from collections.abc import Iterable

from gitserver.git.graph import CommitGraph
from gitserver.git.objects import Kind, ObjectId
from gitserver.git.store import ObjectStore


class Negotiation:
    """The common objects found so far, and whether they suffice."""

    def __init__(self, graph: CommitGraph, store: ObjectStore, wants: Iterable[ObjectId]) -> None:
        self.common: dict[ObjectId, None] = {}
        self._graph = graph
        self._store = store
        self._theirs: set[ObjectId] = set()  # common commits and their parents
        self._oldest = 0  # committer date of the oldest common commit
        self._failed_with = 0  # how much was common when it was last found not to be enough
        self._unanswered: list[ObjectId] | None = None  # wanted commits not seen to lead to something common
        self._wants = list(wants)

    def hear(self, oid: ObjectId) -> bool:
        """Take one object that the client has; whether the server has it too."""
        if oid not in self._store:
            return False
        if oid in self.common:
            return True
        self.common[oid] = None
        if self._store.kind(oid) is Kind.COMMIT:
            links = self._graph.links(oid)
            self._oldest = min(self._oldest or links.committed, links.committed)
            self._theirs.add(oid)
            self._theirs.update(links.parents)
        return True

    def is_enough(self) -> bool:
        """Whether every wanted commit leads to something common, so that more haves would say little."""
        if len(self.common) == self._failed_with:
            return False
        if self._unanswered is None:
            ends = [self._graph.peel(oid) for oid in self._wants]
            self._unanswered = [end.oid for end in ends if end.kind is Kind.COMMIT]
        while self._unanswered and self._leads_to_common(self._unanswered[-1]):
            self._unanswered.pop()
        if self._unanswered:
            self._failed_with = len(self.common)
        return not self._unanswered

    def _leads_to_common(self, tip: ObjectId) -> bool:
        seen = {tip}
        stack = [tip]
        while stack:
            oid = stack.pop()
            if oid in self._theirs:
                return True
            links = self._graph.links(oid)
            if links.committed < self._oldest:
                continue
            fresh = [parent for parent in links.parents if parent not in seen]
            seen.update(fresh)
            stack += fresh
        return False
