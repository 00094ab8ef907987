"""Open packs, shared by everybody in this process who reads them.

Packs never change, so one that was opened stays good for as long as it is remembered. A pack that somebody reads is
never closed; one that nobody reads is closed when too many are open, the longest unused first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock

from gitserver.git.packs import Pack
from gitserver.storage.vault import Blob, Vault

_OPEN_PACKS = 128
_CACHED_SEGMENTS = 8  # of 64 KiB, for each open pack
_INDEX_BYTES = 64 << 20


@dataclass(frozen=True)
class PackRecord:
    """What the catalogue says of one pack."""

    id: str
    pack_bytes: int
    blob: Blob


class PackShelf:
    """Opens packs, and keeps those that are likely to be read again."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._idle: OrderedDict[str, Pack] = OrderedDict()
        self._borrowed: dict[str, tuple[Pack, int]] = {}
        self._lock = Lock()

    def take(self, records: Iterable[PackRecord]) -> Sequence[Pack]:
        """Open packs; each must be given back.

        Raises:
            BlobDamaged: one of them does not open.
        """
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
        surplus: list[Pack] = []
        with self._lock:
            for pack in packs:
                held, readers = self._borrowed[pack.id]
                if held is not pack:
                    raise RuntimeError(f"pack {pack.id} was not taken from here")
                if readers > 1:
                    self._borrowed[pack.id] = (pack, readers - 1)
                else:
                    del self._borrowed[pack.id]
                    self._idle[pack.id] = pack
            held_bytes = sum(pack.index.memory_bytes for pack in self._idle.values())
            while self._idle and (len(self._idle) > _OPEN_PACKS or held_bytes > _INDEX_BYTES):
                _, dropped = self._idle.popitem(last=False)
                held_bytes -= dropped.index.memory_bytes
                surplus.append(dropped)
        for pack in surplus:
            pack.close()

    def close(self) -> None:
        """Close what nobody reads."""
        with self._lock:
            idle = list(self._idle.values())
            self._idle.clear()
        for pack in idle:
            pack.close()

    def _lend(self, pack_id: str) -> Pack | None:
        with self._lock:
            if pack_id in self._borrowed:
                pack, readers = self._borrowed[pack_id]
            elif pack_id in self._idle:
                pack, readers = self._idle.pop(pack_id), 0
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
