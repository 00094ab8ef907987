"""Who may prove who they are now, who waits, and who is turned away.

A connection is *waiting*, then *knocking* (the SSH handshake and the proof), then *inside*, then gone. Knocking is
what strangers can make this server work for, so few may do it at once, and few of one address; the others wait
without costing more than a file descriptor. A flood from one address therefore delays that address, not the others.
"""

import threading
import time
from collections import Counter
from typing import Protocol

from gitserver.core.addresses import network_of

PATIENCE_S = 5.0  # how long the greediest address may keep others waiting
WAITING_FACTOR = 5  # how many may wait for each that may knock


class Guest(Protocol):
    """A connection, as the gate sees it."""

    address: str

    def start(self) -> None:
        """Begin to knock."""
        ...

    def close(self) -> None:
        """Go away, now."""
        ...


class Gate:
    """Counts connections. Every method may be called from any thread; guests are called without the lock."""

    def __init__(self, *, inside: int, knocking: int, knocking_each: int, wait_s: float) -> None:
        """Set the limits.

        Args:
            inside: connections at once, knocking or inside.
            knocking: of them, those knocking.
            knocking_each: of those, from one address.
            wait_s: how long a guest may wait to knock.
        """
        self._inside_limit = inside
        self._limit = knocking
        self._limit_each = min(knocking_each, knocking)
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._waiting: dict[Guest, float] = {}  # and since when; in the order they came
        self._knocking: dict[Guest, float] = {}
        self._inside: set[Guest] = set()

    def arrive(self, guest: Guest) -> None:
        """A new connection: it knocks, waits, or is closed."""
        with self._lock:
            turned_away = self._place(guest)
        if turned_away is not None:
            turned_away.close()
        self._admit()

    def entered(self, guest: Guest) -> None:
        """*guest* proved who they are."""
        with self._lock:
            if self._knocking.pop(guest, None) is not None:
                self._inside.add(guest)
        self._admit()

    def left(self, guest: Guest) -> None:
        """*guest* is gone. May be told twice."""
        with self._lock:
            self._waiting.pop(guest, None)
            self._knocking.pop(guest, None)
            self._inside.discard(guest)
        self._admit()

    def tick(self) -> None:
        """Turn away who waited too long, and whoever keeps others waiting. Call it about once a second."""
        now = time.monotonic()
        with self._lock:
            late = [guest for guest, since in self._waiting.items() if now - since > self._wait_s]
            for guest in late:
                del self._waiting[guest]
            greedy = self._greedy(now)
        for guest in late:
            guest.close()
        if greedy is not None:
            greedy.close()  # it tells us when it has left

    def close(self) -> list[Guest]:
        """Turn away everybody who is not inside. Returns: those who were knocking."""
        with self._lock:
            waiting, knocking = list(self._waiting), list(self._knocking)
            self._waiting.clear()
            self._limit = 0
        for guest in (*waiting, *knocking):
            guest.close()
        return knocking

    def inside(self) -> list[Guest]:
        """Who is inside."""
        with self._lock:
            return list(self._inside)

    def _place(self, guest: Guest) -> Guest | None:
        """Put *guest* in the queue. Returns: who must go for it, perhaps itself."""
        waiting = Counter(network_of(other.address) for other in self._waiting)
        origin = network_of(guest.address)
        if waiting[origin] >= self._limit_each * WAITING_FACTOR:
            return guest
        self._waiting[guest] = time.monotonic()
        if len(self._waiting) <= self._limit * WAITING_FACTOR:
            return None
        waiting[origin] += 1
        greediest = max(waiting, key=waiting.__getitem__)
        oldest = next(other for other in self._waiting if network_of(other.address) == greediest)
        del self._waiting[oldest]
        return oldest

    def _admit(self) -> None:
        while (guest := self._next()) is not None:
            guest.start()

    def _next(self) -> Guest | None:
        with self._lock:
            if len(self._knocking) >= self._limit or len(self._knocking) + len(self._inside) >= self._inside_limit:
                return None
            counts = Counter(network_of(other.address) for other in self._knocking)
            for guest in self._waiting:
                if counts[network_of(guest.address)] < self._limit_each:
                    del self._waiting[guest]
                    self._knocking[guest] = time.monotonic()
                    return guest
            return None

    def _greedy(self, now: float) -> Guest | None:
        """The oldest knocking guest of the address that knocks most, if a modest address waits because of it."""
        if not self._waiting or len(self._knocking) < self._limit:
            return None
        counts = Counter(network_of(other.address) for other in self._knocking)
        origin, most = counts.most_common(1)[0]
        if most <= min(counts[network_of(guest.address)] for guest in self._waiting) + 1:
            return None
        oldest = next(guest for guest in self._knocking if network_of(guest.address) == origin)
        return oldest if now - self._knocking[oldest] > PATIENCE_S else None
