"""One pass over a pack as it arrives: where its entries lie, and the ids of those that are not deltas.

The scanner *must* hold no more than a few hundred kilobytes plus one object below ``_WHOLE_BYTES``, whatever the
pack says of itself; every cap is asked before the memory is taken.

Source: gitformat-pack(5).
"""

import zlib
from array import array
from binascii import crc32
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha1

from gitserver.git.limits import LimitReached, PackLimits, cap_size, delta_too_large
from gitserver.git.objects import OID_BYTES, Kind, ObjectId
from gitserver.git.pack_format import (
    HEADER_BYTES,
    MAX_ENTRY_HEADER_BYTES,
    OFS_DELTA,
    REF_DELTA,
    TRAILER_BYTES,
    PackDamaged,
    read_delta_sizes,
    read_entry_header,
    read_ofs_distance,
    read_pack_header,
)
from gitserver.git.protocol import Reader

_WHOLE_BYTES = 1 << 20  # objects up to this size are inflated in one piece
_PIECE_BYTES = 1 << 18
_LEAST_REST_BYTES = 1 + 8 + TRAILER_BYTES  # an entry of nothing, and the trailer


@dataclass
class PackTable:
    """A pack's entries, column by column, in pack order.

    ``oids`` holds 20 bytes an entry and ``kinds`` one; for deltas both stay zero until they are resolved.
    """

    offsets: "array[int]" = field(default_factory=lambda: array("Q"))
    crcs: "array[int]" = field(default_factory=lambda: array("I"))
    sizes: "array[int]" = field(default_factory=lambda: array("Q"))  # inflated; of the delta itself for a delta
    oids: bytearray = field(default_factory=bytearray)
    kinds: bytearray = field(default_factory=bytearray)
    ofs_bases: dict[int, int] = field(default_factory=dict)  # entry number to its base's offset
    ref_bases: dict[int, ObjectId] = field(default_factory=dict)  # entry number to its base's id
    result_sizes: dict[int, int] = field(default_factory=dict)  # entry number to the size a delta promises
    end: int = 0  # offset of the trailer
    checksum: bytes = b""  # the trailer

    def __len__(self) -> int:
        return len(self.offsets)

    def oid(self, number: int) -> ObjectId:
        """Entry *number*'s object id."""
        return ObjectId(bytes(self.oids[number * OID_BYTES : (number + 1) * OID_BYTES]))

    def entry_end(self, number: int) -> int:
        """The first byte behind entry *number*."""
        return self.offsets[number + 1] if number + 1 < len(self.offsets) else self.end

    def resolve(self, number: int, kind: Kind, oid: ObjectId) -> None:
        """Note what delta *number* turned out to be."""
        self.kinds[number] = kind
        self.oids[number * OID_BYTES : (number + 1) * OID_BYTES] = oid


class Allowance:
    """How much a pack may inflate to, given how much of it has arrived."""

    def __init__(self, limits: PackLimits) -> None:
        self._limits = limits
        self._inflated = 0

    def spend(self, size: int, received: int) -> None:
        """Count *size* inflated bytes after *received* packed ones.

        Raises:
            LimitReached: that is out of all proportion.
        """
        self._inflated += size
        if self._inflated > self._limits.inflated_floor_bytes + self._limits.inflated_ratio * received:
            raise LimitReached(f"the pack inflates to more than {self._limits.inflated_ratio} times its own size")


class PackScanner:
    """Reads a pack from a stream.

    Args:
        stream: where the pack comes from; nothing behind its trailer is used, though more may have been read.
        keep: is handed the pack's bytes in order, up to the trailer.
        examine: is handed each commit, tree and tag that is not a delta: id, kind, bytes.
        limits: the caps.
    """

    def __init__(
        self,
        stream: Reader,
        keep: Callable[[bytes], None],
        examine: Callable[[ObjectId, Kind, bytes], None],
        limits: PackLimits,
    ) -> None:
        self._stream, self._keep, self._examine, self._limits = stream, keep, examine, limits
        self._buffer = b""
        self._at = 0  # the next byte in the buffer
        self._taken = 0  # where in the buffer bytes not yet hashed and kept begin
        self._dropped = 0  # pack bytes before the buffer
        self._crc = 0
        self._crc_from = 0
        self._digest = sha1(usedforsecurity=False)
        self.allowance = Allowance(limits)
        self.deltas: dict[int, bytes] = {}  # inflated deltas, as many as the cache takes
        self._cached = 0

    @property
    def surplus(self) -> bytes:
        """What was read from the stream behind the trailer."""
        return self._buffer[self._at :]

    def scan(self) -> PackTable:
        """Read the whole pack.

        Raises:
            PackDamaged: it is not a whole, sound pack.
            LimitReached: a cap was met.
        """
        table = PackTable()
        self._need(HEADER_BYTES)
        count = read_pack_header(self._buffer[self._at : self._at + HEADER_BYTES])
        if count > self._limits.objects:
            raise LimitReached(f"the pack holds {count} objects; at most {self._limits.objects} are taken")
        self._at += HEADER_BYTES
        for number in range(count):
            self._entry(table, number)
        table.end = self._position
        table.checksum = self._trailer()
        return table

    @property
    def _position(self) -> int:
        return self._dropped + self._at

    def _entry(self, table: PackTable, number: int) -> None:
        start = self._position
        type_number, size, base = self._entry_header(start)
        if isinstance(base, int):
            table.ofs_bases[number] = base
        elif base is not None:
            table.ref_bases[number] = base
        table.offsets.append(start)
        table.sizes.append(size)
        if base is None:
            self._whole(table, Kind(type_number), size)
        else:
            self._delta(table, number, size)
        table.crcs.append(crc32(self._buffer[self._crc_from : self._at], self._crc))

    def _entry_header(self, start: int) -> tuple[int, int, int | ObjectId | None]:
        """Read the header of the entry at *start*: type number, size, and the base's offset or id.

        No more is waited for than a sound pack must still have, since the client may be waiting for us.
        """
        want = _LEAST_REST_BYTES
        while True:
            self._need(want, fewer=True)
            have = len(self._buffer) - self._at
            self._crc, self._crc_from = 0, self._at
            try:
                return self._parse_header(start)
            except PackDamaged:
                if have >= MAX_ENTRY_HEADER_BYTES or have < want:
                    raise
                want = have + 1

    def _parse_header(self, start: int) -> tuple[int, int, int | ObjectId | None]:
        type_number, size, at = read_entry_header(self._buffer, self._at)
        base: int | ObjectId | None = None
        if type_number == OFS_DELTA:
            distance, at = read_ofs_distance(self._buffer, at)
            if not 0 < distance <= start - HEADER_BYTES:
                raise PackDamaged(f"the delta at offset {start} has its base outside the pack")
            base = start - distance
        elif type_number == REF_DELTA:
            base = ObjectId(self._buffer[at : at + OID_BYTES])
            at += OID_BYTES
            if at > len(self._buffer):
                raise PackDamaged("the pack ends inside an entry's header")
        elif type_number not in (1, 2, 3, 4):
            raise PackDamaged(f"the entry at offset {start} has unknown type {type_number}")
        self._at = at
        return type_number, size, base

    def _whole(self, table: PackTable, kind: Kind, size: int) -> None:
        cap_size(kind, size, self._limits)
        digest = sha1(b"%s %d\0" % (kind.word, size), usedforsecurity=False)
        if kind is Kind.BLOB and size > _WHOLE_BYTES:
            self._inflate(size, digest.update)
        else:
            data = self._inflate_whole(size)
            digest.update(data)
            if kind is not Kind.BLOB:
                self._examine(ObjectId(digest.digest()), kind, data)
        table.oids += digest.digest()
        table.kinds.append(kind)

    def _delta(self, table: PackTable, number: int, size: int) -> None:
        if size > self._limits.delta_object_bytes:
            raise delta_too_large(size, self._limits)
        if size <= _WHOLE_BYTES:
            data = self._inflate_whole(size)
            head = data[:20]
            if self._cached + size <= self._limits.cache_bytes:
                self.deltas[number] = data
                self._cached += size + 64
        else:
            first = bytearray()
            self._inflate(size, lambda piece: first.extend(piece[: max(0, 20 - len(first))]))
            head = bytes(first)
        base_size, result_size = read_delta_sizes(head)
        if max(base_size, result_size) > self._limits.delta_object_bytes:
            raise delta_too_large(max(base_size, result_size), self._limits)
        self.allowance.spend(result_size, self._position)
        table.result_sizes[number] = result_size
        table.oids += bytes(OID_BYTES)
        table.kinds.append(0)

    def _inflate_whole(self, size: int) -> bytes:
        window = size + (size >> 10) + 64
        inflater = zlib.decompressobj()
        chunk = memoryview(self._buffer)[self._at : self._at + window]
        try:
            data = inflater.decompress(chunk, size + 1)
        except zlib.error as damage:
            raise PackDamaged(f"an object cannot be inflated: {damage}") from damage
        if inflater.eof and len(data) == size:
            self._at += len(chunk) - len(inflater.unused_data)
            self.allowance.spend(size, self._position)
            return data
        pieces: list[bytes] = []
        self._inflate(size, pieces.append)
        return b"".join(pieces)

    def _inflate(self, size: int, sink: Callable[[bytes], object]) -> None:
        inflater = zlib.decompressobj()
        total = 0
        while not inflater.eof:
            if self._at >= len(self._buffer):
                self._need(1)
            chunk = self._buffer[self._at : self._at + _PIECE_BYTES]
            try:
                data = inflater.decompress(chunk, min(size - total + 1, _PIECE_BYTES))
            except zlib.error as damage:
                raise PackDamaged(f"an object cannot be inflated: {damage}") from damage
            # at the end of the stream unconsumed_tail may still hold what unused_data holds
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            self._at += len(chunk) - len(rest)
            self.allowance.spend(len(data), self._position)
            total += len(data)
            if total > size:
                raise PackDamaged("an object is longer than its header says")
            sink(data)
        if total != size:
            raise PackDamaged("an object is shorter than its header says")

    def _need(self, size: int, *, fewer: bool = False) -> None:
        """Have *size* bytes in the buffer; with *fewer*, as many as there are, at least one."""
        if len(self._buffer) - self._at >= size:
            return
        self._take()
        self._buffer = self._buffer[self._at :]
        self._dropped += self._at
        self._at = self._taken = self._crc_from = 0
        pieces = [self._buffer]
        have = len(self._buffer)
        while have < size:
            more = self._stream.read(_PIECE_BYTES)
            if not more:
                break
            pieces.append(more)
            have += len(more)
        self._buffer = b"".join(pieces)
        if have < (1 if fewer else size):
            raise PackDamaged("the pack ends early")
        if self._dropped > self._limits.pack_bytes:
            raise LimitReached(f"the pack is larger than the {self._limits.pack_bytes} bytes this server takes")

    def _take(self) -> None:
        """Hash and hand on what has been read since the last time."""
        piece = self._buffer[self._taken : self._at]
        self._crc = crc32(self._buffer[self._crc_from : self._at], self._crc)
        self._crc_from = self._taken = self._at
        if piece:
            self._digest.update(piece)
            self._keep(piece)

    def _trailer(self) -> bytes:
        self._take()
        self._need(TRAILER_BYTES)
        trailer = self._buffer[self._at : self._at + TRAILER_BYTES]
        if trailer != self._digest.digest():
            raise PackDamaged("the pack's checksum does not match its bytes")
        self._at += TRAILER_BYTES
        self._taken = self._at
        return trailer
