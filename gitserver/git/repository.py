"""Repositories as Git sees them: opened as snapshots, changed under their serial point."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gitserver.core.clock import Clock
from gitserver.core.ids import RepositoryId
from gitserver.git.packs import Pack
from gitserver.git.refs import RefSnapshot, RepositoryGone, bump, read_refs
from gitserver.git.shelf import PackRecord, PackShelf
from gitserver.git.store import ObjectStore
from gitserver.git.tables import GitRepositoryRow, PackRow, RefRow
from gitserver.storage.database import Database
from gitserver.storage.vault import Blob, Owner, Vault

_SNAPSHOT_REFS = 200_000  # refs remembered, over all repositories


class Repository:
    """One opened repository: its refs and objects at one moment. Close it when done."""

    def __init__(self, owner: Owner, refs: RefSnapshot, packs: Sequence[Pack], shelf: PackShelf) -> None:
        self.owner, self.refs = owner, refs
        self.id = RepositoryId(owner.id)
        self.objects = ObjectStore(packs)
        self._packs, self._shelf = packs, shelf

    def close(self) -> None:
        """Give the packs back; harmless when repeated."""
        packs, self._packs = self._packs, ()
        self._shelf.give_back(packs)


@dataclass(frozen=True)
class _Snapshot:
    account: str
    refs: RefSnapshot
    packs: tuple[PackRecord, ...]


class GitStorage:
    """Creates, opens, extends and deletes repositories; knows nothing of their names or of users."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._database, self.vault, self._clock = database, vault, clock
        self._shelf = PackShelf(vault)
        self._snapshots: OrderedDict[RepositoryId, _Snapshot] = OrderedDict()
        self._lock = Lock()

    def create(self, tx: Session, owner: Owner) -> None:
        """An empty repository, with a data key of its own."""
        self.vault.create_owner(tx, owner)
        tx.add(GitRepositoryRow(id=owner.id, account=owner.account, generation=0))
        tx.flush()

    def delete(self, tx: Session, owner: Owner) -> None:
        """Remove a repository's rows and destroy its key; the blobs, unreadable now, are swept.

        Raises:
            RepositoryGone: somebody else deleted it.
        """
        bump(tx, RepositoryId(owner.id))  # a push that is committing now goes first, a later one finds nothing
        for row in tx.execute(select(PackRow.blob_id).where(PackRow.repository_id == owner.id)).scalars().all():
            self.vault.forget(tx, row)
        tx.execute(delete(PackRow).where(PackRow.repository_id == owner.id))
        tx.execute(delete(RefRow).where(RefRow.repository_id == owner.id))
        tx.execute(delete(GitRepositoryRow).where(GitRepositoryRow.id == owner.id))
        self.vault.destroy_owner(tx, owner)

    def open(self, repository_id: RepositoryId) -> Repository:
        """A repository as it is now.

        Raises:
            RepositoryGone: there is no such repository.
            BlobDamaged: one of its packs does not open.
        """
        snapshot = self._snapshot(repository_id)
        owner = Owner(snapshot.account, repository_id)  # type: ignore[arg-type]
        return Repository(owner, snapshot.refs, self._shelf.take(snapshot.packs), self._shelf)

    def add_pack(self, tx: Session, blob: Blob, generation: int, objects: int, pack_bytes: int) -> None:
        """Enter a sealed pack into a repository's catalogue, in the transaction that makes use of it."""
        self.vault.record(tx, blob)
        tx.add(
            PackRow(
                id=blob.id,
                repository_id=blob.owner.id,
                blob_id=blob.id,
                generation=generation,
                objects=objects,
                pack_bytes=pack_bytes,
                created=self._clock.now(),
            )
        )
        tx.flush()

    def close(self) -> None:
        """Close every pack."""
        self._shelf.close()

    def _snapshot(self, repository_id: RepositoryId) -> _Snapshot:
        with self._database.reading() as tx:
            row = tx.get(GitRepositoryRow, repository_id)
            if row is None:
                raise RepositoryGone
            with self._lock:
                known = self._snapshots.get(repository_id)
                if known is not None and known.refs.generation == row.generation:
                    self._snapshots.move_to_end(repository_id)
                    return known
            refs = read_refs(tx, repository_id, row.generation, row.head)
            packs = tx.execute(
                select(PackRow).where(PackRow.repository_id == repository_id).order_by(PackRow.generation.desc())
            ).scalars()
            records = tuple(PackRecord(pack.id, pack.pack_bytes, self.vault.find(tx, pack.blob_id)) for pack in packs)
            snapshot = _Snapshot(row.account, refs, records)
        self._remember(repository_id, snapshot)
        return snapshot

    def _remember(self, repository_id: RepositoryId, snapshot: _Snapshot) -> None:
        with self._lock:
            self._snapshots[repository_id] = snapshot
            self._snapshots.move_to_end(repository_id)
            held = sum(len(known.refs.refs) for known in self._snapshots.values())
            while held > _SNAPSHOT_REFS and len(self._snapshots) > 1:
                _, dropped = self._snapshots.popitem(last=False)
                held -= len(dropped.refs.refs)
