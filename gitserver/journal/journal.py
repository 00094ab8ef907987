"""Where services write what happened.

Three roads lead in. ``write`` goes into the transaction of the change it tells of: both are committed, or neither.
``record`` is for what changes nothing, reads and denials: it returns once the entry is queued, and one thread commits
what has gathered (writer.py says what a crash may lose). ``failed_authentication`` only counts (failures.py).
"""

import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, or_, select
from sqlalchemy.orm import Session

from gitserver.core.caller import Caller
from gitserver.core.clock import Clock
from gitserver.core.ids import AccountId, RepositoryId
from gitserver.journal.entry import Entry
from gitserver.journal.event import Event, detail
from gitserver.journal.failures import FailureCount, FailureTally
from gitserver.journal.tables import JournalRow
from gitserver.journal.writer import GroupWriter, Values
from gitserver.storage.database import Database

PAGE = 500  # rows read in one transaction
LONGEST_TEXT = 2048  # characters of an address or a resource


class Journal:
    """Write once, read by auditors and by events. Safe to use from many threads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self._tally = FailureTally()
        self._tally_lock = threading.Lock()
        self._writer = GroupWriter(self._insert, self._overdue)

    def write(
        self,
        tx: Session,
        caller: Caller,
        event: Event,
        *,
        repository: RepositoryId | None = None,
        sequence: int | None = None,
    ) -> None:
        """Add *event* to the caller's own transaction *tx*.

        Args:
            tx: the transaction that makes the change.
            caller: who did it.
            event: what they did.
            repository: the repository it is about, where there is one.
            sequence: the event's place in that repository's order.
        """
        tx.add(JournalRow(**self._values(caller, event, repository, sequence)))

    def record(
        self,
        caller: Caller,
        event: Event,
        *,
        repository: RepositoryId | None = None,
        sequence: int | None = None,
    ) -> None:
        """Queue *event*, a read or a denial, and return.

        Never call it with a transaction open: a full queue makes the caller write the entry itself, and on SQLite it
        would wait for its own transaction.
        """
        self._writer.put(self._values(caller, event, repository, sequence))

    def failed_authentication(self, address: str, method: str, claimed: str) -> None:
        """Count a failure to prove who one is: one row a minute for each address, the first one at once.

        Args:
            address: where the stranger came from.
            method: how they tried: ``ssh-key``, ``git-credential``, ``password``.
            claimed: the user name they gave; kept only where it has the form of a name this server gives out.
        """
        with self._tally_lock:
            counts = self._tally.note(address, method, claimed, self._clock.now())
        for count in counts:
            self._writer.put(_count_values(count))

    def entries(
        self,
        *,
        account: AccountId | None = None,
        principal: str | None = None,
        event: str | None = None,
        repository: RepositoryId | None = None,
        since: datetime | None = None,
        after: int | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """The entries that fit, oldest first, read in pages so that no transaction stays open.

        Args:
            account: only this account's.
            principal: only this principal's: an ARN or a unique id (``AIDA…``).
            event: only events of this name.
            repository: only about this repository.
            since: only at or after this moment.
            after: only entries with a greater id, to go on where an earlier reading ended.
            newest_first: the other way round.
            limit: at most so many.
        """
        query = select(JournalRow)
        if account is not None:
            query = query.where(JournalRow.account == account)
        if principal is not None:
            query = query.where(or_(JournalRow.principal == principal, JournalRow.principal_id == principal))
        if event is not None:
            query = query.where(JournalRow.event == event)
        if repository is not None:
            query = query.where(JournalRow.repository_id == repository)
        if since is not None:
            query = query.where(JournalRow.at >= since)
        if after is not None:
            query = query.where(JournalRow.id > after)
        query = query.order_by(JournalRow.id.desc() if newest_first else JournalRow.id)
        left = limit
        seen: int | None = None
        while left is None or left > 0:
            page = query.limit(PAGE if left is None else min(PAGE, left))
            if seen is not None:
                page = page.where(JournalRow.id < seen if newest_first else JournalRow.id > seen)
            with self._db.reading() as tx:
                found = [row.view() for row in tx.scalars(page)]
            if not found:
                return
            yield from found
            seen = found[-1].id
            left = None if left is None else left - len(found)

    def close(self) -> None:
        """Write everything that is queued or counted, and stop. May be called twice."""
        with self._tally_lock:
            counts = self._tally.drain()
        for count in counts:
            self._writer.put(_count_values(count))
        self._writer.close()

    def _values(self, caller: Caller, event: Event, repository: RepositoryId | None, sequence: int | None) -> Values:
        return _row(
            at=self._clock.now(),
            event=event.name,
            account=caller.account,
            principal=str(caller.principal),
            principal_id=caller.principal_id,
            method=caller.proof.method,
            credential_id=caller.proof.credential_id,
            mfa=caller.proof.mfa,
            address=_storable(caller.address),
            request_id=caller.request_id,
            resource=_storable(str(event.resource)),
            repository_id=repository,
            sequence=sequence,
            detail=detail(event),
        )

    def _insert(self, rows: Sequence[Values]) -> None:
        with self._db.transaction() as tx:
            tx.execute(insert(JournalRow), list(rows))

    def _overdue(self) -> list[Values]:
        with self._tally_lock:
            counts = self._tally.due(self._clock.now())
        return [_count_values(count) for count in counts]


def _row(**values: Any) -> Values:
    nothing = dict.fromkeys(column.key for column in JournalRow.__table__.columns if column.key != "id")
    return {**nothing, **values}


def _storable(text: str) -> str:
    """*text* as every database takes it: no NUL, no lone surrogates, not endless."""
    return text[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _count_values(count: FailureCount) -> Values:
    return _row(at=count.last, event=count.name, address=_storable(count.address), detail=detail(count))
