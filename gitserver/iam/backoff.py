"""Making somebody wait who keeps failing to prove who they are.

Two counts, each of failures that follow one another within the window:
- one for a *user name from one network*: after five failures that pair is refused unheard, for 1, 2, 4, … seconds;
- one for a *network*, whatever the names: after twenty, since an office stands behind one address. A name that lately
  signed in from there passes, so that one colleague's broken robot does not lock out the others.

There is deliberately no count for a user name over all networks: it would let any stranger lock a user out by
guessing. It would also gain nothing, as the passwords are 261 random bits. A weak second factor needs such a count,
and may have it, because it is asked for only after the first factor was right.

The counts are kept in memory, one set for each process: a row for each wrong guess would hand strangers the one
writer of an SQLite database. The price: n processes grant n times the guesses, and a restart forgets. Memory is
bounded; the oldest counts go first. An IPv6 network is a /64, since that is what one customer holds.
"""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from gitserver.core.addresses import network_of
from gitserver.core.clock import Clock
from gitserver.core.errors import TooMuch

Key = TypeVar("Key")
Value = TypeVar("Value")


class TooManyFailures(TooMuch):
    """Too many failures in a row; nothing was looked at this time."""

    code = "ThrottlingException"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many failed attempts to sign in; wait {retry_after_s} s and check the credential")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class BackOffLimits:
    """How many failures are forgiven, and how long the wait grows."""

    failures: int = 5  # for a user name from one network
    network_failures: int = 20  # for a network
    window: timedelta = timedelta(seconds=30)  # quiet for so long after the last failure or wait: forgiven
    longest: timedelta = timedelta(minutes=5)
    trusted: timedelta = timedelta(hours=12)  # how long a success lets a name pass the network's count
    tracked: int = 10_000  # names and networks remembered


class BackOff:
    """The counts, shared by all doors of a process. Safe to use from many threads."""

    def __init__(self, clock: Clock, limits: BackOffLimits | None = None) -> None:
        self._clock = clock
        self._limits = limits or BackOffLimits()
        self._lock = threading.Lock()
        self._pairs: OrderedDict[tuple[str, str], _Count] = OrderedDict()
        self._networks: OrderedDict[str, _Count] = OrderedDict()
        self._good: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    def check(self, user_name: str, address: str) -> None:
        """Go on, or refuse before anything is looked up.

        Raises:
            TooManyFailures: the name from there, or the whole network, has to wait.
        """
        network = network_of(address)
        now = self._clock.now()
        with self._lock:
            until = [count.until for count in [self._pairs.get((user_name, network))] if count]
            good = self._good.get((user_name, network))
            if good is None or now - good > self._limits.trusted:
                until += [count.until for count in [self._networks.get(network)] if count]
        wait = max((moment - now for moment in until), default=timedelta())
        if wait > timedelta():
            raise TooManyFailures(math.ceil(wait.total_seconds()))

    def failed(self, user_name: str, address: str) -> None:
        """Count a wrong credential."""
        network = network_of(address)
        now = self._clock.now()
        with self._lock:
            self._count(self._pairs, (user_name, network), self._limits.failures, now)
            self._count(self._networks, network, self._limits.network_failures, now)

    def succeeded(self, user_name: str, address: str) -> None:
        """Forget the failures of this name from there. The network's stay: they are about other names too."""
        pair = (user_name, network_of(address))
        with self._lock:
            self._pairs.pop(pair, None)
            _keep(self._good, pair, self._clock.now(), self._limits.tracked)

    def _count(self, counts: "OrderedDict[Key, _Count]", key: Key, forgiven: int, now: datetime) -> None:
        before = counts.get(key)
        quiet = before is None or now - before.until > self._limits.window
        failures = 1 if before is None or quiet else before.failures + 1
        wait = timedelta()
        if failures >= forgiven:
            doublings = min(failures - forgiven, 30)
            wait = min(timedelta(seconds=2**doublings), self._limits.longest)
        _keep(counts, key, _Count(failures, now + wait), self._limits.tracked)


@dataclass(frozen=True)
class _Count:
    failures: int
    until: datetime  # the end of the wait; the moment of the last failure where there is none


def _keep(memory: OrderedDict[Key, Value], key: Key, value: Value, limit: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > limit:
        memory.popitem(last=False)
