"""The vault: blobs that are sealed as they are written, and the catalogue that says which there are.

Bytes must be durable before the transaction that points to them; a row must be gone before its bytes are. What
is left over either way is a blob that no row names, and :meth:`Vault.sweep` removes it.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from gitserver.core.clock import Clock
from gitserver.core.ids import AccountId
from gitserver.storage.blobs import BlobDamaged as BlobDamaged
from gitserver.storage.blobs import BlobInfo, BlobMissing, BlobSink, BlobStore, Bytes, check_name
from gitserver.storage.database import Database
from gitserver.storage.datakeys import DataKey, DataKeyMissing, DataKeys
from gitserver.storage.datakeys import Owner as Owner
from gitserver.storage.keys import KeyProvider
from gitserver.storage.sealed import SealedReader, Sealer, associated_data, data_key_id, open_bytes, seal_bytes
from gitserver.storage.tables import BlobRow

_BLOB_ID_BYTES = 16
_SWEPT_AT_ONCE = 500


@dataclass(frozen=True)
class Blob:
    """One sealed blob, as the catalogue knows it."""

    id: str  # 32 hexadecimal digits
    owner: Owner
    kind: str  # what it holds: "pack", "index", …
    data_key: str  # the id of the data key that sealed it
    sealed_bytes: int
    plain_bytes: int

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.owner.id}/{self.kind}/{self.id}"


class Vault:
    """Seals blobs into a store and opens them again; safe to share between threads."""

    def __init__(self, database: Database, blobs: BlobStore, keys: KeyProvider, clock: Clock) -> None:
        self._db, self._blobs, self._clock = database, blobs, clock
        self._keys = DataKeys(database, keys, clock)

    def create_owner(self, tx: Session, owner: Owner) -> None:
        """Make the owner's wrapping key and first data key, which exist once *tx* is committed.

        Raises:
            KeyExists: the owner has keys.
            BlobNameInvalid: the owner's id cannot be part of a blob's name.
        """
        check_name(owner.id)
        self._keys.create_owner(tx, owner)

    def destroy_owner(self, tx: Session, owner: Owner) -> None:
        """Shred: when *tx* is committed, nothing of the owner can be opened any more, from any copy or backup.

        The catalogue rows go in *tx*; the owner's wrapping key is destroyed just after the commit, and if that
        fails the error reaches whoever committed, and :meth:`sweep` tries again. The bytes are swept later.
        """
        tx.execute(delete(BlobRow).where(BlobRow.account == owner.account, BlobRow.owner == owner.id))
        self._keys.shred(tx, owner)

    def rotate(self, tx: Session, owner: Owner) -> None:
        """Give the owner a new data key; blobs that exist stay as they are."""
        self._keys.rotate(tx, owner)

    def rewrap(self, tx: Session, owner: Owner) -> None:
        """Give the owner's wrapping key a new version and wrap the owner's data keys with it."""
        self._keys.rewrap(tx, owner)

    def create(self, owner: Owner, kind: str) -> "VaultSink":
        """Start a blob. It does not exist before it is committed, and may be swept until it is recorded.

        Args:
            owner: whose data key seals it.
            kind: one word; part of its name and of what is authenticated.

        Raises:
            DataKeyMissing: the owner does not exist.
            DiskFull: there is no room.
        """
        key = self._keys.active(owner)
        identity = secrets.token_hex(_BLOB_ID_BYTES)
        return VaultSink(identity, kind, key, self._blobs.create(f"{owner.id}/{kind}/{identity}"))

    def open(self, blob: Blob, *, cached_segments: int = 16) -> SealedReader:
        """Open a blob for reading, after its lengths, header and last segment have been checked.

        Args:
            blob: from :meth:`find`, or from the transaction that recorded it.
            cached_segments: how many opened segments of 64 KiB the reader keeps for ``read_at``.

        Raises:
            BlobMissing: its bytes are not in the store.
            BlobDamaged: its bytes are not the ones that were sealed as this blob.
            KeyMissing, UnwrapRefused: its key is gone, or is not the right one.
        """
        try:
            key = self._keys.opening(blob.owner, blob.data_key)
        except DataKeyMissing as foreign:
            raise BlobDamaged(blob.name, f"{blob.data_key} is not a data key of its owner") from foreign
        return SealedReader(
            blob.name,
            self._blobs.open(blob.name),
            key_id=bytes.fromhex(key.id),
            key=key.key,
            associated=_blob_identity(blob.owner, blob.kind, blob.id),
            sealed_bytes=blob.sealed_bytes,
            plain_bytes=blob.plain_bytes,
            cached_segments=cached_segments,
        )

    def record(self, tx: Session, blob: Blob) -> None:
        """Put a committed blob into the catalogue, in the transaction that starts to use it."""
        tx.add(
            BlobRow(
                id=blob.id,
                account=blob.owner.account,
                owner=blob.owner.id,
                kind=blob.kind,
                data_key=blob.data_key,
                sealed_bytes=blob.sealed_bytes,
                plain_bytes=blob.plain_bytes,
                created=self._clock.now(),
            )
        )
        tx.flush()

    def find(self, tx: Session, blob_id: str) -> Blob:
        """The blob of that id.

        Raises:
            BlobMissing: the catalogue has none.
        """
        row = tx.get(BlobRow, blob_id)
        if row is None:
            raise BlobMissing(blob_id)
        return _blob(row)

    def catalogue(self, tx: Session, owner: Owner | None = None) -> Iterator[Blob]:
        """Every blob there is, or every one of an owner, in the order of their ids."""
        wanted = select(BlobRow).order_by(BlobRow.id).execution_options(yield_per=_SWEPT_AT_ONCE)
        if owner is not None:
            wanted = wanted.where(BlobRow.account == owner.account, BlobRow.owner == owner.id)
        return map(_blob, tx.scalars(wanted))

    def forget(self, tx: Session, blob_id: str) -> None:
        """Take a blob out of the catalogue; its bytes stay until they are deleted or swept."""
        tx.execute(delete(BlobRow).where(BlobRow.id == blob_id))

    def delete(self, blob: Blob) -> None:
        """Remove a blob's bytes now. Its row must be gone already, or must never have been."""
        self._blobs.delete(blob.name)

    def sweep(self, older_than: timedelta) -> list[str]:
        """Delete the blobs that no row names, and finish shreddings that were interrupted.

        Args:
            older_than: only blobs at least this old; longer than the longest time between a blob's commit and the
                commit of the row that names it, and than the longest read of a blob that was forgotten.

        Returns:
            The names of the blobs that were deleted.
        """
        self._keys.finish_shredding()
        self._blobs.discard_unfinished(older_than)
        before = self._clock.now() - older_than
        swept: list[str] = []
        batch: list[BlobInfo] = []
        for info in self._blobs.list():
            if info.modified <= before:
                batch.append(info)
            if len(batch) == _SWEPT_AT_ONCE:
                swept += self._sweep(batch)
                batch = []
        swept += self._sweep(batch)
        self._db.checkpoint()
        return swept

    def seal_value(self, owner: Owner, purpose: str, plain: bytes, *, tx: Session | None = None) -> bytes:
        """Seal a small secret for a column.

        Args:
            owner: whose data key seals it.
            purpose: what it is, down to the row it stands in (``"totp:AIDA…"``): a secret that is moved to another
                row or column does not open.
            plain: the secret, in the memory of the process.
            tx: an open transaction, where the owner was made in it.
        """
        key = self._keys.active(owner, tx)
        return seal_bytes(plain, bytes.fromhex(key.id), key.key, _value_identity(owner, purpose))

    def open_value(self, owner: Owner, purpose: str, sealed: bytes, *, tx: Session | None = None) -> bytes:
        """Open what :meth:`seal_value` made for the same owner and purpose.

        Raises:
            BlobDamaged: it is damaged, or belongs to another owner or purpose.
        """
        name = f"{owner.id} {purpose}"
        key_id = data_key_id(sealed)
        if key_id is None:
            raise BlobDamaged(name, "it does not start like a sealed value")
        try:
            key = self._keys.opening(owner, key_id.hex(), tx)
        except DataKeyMissing as foreign:
            raise BlobDamaged(name, f"{key_id.hex()} is not a data key of its owner") from foreign
        return open_bytes(name, sealed, key_id, key.key, _value_identity(owner, purpose))

    def problems(self) -> list[str]:
        """Unwrap every data key; one sentence for each that does not open. For ``doctor``."""
        return self._keys.problems()

    def _sweep(self, batch: list[BlobInfo]) -> list[str]:
        """Delete those that no row names. The rows must be read after the blobs were listed."""
        identities = [info.name.rsplit("/", 1)[-1] for info in batch]
        with self._db.reading() as snapshot:
            named = {_blob(row).name for row in snapshot.scalars(select(BlobRow).where(BlobRow.id.in_(identities)))}
        unnamed = [info.name for info in batch if info.name not in named]
        for name in unnamed:
            self._blobs.delete(name)
        return unnamed


class VaultSink:
    """A blob being sealed, by one thread. Used in a ``with``, it is aborted unless it was committed."""

    def __init__(self, identity: str, kind: str, key: DataKey, sink: BlobSink) -> None:
        self._id, self._kind, self._key, self._sink = identity, kind, key, sink
        self._sealer = Sealer(sink.write, bytes.fromhex(key.id), key.key, _blob_identity(key.owner, kind, identity))

    @property
    def plain_bytes(self) -> int:
        """How much was written so far."""
        return self._sealer.plain_bytes

    def write(self, data: Bytes) -> None:
        """Append *data*.

        Raises:
            DiskFull: there is no room; nothing will remain.
        """
        try:
            self._sealer.write(data)
        except BaseException:
            self.abort()
            raise

    def commit(self) -> Blob:
        """Make the blob exist, durably. It must still be recorded.

        Raises:
            DiskFull: there is no room; nothing remains.
        """
        try:
            self._sealer.finish()
            self._sink.commit()
        except BaseException:
            self.abort()
            raise
        return Blob(
            id=self._id,
            owner=self._key.owner,
            kind=self._kind,
            data_key=self._key.id,
            sealed_bytes=self._sealer.sealed_bytes,
            plain_bytes=self._sealer.plain_bytes,
        )

    def abort(self) -> None:
        """Leave nothing behind; after a commit it does nothing."""
        self._sink.abort()

    def __enter__(self) -> "VaultSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


def _blob(row: BlobRow) -> Blob:
    return Blob(
        id=row.id,
        owner=Owner(AccountId(row.account), row.owner),
        kind=row.kind,
        data_key=row.data_key,
        sealed_bytes=row.sealed_bytes,
        plain_bytes=row.plain_bytes,
    )


def _blob_identity(owner: Owner, kind: str, identity: str) -> bytes:
    return associated_data("blob", owner.account, owner.id, kind, identity)


def _value_identity(owner: Owner, purpose: str) -> bytes:
    return associated_data("value", owner.account, owner.id, purpose)
