"""Data keys: what blobs and secrets are sealed with, one or a few for each owner.

A data key is made here, wrapped by its owner's key at the provider, and kept as a row. It is unwrapped when it
is needed and remembered for 60 seconds at most, so that a key that was disabled or destroyed soon stops opening
things everywhere.
"""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from gitserver.core.clock import Clock
from gitserver.core.errors import Unavailable
from gitserver.core.ids import AccountId
from gitserver.storage.database import Database
from gitserver.storage.keys import KEY_BYTES, KeyProvider
from gitserver.storage.sealed import KEY_ID_BYTES
from gitserver.storage.tables import ACTIVE, RETIRED, SHREDDED, DataKeyRow

REMEMBERED = timedelta(seconds=60)
"""The longest time for which an unwrapped data key is kept in memory."""

_MOST_REMEMBERED = 4096

Key = TypeVar("Key")
Value = TypeVar("Value")


class DataKeyMissing(Unavailable):
    """The owner has no such data key."""

    code = "EncryptionKeyNotFoundException"

    def __init__(self, owner: str, key: str = "") -> None:
        super().__init__(f"{owner} has no data key {key}".rstrip() + "; if it was not deleted, restore the database")
        self.owner, self.key = owner, key


@dataclass(frozen=True)
class Owner:
    """Whose keys seal something: a repository, or an account as a whole."""

    account: AccountId
    id: str  # a repository's id, or a name of its own for what belongs to the account

    @property
    def key_id(self) -> str:
        """The name of the owner's wrapping key at the provider."""
        return f"{self.account}.{self.id}"


@dataclass(frozen=True)
class DataKey:
    """An unwrapped data key. Its bytes must not leave the process."""

    id: str  # 32 hexadecimal digits
    owner: Owner
    key: bytes = field(repr=False)


class DataKeys:
    """Makes, finds, rotates and shreds data keys; safe to share between threads."""

    def __init__(self, database: Database, provider: KeyProvider, clock: Clock) -> None:
        self._db, self._provider, self._clock = database, provider, clock
        self._remembered: OrderedDict[str, tuple[DataKey, datetime]] = OrderedDict()
        self._active: OrderedDict[Owner, tuple[str, datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def create_owner(self, tx: Session, owner: Owner) -> None:
        """Make the owner's wrapping key at the provider and its first data key.

        If *tx* is rolled back the wrapping key is destroyed again. (If the process dies before that, a wrapping key
        that wrapped nothing stays at the provider.)

        Raises:
            KeyExists: the owner has a wrapping key.
        """
        self._provider.create(owner.key_id)
        self._db.after_rollback(tx, lambda: self._provider.destroy(owner.key_id))
        self._add(tx, owner)

    def rotate(self, tx: Session, owner: Owner) -> None:
        """Give the owner a new data key for what comes; what is sealed stays as it is, and opens."""
        owned = (DataKeyRow.account == owner.account, DataKeyRow.owner == owner.id)
        tx.execute(update(DataKeyRow).where(*owned, DataKeyRow.state == ACTIVE).values(state=RETIRED))
        self._add(tx, owner)
        self._db.after_commit(tx, lambda: self._forget(owner))

    def rewrap(self, tx: Session, owner: Owner) -> None:
        """Add a version to the owner's wrapping key and wrap its data keys with that; no blob changes."""
        self._provider.rotate(owner.key_id)
        rows = tx.scalars(select(DataKeyRow).where(DataKeyRow.account == owner.account, DataKeyRow.owner == owner.id))
        for row in rows:
            context = _context(owner, row.id)
            row.wrapped = self._provider.wrap(
                row.key_id, self._provider.unwrap(row.key_id, row.wrapped, context), context
            )

    def active(self, owner: Owner, tx: Session | None = None) -> DataKey:
        """The key that seals what is new.

        Args:
            owner: whose.
            tx: an open transaction, where the owner may have been made in it.

        Raises:
            DataKeyMissing: there is no such owner, or it was destroyed.
            KeyMissing, UnwrapRefused: the provider does not give the key.
        """
        if tx is not None:
            return self._unwrap(self._active_row(tx, owner), owner)
        with self._lock:
            known = self._active.get(owner)
        if known is not None and self._is_fresh(known[1]):
            return self.opening(owner, known[0])
        with self._db.reading() as snapshot:
            row = self._active_row(snapshot, owner)
        with self._lock:
            _remember(self._active, owner, (row.id, self._clock.now()))
        return self.opening(owner, row.id)

    def opening(self, owner: Owner, key: str, tx: Session | None = None) -> DataKey:
        """The owner's data key of that id, in whatever state.

        Raises:
            DataKeyMissing: the owner has none of that id.
            KeyMissing, UnwrapRefused: the provider does not give the key.
        """
        if tx is not None:
            return self._unwrap(self._row(tx, owner, key), owner)
        with self._lock:
            known = self._remembered.get(key)
        if known is not None and self._is_fresh(known[1]) and known[0].owner == owner:
            return known[0]
        with self._db.reading() as snapshot:
            row = self._row(snapshot, owner, key)
        taken = self._clock.now()
        unwrapped = self._unwrap(row, owner)
        with self._lock:
            _remember(self._remembered, key, (unwrapped, taken))
        return unwrapped

    def shred(self, tx: Session, owner: Owner) -> None:
        """Make whatever the owner's keys sealed unreadable, in every copy of the database there is.

        The rows are wiped in *tx*; the wrapping key is destroyed once *tx* is committed. If that fails, or the
        process dies in between, :meth:`finish_shredding` does it later.
        """
        owned = (DataKeyRow.account == owner.account, DataKeyRow.owner == owner.id)
        tx.execute(update(DataKeyRow).where(*owned).values(state=SHREDDED, wrapped=b""))
        self._db.after_commit(tx, lambda: self._destroy(owner))

    def finish_shredding(self) -> list[Owner]:
        """Destroy the keys of owners whose shredding was interrupted; the owners."""
        wanted = select(DataKeyRow.account, DataKeyRow.owner).where(DataKeyRow.state == SHREDDED).distinct()
        with self._db.reading() as snapshot:
            owners = [Owner(AccountId(account), name) for account, name in snapshot.execute(wanted)]
        for owner in owners:
            self._destroy(owner)
        return owners

    def problems(self) -> list[str]:
        """Unwrap every data key; one sentence for each that does not open."""
        with self._db.reading() as snapshot:
            rows = list(snapshot.scalars(select(DataKeyRow).where(DataKeyRow.state != SHREDDED)))
        found = []
        for row in rows:
            try:
                self._unwrap(row, Owner(AccountId(row.account), row.owner))
            except Unavailable as problem:
                found.append(str(problem))
        return found

    def _add(self, tx: Session, owner: Owner) -> None:
        key = secrets.token_hex(KEY_ID_BYTES)
        wrapped = self._provider.wrap(owner.key_id, secrets.token_bytes(KEY_BYTES), _context(owner, key))
        tx.add(
            DataKeyRow(
                id=key,
                account=owner.account,
                owner=owner.id,
                key_id=owner.key_id,
                wrapped=wrapped,
                created=self._clock.now(),
                state=ACTIVE,
            )
        )
        tx.flush()

    def _active_row(self, tx: Session, owner: Owner) -> DataKeyRow:
        row = tx.scalar(
            select(DataKeyRow)
            .where(DataKeyRow.account == owner.account, DataKeyRow.owner == owner.id, DataKeyRow.state == ACTIVE)
            .order_by(DataKeyRow.created.desc(), DataKeyRow.id)
            .limit(1)
        )
        if row is None:
            raise DataKeyMissing(owner.key_id)
        return row

    def _row(self, tx: Session, owner: Owner, key: str) -> DataKeyRow:
        row = tx.get(DataKeyRow, key)
        if row is None or (row.account, row.owner) != (owner.account, owner.id) or row.state == SHREDDED:
            raise DataKeyMissing(owner.key_id, key)
        return row

    def _unwrap(self, row: DataKeyRow, owner: Owner) -> DataKey:
        # The row's own key_id is for people; what is asked of the provider is what the owner must have.
        return DataKey(row.id, owner, self._provider.unwrap(owner.key_id, row.wrapped, _context(owner, row.id)))

    def _is_fresh(self, taken: datetime) -> bool:
        return timedelta(0) <= self._clock.now() - taken < REMEMBERED

    def _forget(self, owner: Owner) -> None:
        with self._lock:
            self._active.pop(owner, None)
            for key in [key for key, (known, _) in self._remembered.items() if known.owner == owner]:
                del self._remembered[key]

    def _destroy(self, owner: Owner) -> None:
        self._forget(owner)
        self._provider.destroy(owner.key_id)
        with self._db.transaction() as tx:
            tx.execute(
                delete(DataKeyRow).where(
                    DataKeyRow.account == owner.account, DataKeyRow.owner == owner.id, DataKeyRow.state == SHREDDED
                )
            )
        self._db.checkpoint()


def _context(owner: Owner, key: str) -> dict[str, str]:
    """What a wrapped data key is bound to. CodeCommit binds the repository's id in the same way."""
    return {"aws:codecommit:id": owner.id, "gitserver:account": owner.account, "gitserver:data-key": key}


def _remember(kept: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _MOST_REMEMBERED:
        kept.popitem(last=False)
