"""A pack's index: from object id to offset, kind and size.

The first part is Git's own ``.idx`` version 2, byte for byte. Behind its trailer, in the same order of ids, come one
byte of kind and four bytes of inflated size for each object (all ones: larger than that, see the pack).

Source: gitformat-pack(5), "Version 2 pack-*.idx files".
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import sha1
from itertools import accumulate

from gitserver.core.errors import Unavailable
from gitserver.git.objects import OID_BYTES, Kind, ObjectId
from gitserver.git.pack_format import PackDamaged

_MAGIC = b"\xfftOc\0\0\0\2"
_FAN_BYTES = 256 * 4
_NAMES_AT = len(_MAGIC) + _FAN_BYTES
_LARGE_OFFSET = 1 << 31
_UNSIZED = 0xFFFFFFFF


class IndexDamaged(Unavailable):
    """A stored index contradicts itself."""


def build_index(rows: Iterable[tuple[bytes, int, int, int, int]], checksum: bytes) -> bytes:
    """Write an index.

    Args:
        rows: for each object its id, offset, crc32 of the packed entry, kind, inflated size.
        checksum: the pack's trailer.

    Raises:
        PackDamaged: the same object stands twice in the pack.
    """
    names: list[bytes] = []  # each with its row's number behind it: what is sorted holds little memory
    offsets, crcs, kinds, sizes = array("Q"), array("I"), bytearray(), array("I")
    for number, (oid, offset, crc, kind, size) in enumerate(rows):
        names.append(oid + number.to_bytes(4, "big"))
        offsets.append(offset)
        crcs.append(crc)
        kinds.append(kind)
        sizes.append(min(size, _UNSIZED))
    names.sort()
    counts = [0] * 256
    before = b""
    for name in names:
        counts[name[0]] += 1
        if name.startswith(before) and before:
            raise PackDamaged(f"the same object {before.hex()} appears twice in the pack")
        before = name[:OID_BYTES]
    order = array("I", (int.from_bytes(name[OID_BYTES:], "big") for name in names))
    short, large = _offset_columns(offsets[number] for number in order)
    body = b"".join(
        (
            _MAGIC,
            _big_endian(array("I", accumulate(counts))),
            b"".join(name[:OID_BYTES] for name in names),
            _big_endian(array("I", (crcs[number] for number in order))),
            _big_endian(short),
            _big_endian(large),
            checksum,
        )
    )
    trailer = sha1(body, usedforsecurity=False).digest()
    sorted_sizes = _big_endian(array("I", (sizes[number] for number in order)))
    return b"".join((body, trailer, bytes(kinds[number] for number in order), sorted_sizes))


def _offset_columns(offsets: Iterable[int]) -> tuple["array[int]", "array[int]"]:
    """The column of offsets, and the one of those that do not fit it."""
    short, large = array("I"), array("Q")
    for offset in offsets:
        if offset < _LARGE_OFFSET:
            short.append(offset)
        else:
            short.append(_LARGE_OFFSET | len(large))
            large.append(offset)
    return short, large


class PackIndex:
    """An index in memory. Positions count objects in the order of their ids."""

    def __init__(self, data: bytes) -> None:
        if data[:8] != _MAGIC or len(data) < _NAMES_AT:
            raise IndexDamaged("a pack's index does not begin as an index does")
        self._data = data
        self._fan: tuple[int, ...] = (0, *struct.unpack_from(">256L", data, len(_MAGIC)))
        self.count = self._fan[256]
        n = self.count
        self._large_at = _NAMES_AT + n * (OID_BYTES + 8)
        crcs_at = _NAMES_AT + n * OID_BYTES
        self._crcs = _native("I", data[crcs_at : crcs_at + 4 * n])
        self._offsets = _native("I", data[crcs_at + 4 * n : crcs_at + 8 * n])
        self._large = _native("Q", data[self._large_at : self._large_at + 8 * self._large_count()])
        self._idx_end = self._large_at + 8 * len(self._large) + 2 * OID_BYTES
        self._kinds = data[self._idx_end : self._idx_end + n]
        self._sizes = _native("I", data[self._idx_end + n :])
        if len(self._kinds) != n or len(self._sizes) != n:
            raise IndexDamaged("a pack's index is shorter or longer than it should be")

    @property
    def memory_bytes(self) -> int:
        """About how much memory the index takes."""
        return len(self._data) + 24 * self.count

    @property
    def idx(self) -> bytes:
        """The part that is Git's own ``.idx``."""
        return self._data[: self._idx_end]

    @property
    def checksum(self) -> bytes:
        """The trailer of the pack that this index belongs to."""
        return self._data[self._idx_end - 2 * OID_BYTES : self._idx_end - OID_BYTES]

    def find(self, oid: bytes) -> int | None:
        """The object's position, or None."""
        low, high = self._fan[oid[0]], self._fan[oid[0] + 1]
        data = self._data
        while low < high:
            middle = (low + high) >> 1
            at = _NAMES_AT + middle * OID_BYTES
            name = data[at : at + OID_BYTES]
            if name == oid:
                return middle
            if name < oid:
                low = middle + 1
            else:
                high = middle
        return None

    def oid(self, position: int) -> ObjectId:
        """The id at a position."""
        at = _NAMES_AT + position * OID_BYTES
        return ObjectId(self._data[at : at + OID_BYTES])

    def oids(self) -> Iterator[ObjectId]:
        """Every id, in order."""
        return (self.oid(position) for position in range(self.count))

    def offset(self, position: int) -> int:
        """Where in the pack the object's entry begins."""
        offset = self._offsets[position]
        return self._large[offset ^ _LARGE_OFFSET] if offset & _LARGE_OFFSET else offset

    def crc(self, position: int) -> int:
        """The CRC-32 of the object's packed entry."""
        return self._crcs[position]

    def kind(self, position: int) -> Kind:
        """The object's kind, deltas resolved."""
        return Kind(self._kinds[position])

    def size(self, position: int) -> int | None:
        """The object's inflated size in bytes, deltas resolved; None where it does not fit four bytes."""
        size = self._sizes[position]
        return None if size == _UNSIZED else size

    @cached_property
    def offsets_in_order(self) -> "array[int]":
        """Every entry's offset, ascending."""
        if not self._large:
            return array("Q", sorted(self._offsets))
        return array("Q", sorted(self.offset(position) for position in range(self.count)))

    @cached_property
    def positions_in_order(self) -> "array[int]":
        """Every object's position, by ascending offset."""
        return array("I", sorted(range(self.count), key=self.offset))

    def position_at(self, offset: int) -> int:
        """The position of the object whose entry begins at *offset*.

        Raises:
            IndexDamaged: no entry begins there.
        """
        order = self.offsets_in_order
        number = bisect_left(order, offset)
        if number == len(order) or order[number] != offset:
            raise IndexDamaged(f"no entry of the pack begins at offset {offset}")
        return self.positions_in_order[number]

    def end_of(self, offset: int, pack_end: int) -> int:
        """The first byte behind the entry at *offset*; *pack_end* is the offset of the pack's trailer."""
        order = self.offsets_in_order
        number = bisect_right(order, offset)
        return order[number] if number < len(order) else pack_end

    def _large_count(self) -> int:
        return sum(1 for offset in self._offsets if offset & _LARGE_OFFSET) if self.count else 0


def _big_endian(values: "array[int]") -> bytes:
    if sys.byteorder == "little":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _native(code: str, data: bytes) -> "array[int]":
    values = array(code)
    if len(data) % values.itemsize:
        raise IndexDamaged("a pack's index is shorter or longer than it should be")
    values.frombytes(data)
    if sys.byteorder == "little":
        values.byteswap()
    return values
