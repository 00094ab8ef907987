"""Failed authentications, counted so that a stranger cannot fill the journal.

Invariants:
- The first failure of an address *must* be told at once; those that follow within a minute are told as one count.
- Memory *must* be bounded: addresses beyond the limit are counted together, as ``others``.
- A claimed user name is kept only where it has the form of a name this server gives out: people type passwords
  into the wrong field.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from gitserver.core.addresses import network_of

WINDOW = timedelta(minutes=1)
ADDRESSES = 1024  # tracked at once
CLAIMS = 5  # distinct names kept for each address and minute
OTHERS = "others"

_ISSUED_NAME = re.compile(r"git|A[A-Z]{3}[A-Z2-7]{16}|[A-Za-z0-9_+=,.@-]{1,80}-at-[0-9]{12}")
_METHODS = 4
_TIDY_EVERY = timedelta(seconds=1)


@dataclass(frozen=True)
class FailureCount:
    """How often somebody at *address* failed to prove who they are, between *first* and *last*."""

    name: ClassVar[str] = "AuthenticationFailed"
    address: str
    count: int
    first: datetime
    last: datetime
    methods: tuple[str, ...]
    claimed: tuple[str, ...]


class FailureTally:
    """The counts of the present minute. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}
        self._tidy_at = datetime.min.replace(tzinfo=UTC)

    def note(self, address: str, method: str, claimed: str, now: datetime) -> list[FailureCount]:
        """Count one failure; what is returned is to be written now."""
        key = network_of(address)
        told: list[FailureCount] = []
        if key not in self._windows and len(self._windows) >= ADDRESSES:
            if now >= self._tidy_at:
                self._tidy_at = now + _TIDY_EVERY
                told = self.due(now)
            if len(self._windows) >= ADDRESSES:
                key = OTHERS
        window = self._windows.get(key)
        if window is None:
            first = _Window(now)
            first.add(method, claimed, now)
            self._windows[key] = _Window(now)
            return [*told, first.count_for(key)]
        window.add(method, claimed, now)
        if now - window.opened >= WINDOW:
            self._windows[key] = _Window(now)
            told.append(window.count_for(key))
        return told

    def due(self, now: datetime) -> list[FailureCount]:
        """The counts whose minute is over; they are forgotten here."""
        over = [key for key, window in self._windows.items() if now - window.opened >= WINDOW]
        return self._take(over)

    def drain(self) -> list[FailureCount]:
        """Every count, however young; the tally is empty afterwards."""
        return self._take(list(self._windows))

    def _take(self, keys: list[str]) -> list[FailureCount]:
        taken = [(key, self._windows.pop(key)) for key in keys]
        return [window.count_for(key) for key, window in taken if window.count]


@dataclass
class _Window:
    opened: datetime
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    methods: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)

    def add(self, method: str, claimed: str, now: datetime) -> None:
        self.count += 1
        self.first = self.first or now
        self.last = now
        if method not in self.methods and len(self.methods) < _METHODS:
            self.methods.append(method)
        if len(self.claimed) < CLAIMS:
            name = claimed if _ISSUED_NAME.fullmatch(claimed) else "(not a name of ours)"
            if name not in self.claimed:
                self.claimed.append(name)

    def count_for(self, address: str) -> FailureCount:
        return FailureCount(
            address=address,
            count=self.count,
            first=self.first or self.opened,
            last=self.last or self.opened,
            methods=tuple(self.methods),
            claimed=tuple(self.claimed),
        )
