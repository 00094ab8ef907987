"""The one thread that commits journal entries in groups.

Invariants:
- The thread starts with the first entry, never earlier, so that a process may fork until then. A fork afterwards
  has no writer thread and must make a journal of its own.
- An entry leaves the queue only after the transaction that holds it has committed.
- A full queue *must* slow the caller down (it writes its entry itself), never drop the entry.
- ``close`` returns after everything queued is committed, or is in the log because the database would not take it.

A crash (not a close) loses what is queued: the reads and denials of the last few milliseconds. What changes
something is written in the changing transaction and never passes through here.
"""

import itertools
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from gitserver.core.errors import Unavailable

QUEUE = 10_000  # entries that may wait
BATCH = 256  # entries a transaction
TICK_S = 5.0  # how often overdue counts are looked for
RETRY_S = 0.5  # between attempts while the database refuses
LAST_ATTEMPTS = 5  # after close

Values = dict[str, Any]  # one row

_log = logging.getLogger(__name__)


class GroupWriter:
    """Takes rows from any thread; commits as many as have gathered since its last commit."""

    def __init__(
        self, write: Callable[[Sequence[Values]], None], overdue: Callable[[], list[Values]], queue: int = QUEUE
    ) -> None:
        """Make a writer; nothing starts yet.

        Args:
            write: commits rows in one transaction; raises when it could not.
            overdue: rows that time has made due; asked every few seconds.
            queue: how many rows may wait.
        """
        self._write = write
        self._overdue = overdue
        self._limit = queue
        self._waiting: deque[Values] = deque()
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, row: Values) -> None:
        """Queue *row*; with a full queue, or after ``close``, write it before returning.

        Raises:
            Exception: the row was written here, and the database refused it.
        """
        with self._ready:
            if not self._closed and len(self._waiting) < self._limit:
                self._waiting.append(row)
                self._start()
                self._ready.notify()
                return
        self._write([row])

    def close(self) -> None:
        """Write what waits and stop the thread. May be called twice."""
        with self._ready:
            self._closed = True
            if self._waiting:
                self._start()
            thread = self._thread
            self._ready.notify()
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        attempts_left = LAST_ATTEMPTS
        while batch := self._next():
            committed = self._commit(batch)
            self._drop(committed)
            if committed:
                continue
            with self._ready:
                attempts_left -= self._closed
                if attempts_left <= 0:
                    _give_up(list(self._waiting))
                    self._waiting.clear()
                self._ready.wait(RETRY_S)

    def _next(self) -> list[Values]:
        """The oldest rows, still queued; empty when closed and done."""
        while True:
            with self._ready:
                if not self._waiting and not self._closed:
                    self._ready.wait(TICK_S)
                if self._waiting or self._closed:
                    return list(itertools.islice(self._waiting, BATCH))
            rows = self._overdue()
            with self._ready:
                self._waiting.extend(rows)

    def _drop(self, count: int) -> None:
        with self._ready:
            for _ in range(count):
                self._waiting.popleft()

    def _commit(self, batch: list[Values]) -> int:
        """How many rows of *batch* are dealt with, from the front; the others are to be tried again later."""
        try:
            self._write(batch)
        except (OperationalError, InterfaceError, Unavailable) as refused:
            _log.warning("the journal could not be written and waits: %s", type(refused).__name__)
            return 0
        except SQLAlchemyError:
            if len(batch) > 1:  # one of them spoils the others
                return len(list(itertools.takewhile(bool, (self._commit([row]) for row in batch))))
            _log.exception("the database refused a journal entry for good")
            _give_up(batch)
        return len(batch)


def _give_up(rows: list[Values]) -> None:
    for row in rows:
        _log.error("journal entry not written: %s", json.dumps(row, default=str))
