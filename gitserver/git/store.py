"""The objects of one repository, as they stood when it was opened.

Many small packs are looked up together, then the few large ones one by one; an object that is in several packs is
always found in the same one. Bases of deltas are kept in a
small cache, so that reading along a chain, or many objects near each other, does not begin anew each time.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from threading import Lock

from gitserver.git.objects import Kind, ObjectId, ObjectMissing
from gitserver.git.pack_resolve import patched
from gitserver.git.packs import Entry, Pack

_BASE_CACHE_BYTES = 24 << 20
_WHOLE_BYTES = 1 << 20
_SMALL_PACK_OBJECTS = 256


class ObjectStore:
    """An immutable snapshot of a repository's packs."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self.packs = packs
        self._bases = _BaseCache(_BASE_CACHE_BYTES)
        self._small = [pack for pack in packs if pack.object_count <= _SMALL_PACK_OBJECTS]
        self._large = [pack for pack in packs if pack.object_count > _SMALL_PACK_OBJECTS]

    def __contains__(self, oid: ObjectId) -> bool:
        return self._find(oid) is not None

    def __len__(self) -> int:
        """How many objects the packs hold; one in several packs counts several times."""
        return sum(pack.object_count for pack in self.packs)

    def kind(self, oid: ObjectId) -> Kind:
        """The object's kind.

        Raises:
            ObjectMissing: there is no such object.
        """
        pack, position = self._require(oid)
        return pack.kind(position)

    def size(self, oid: ObjectId) -> int:
        """The object's inflated size in bytes, without inflating it.

        Raises:
            ObjectMissing: there is no such object.
        """
        pack, position = self._require(oid)
        return pack.object_size(position)

    def locate(self, oid: ObjectId) -> tuple[Pack, int] | None:
        """The pack that holds the object, and the offset of its entry there."""
        found = self._find(oid)
        return None if found is None else (found[0], found[0].index.offset(found[1]))

    def read(self, oid: ObjectId) -> tuple[Kind, bytes]:
        """The whole object, in memory.

        Raises:
            ObjectMissing: there is no such object.
            StoredPackDamaged: it cannot be read.
        """
        pack, position = self._require(oid)
        return pack.kind(position), self._read_at(pack, pack.index.offset(position))

    def stream(self, oid: ObjectId) -> tuple[Kind, int, Iterator[bytes]]:
        """The object's kind, its size in bytes, and its bytes in pieces; a whole blob never lies in memory.

        Only an object that is stored as a delta does: those are capped when they are received.

        Raises:
            ObjectMissing: there is no such object.
            StoredPackDamaged: it cannot be read.
        """
        pack, position = self._require(oid)
        kind, entry = pack.kind(position), pack.entry(pack.index.offset(position))
        if entry.base_offset is None and entry.size > _WHOLE_BYTES:
            return kind, entry.size, pack.inflate_pieces(entry)
        data = self._read_at(pack, entry.offset)
        return kind, len(data), iter((data,))

    def oids(self) -> Iterator[ObjectId]:
        """The id of every object, each once for each pack it is in."""
        for pack in self.packs:
            yield from pack.index.oids()

    def _require(self, oid: ObjectId) -> tuple[Pack, int]:
        found = self._find(oid)
        if found is None:
            raise ObjectMissing(oid)
        return found

    def _find(self, oid: ObjectId) -> tuple[Pack, int] | None:
        found = self._in_small.get(oid)
        if found is not None:
            return found
        for pack in self._large:
            position = pack.index.find(oid)
            if position is not None:
                return pack, position
        return None

    @cached_property
    def _in_small(self) -> dict[ObjectId, tuple[Pack, int]]:
        places: dict[ObjectId, tuple[Pack, int]] = {}
        for pack in reversed(self._small):
            for position, oid in enumerate(pack.index.oids()):
                places[oid] = pack, position
        return places

    def _read_at(self, pack: Pack, offset: int) -> bytes:
        chain: list[Entry] = []
        data = None
        at: int | None = offset
        while at is not None and (data := self._bases.get(pack.id, at)) is None:
            chain.append(pack.entry(at))
            at = chain[-1].base_offset
        if data is None:
            whole = chain.pop()
            data = pack.inflate(whole)
            if chain:
                self._bases.put(pack.id, whole.offset, data)
        while chain:
            entry = chain.pop()
            data = patched(data, pack.inflate(entry))
            if chain:
                self._bases.put(pack.id, entry.offset, data)
        return data


class _BaseCache:
    """Recently used bases, the least recently used given up first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held = limit_bytes, 0
        self._entries: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, pack_id: str, offset: int) -> bytes | None:
        with self._lock:
            data = self._entries.get((pack_id, offset))
            if data is not None:
                self._entries.move_to_end((pack_id, offset))
            return data

    def put(self, pack_id: str, offset: int, data: bytes) -> None:
        if len(data) > self._limit // 4:
            return
        with self._lock:
            old = self._entries.pop((pack_id, offset), None)
            self._held += len(data) - len(old or b"")
            self._entries[(pack_id, offset)] = data
            while self._held > self._limit:
                _, dropped = self._entries.popitem(last=False)
                self._held -= len(dropped)
