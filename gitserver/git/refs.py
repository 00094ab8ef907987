"""Refs as rows: read as a snapshot, moved one by one under the repository's serial point.

Every function that writes *must* be called in a transaction that has bumped the repository's generation first: from
then on nobody else moves a ref of this repository until the transaction ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.orm import Session

from gitserver.core.errors import Conflict, NotFound
from gitserver.core.ids import RepositoryId
from gitserver.git.objects import ZERO_OID, ObjectId
from gitserver.git.protocol import printable
from gitserver.git.tables import GitRepositoryRow, RefRow


class RepositoryGone(NotFound):
    """The repository was deleted meanwhile."""

    code = "RepositoryDoesNotExistException"

    def __init__(self) -> None:
        super().__init__("the repository does not exist")


class RefMoved(Conflict):
    """Somebody updated the ref since the caller last read it."""

    code = "ConcurrentReferenceUpdateException"

    def __init__(self, ref: bytes, found: ObjectId | None) -> None:
        now = f"is now at {found.hex()}" if found else "does not exist"
        super().__init__(f"{printable(ref)} {now}; fetch first")
        self.ref, self.found = ref, found


class RefsCollide(Conflict):
    """One ref's name is a directory of another's."""

    def __init__(self, ref: bytes, other: bytes) -> None:
        super().__init__(f"{printable(ref)} cannot stand beside {printable(other)}")
        self.ref, self.other = ref, other


@dataclass(frozen=True)
class RefUpdate:
    """What a push wants of one ref. All zeros stand for "does not exist"."""

    name: bytes
    old: ObjectId
    new: ObjectId

    @property
    def deletes(self) -> bool:
        """Whether the ref is to go away."""
        return self.new == ZERO_OID

    @property
    def creates(self) -> bool:
        """Whether the ref is to come into being."""
        return self.old == ZERO_OID


@dataclass(frozen=True)
class RefSnapshot:
    """A repository's refs at one generation."""

    generation: int
    head: bytes | None  # the branch that HEAD points at, which may be unborn; None before the first push
    refs: Mapping[bytes, ObjectId]  # in the order of their names
    peeled: Mapping[bytes, ObjectId]  # of refs at annotated tags: what those finally point at


def read_refs(tx: Session, repository_id: RepositoryId, generation: int, head: bytes | None) -> RefSnapshot:
    """Every ref of a repository."""
    rows = tx.execute(
        select(RefRow.name, RefRow.oid, RefRow.peeled)
        .where(RefRow.repository_id == repository_id)
        .order_by(RefRow.name)
    ).all()
    refs = {name: ObjectId(oid) for name, oid, _ in rows}
    peeled = {name: ObjectId(target) for name, _, target in rows if target is not None}
    return RefSnapshot(generation, head, refs, peeled)


def bump(tx: Session, repository_id: RepositoryId) -> int:
    """Take the repository's serial point; the new generation.

    Raises:
        RepositoryGone: there is no such repository any more.
    """
    generation = tx.execute(
        update(GitRepositoryRow)
        .where(GitRepositoryRow.id == repository_id)
        .values(generation=GitRepositoryRow.generation + 1)
        .returning(GitRepositoryRow.generation)
    ).scalar_one_or_none()
    if generation is None:
        raise RepositoryGone
    return generation


def move_ref(tx: Session, repository_id: RepositoryId, change: RefUpdate, peeled: ObjectId | None) -> None:
    """Create, move or delete one ref.

    Raises:
        RefMoved: it is not where the caller believes it to be.
        RefsCollide: the new name is a directory of an existing one, or the other way round.
    """
    here = (RefRow.repository_id == repository_id, RefRow.name == change.name)
    found = tx.execute(select(RefRow.oid).where(*here)).scalar_one_or_none()
    if (found or ZERO_OID) != change.old:
        raise RefMoved(change.name, ObjectId(found) if found else None)
    if change.deletes:
        tx.execute(delete(RefRow).where(*here))
    elif change.creates:
        _refuse_collision(tx, repository_id, change.name)
        values = {"repository_id": repository_id, "name": change.name, "oid": change.new, "peeled": peeled}
        tx.execute(insert(RefRow).values(values))
    else:
        tx.execute(update(RefRow).where(*here).values(oid=change.new, peeled=peeled))


def settle_head(tx: Session, repository_id: RepositoryId, head: bytes) -> None:
    """Point HEAD at a branch, if it points nowhere yet."""
    tx.execute(
        update(GitRepositoryRow)
        .where(GitRepositoryRow.id == repository_id, GitRepositoryRow.head.is_(None))
        .values(head=head)
    )


def _refuse_collision(tx: Session, repository_id: RepositoryId, name: bytes) -> None:
    parts = name.split(b"/")
    above = [b"/".join(parts[:depth]) for depth in range(3, len(parts))]
    below = (RefRow.name > name + b"/", RefRow.name < name + b"0")  # "0" follows "/"
    query = select(RefRow.name).where(
        RefRow.repository_id == repository_id, or_(RefRow.name.in_(above), (below[0]) & (below[1]))
    )
    other = tx.execute(query.limit(1)).scalar_one_or_none()
    if other is not None:
        raise RefsCollide(name, other)
