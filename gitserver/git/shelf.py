"""Open packs, shared by everybody in this process who reads them.

Packs never change, so one that was opened stays good for as long as it is remembered. A pack that somebody reads is
never closed; one that nobody reads is closed when too many are open, the longest unused first, and, when any other is
taken or given back, once it was idle for a while: an open file of a deleted repository still takes room on the disk,
and an open pack still has its key.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from gitserver.git.packs import Pack
from gitserver.storage.vault import Blob, Vault

_OPEN_PACKS = 128
_CACHED_SEGMENTS = 8  # of 64 KiB, for each open pack
_INDEX_BYTES = 64 << 20
_IDLE_S = 60


@dataclass(frozen=True)
class PackRecord:
    """What the catalogue says of one pack."""

    id: str
    pack_bytes: int
    blob: Blob


class PackShelf:
    """Opens packs, and keeps those that are likely to be read again."""

    def __init__(self, vault: Vault, now: Callable[[], float] = monotonic) -> None:
        self._vault, self._now = vault, now
        self._idle: OrderedDict[str, tuple[Pack, float]] = OrderedDict()  # and since when, the longest idle first
        self._borrowed: dict[str, tuple[Pack, int]] = {}
        self._lock = Lock()

    def take(self, records: Iterable[PackRecord]) -> Sequence[Pack]:
        """Open packs; each must be given back.

        Raises:
            BlobDamaged: one of them does not open.
        """
        self._close_surplus()
        taken: list[Pack] = []
        try:
            for record in records:  # one by one: what was taken must be given back
                taken.append(self._lend(record.id) or self._open(record))  # noqa: PERF401
        except BaseException:
            self.give_back(taken)
            raise
        return taken

    def give_back(self, packs: Iterable[Pack]) -> None:
        """Say that packs are not read any more by whoever took them."""
        with self._lock:
            for pack in packs:
                held, readers = self._borrowed[pack.id]
                if held is not pack:
                    raise RuntimeError(f"pack {pack.id} was not taken from here")
                if readers > 1:
                    self._borrowed[pack.id] = (pack, readers - 1)
                else:
                    del self._borrowed[pack.id]
                    self._idle[pack.id] = (pack, self._now())
        self._close_surplus()

    def close(self) -> None:
        """Close what nobody reads."""
        with self._lock:
            idle = list(self._idle.values())
            self._idle.clear()
        for pack, _ in idle:
            pack.close()

    def _close_surplus(self) -> None:
        surplus: list[Pack] = []
        before = self._now() - _IDLE_S
        with self._lock:
            held_bytes = sum(pack.index.memory_bytes for pack, _ in self._idle.values())
            while self._idle:
                pack, since = next(iter(self._idle.values()))
                if len(self._idle) <= _OPEN_PACKS and held_bytes <= _INDEX_BYTES and since > before:
                    break
                del self._idle[pack.id]
                held_bytes -= pack.index.memory_bytes
                surplus.append(pack)
        for pack in surplus:
            pack.close()

    def _lend(self, pack_id: str) -> Pack | None:
        with self._lock:
            if pack_id in self._borrowed:
                pack, readers = self._borrowed[pack_id]
            elif pack_id in self._idle:
                (pack, _), readers = self._idle.pop(pack_id), 0
            else:
                return None
            self._borrowed[pack_id] = (pack, readers + 1)
            return pack

    def _open(self, record: PackRecord) -> Pack:
        reader = self._vault.open(record.blob, cached_segments=_CACHED_SEGMENTS)
        try:
            pack = Pack(record.id, reader, record.pack_bytes)
        except BaseException:
            reader.close()
            raise
        with self._lock:
            if record.id not in self._borrowed and record.id not in self._idle:
                self._borrowed[record.id] = (pack, 1)
                return pack
        pack.close()  # somebody else was faster
        return self._lend(record.id) or self._open(record)
