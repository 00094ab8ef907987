"""One stored pack: its entries, verbatim or inflated.

Stored packs are self-contained: the base of every delta is in the same pack. Most deltas name their base by distance;
a client that cannot do that has left deltas that name it by id, and these are stored as they came.

Source: gitformat-pack(5).
"""

import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gitserver.core.errors import Unavailable
from gitserver.git.objects import Kind, ObjectId
from gitserver.git.pack_format import (
    MAX_ENTRY_HEADER_BYTES,
    OFS_DELTA,
    REF_DELTA,
    PackDamaged,
    read_delta_sizes,
    read_entry_header,
    read_ofs_distance,
)
from gitserver.git.pack_index import PackIndex
from gitserver.git.pack_resolve import inflate_entry

_PIECE_BYTES = 1 << 18


class PackBlob(Protocol):
    """A pack with its index behind it: a sealed blob, or a spool."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """*length* bytes from *offset*; fewer only at the end."""
        ...

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from *start* up to *end*, in pieces of at most 256 KiB."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class StoredPackDamaged(Unavailable):
    """A stored pack does not hold what its index says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a pack. Offsets count from the pack's beginning."""

    offset: int
    data_start: int  # the first byte of the zlib stream
    end: int  # the first byte behind the entry
    type_number: int  # 1 to 4: a whole object; 6 or 7: a delta
    size: int  # inflated; of the delta itself for a delta
    base_offset: int | None  # of a delta's base, however the delta names it


class Pack:
    """A pack and its index, open for reading by any number of threads."""

    def __init__(self, pack_id: str, blob: PackBlob, size: int) -> None:
        self.id = pack_id
        self._blob = blob
        self.size = size  # bytes, trailer included; the index lies behind it in the same blob
        self.index = PackIndex(blob.read_at(size, blob.size - size))
        self.end = size - 20  # offset of the trailer

    @property
    def object_count(self) -> int:
        """How many objects the pack holds."""
        return self.index.count

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes of the pack."""
        return self._blob.read_at(offset, min(length, self.size - offset))

    def raw(self, start: int, end: int) -> bytes:
        """The pack's bytes from *start* up to *end*, for short ranges."""
        return self._blob.read_at(start, end - start)

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The pack's bytes from *start* up to *end*, in pieces of at most 256 KiB."""
        return self._blob.chunks(start, end)

    def entry(self, offset: int) -> Entry:
        """The entry that begins at *offset*.

        Raises:
            StoredPackDamaged: no entry can be read there.
        """
        head = self._blob.read_at(offset, min(MAX_ENTRY_HEADER_BYTES, self.end - offset))
        try:
            number, size, at = read_entry_header(head, 0)
            base: int | None = None
            if number == OFS_DELTA:
                distance, at = read_ofs_distance(head, at)
                base = offset - distance
            elif number == REF_DELTA:
                position = self.index.find(head[at : at + 20])
                if position is None:
                    raise StoredPackDamaged(f"pack {self.id}: the base of the delta at {offset} is not in the pack")
                base = self.index.offset(position)
                at += 20
        except PackDamaged as damage:
            raise StoredPackDamaged(f"pack {self.id}: {damage}") from damage
        return Entry(offset, offset + at, self.index.end_of(offset, self.end), number, size, base)

    def oid_at(self, offset: int) -> ObjectId:
        """The id of the object whose entry begins at *offset*."""
        return self.index.oid(self.index.position_at(offset))

    def offsets_in_order(self) -> "array[int]":
        """Every entry's offset, ascending."""
        return self.index.offsets_in_order

    def kind(self, position: int) -> Kind:
        """The kind of the object at an index position."""
        return self.index.kind(position)

    def object_size(self, position: int) -> int:
        """The inflated size of the object at an index position, in bytes."""
        size = self.index.size(position)
        if size is not None:
            return size
        entry = self.entry(self.index.offset(position))
        if entry.base_offset is None:
            return entry.size
        inflater = zlib.decompressobj()
        head = inflater.decompress(self._blob.read_at(entry.data_start, min(4096, entry.end - entry.data_start)), 20)
        return read_delta_sizes(head)[1]

    def inflate(self, entry: Entry) -> bytes:
        """An entry's object, or its delta, whole in memory.

        Raises:
            StoredPackDamaged: it cannot be inflated.
        """
        try:
            return inflate_entry(self.raw(entry.offset, entry.end))
        except PackDamaged as damage:
            raise StoredPackDamaged(f"pack {self.id}: {damage}") from damage

    def inflate_pieces(self, entry: Entry) -> Iterator[bytes]:
        """A whole object's bytes in pieces of at most 256 KiB.

        Raises:
            StoredPackDamaged: they cannot be inflated, or are of another length than the entry says.
        """
        inflater = zlib.decompressobj()
        total = 0
        for chunk in self.chunks(entry.data_start, entry.end):
            rest, more = chunk, True
            while more:
                try:
                    piece = inflater.decompress(rest, _PIECE_BYTES)
                except zlib.error as damage:
                    raise StoredPackDamaged(f"pack {self.id}: {damage}") from damage
                rest = inflater.unconsumed_tail
                more = not inflater.eof and (bool(rest) or len(piece) == _PIECE_BYTES)
                total += len(piece)
                yield piece
        if not inflater.eof or total != entry.size:
            raise StoredPackDamaged(f"pack {self.id}: the object at {entry.offset} is not as long as its header says")

    def close(self) -> None:
        """Let go of the blob."""
        self._blob.close()
