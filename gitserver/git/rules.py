"""Rules on pushes that need the history to be judged."""

from dataclasses import dataclass

from gitserver.git.graph import CommitGraph
from gitserver.git.objects import Kind, ObjectId, tag_links
from gitserver.git.ref_names import BRANCHES
from gitserver.git.refs import RefUpdate
from gitserver.git.store import ObjectStore

_MAX_TAG_CHAIN = 64


@dataclass(frozen=True)
class PushRules:
    """What a repository lets nobody do, whatever they may otherwise."""

    deny_non_fast_forwards: bool = False
    deny_deletes: bool = False


def broken_rule(change: RefUpdate, rules: PushRules, head: bytes | None, objects: ObjectStore) -> str | None:
    """The reason to refuse *change*, or None. *objects* hold its new id already."""
    if change.deletes:
        if change.name == head:
            return "deletion of the default branch prohibited"
        return "deletion prohibited" if rules.deny_deletes else None
    if change.name.startswith(BRANCHES):
        if objects.kind(change.new) is not Kind.COMMIT:
            return "a branch can only point at a commit"
        if rules.deny_non_fast_forwards and not change.creates and not is_ancestor(objects, change.old, change.new):
            return "non-fast-forward"
    return None


def is_ancestor(objects: ObjectStore, old: ObjectId, new: ObjectId) -> bool:
    """Whether commit *old* is *new* itself or comes before it. Newer commits are looked at first."""
    return old in CommitGraph(objects).ancestors([new])


def peel(objects: ObjectStore, oid: ObjectId) -> ObjectId | None:
    """What an annotated tag finally points at; None if *oid* is no tag, or one of a chain of absurd length."""
    target = oid
    for _ in range(_MAX_TAG_CHAIN):
        if objects.kind(target) is not Kind.TAG:
            return None if target == oid else target
        target = tag_links(objects.read(target)[1]).target
    return None
