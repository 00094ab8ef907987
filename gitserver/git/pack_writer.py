"""Packs to send, made of stored packs' entries.

What can be copied is copied: runs of neighbouring entries as one range of bytes, deltas and all, nothing inflated.
A delta must come after its base where it names it by distance, and must never lean on an object that the reader lacks:

- base stored in the same pack and sent from it: the delta stays, its distance rewritten where a gap was left out;
- base sent from a pack that was written earlier: the delta names it by id (so no ring of deltas can arise);
- base not sent, but proven to be with the reader: the delta names it by id (a thin pack);
- otherwise the object is sent whole.

Source: gitformat-pack(5).
"""

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha1

from gitserver.git.objects import ObjectId, ObjectMissing
from gitserver.git.pack_format import HEADER_BYTES, OFS_DELTA, REF_DELTA, entry_header, ofs_distance, pack_header
from gitserver.git.packs import Entry, Pack
from gitserver.git.store import ObjectStore

PIECE_BYTES = 256 * 1024
VERBATIM = b""  # instead of a header: the entry is copied as it is
NOTHING: frozenset[ObjectId] = frozenset()


def write_pack(
    store: ObjectStore,
    oids: Collection[ObjectId],
    *,
    ofs_delta: bool = True,
    thin_bases: Container[ObjectId] = NOTHING,
) -> Iterator[bytes]:
    """The bytes of a pack that holds *oids*, each once; pieces are about 256 KiB or less.

    Args:
        store: where the objects are.
        oids: a set, or another collection without repetitions that is quick to search.
        ofs_delta: whether the reader understands deltas that name their base by distance.
        thin_bases: objects outside *oids* that the reader has, which deltas may lean on.

    Raises:
        ObjectMissing: an object is not in the store; raised before the first byte.
    """
    shares = _shares(store, oids)
    whole = _whole_pack(shares) if ofs_delta else None
    if whole is not None:
        return whole.chunks(0, whole.size)
    return _PackWriter(store, oids, ofs_delta, thin_bases).write(shares)


@dataclass(frozen=True, slots=True)
class _Share:
    """What one stored pack contributes: the offsets of entries, ascending."""

    pack: Pack
    offsets: "array[int]"
    number: int  # shares are written in this order

    @property
    def whole(self) -> bool:
        return len(self.offsets) == self.pack.object_count


def _shares(store: ObjectStore, oids: Iterable[ObjectId]) -> list[_Share]:
    by_pack: dict[int, tuple[Pack, list[int]]] = {}
    for oid in oids:
        place = store.locate(oid)
        if place is None:
            raise ObjectMissing(oid)
        pack, offset = place
        found = by_pack.get(id(pack))
        if found is None:
            found = by_pack[id(pack)] = (pack, [])
        found[1].append(offset)
    shares = []
    for number, (pack, offsets) in enumerate(by_pack.values()):
        offsets.sort()
        shares.append(_Share(pack, array("Q", offsets), number))
    return shares


def _whole_pack(shares: list[_Share]) -> Pack | None:
    return shares[0].pack if len(shares) == 1 and shares[0].whole else None


class _PackWriter:
    """Writes one pack; ``_at`` is how many bytes of it are written or waiting."""

    def __init__(
        self, store: ObjectStore, oids: Collection[ObjectId], ofs_delta: bool, thin_bases: Container[ObjectId]
    ) -> None:
        self._store = store
        self._oids = oids
        self._ofs_delta = ofs_delta
        self._thin_bases = thin_bases
        self._numbers: dict[int, int] = {}  # a pack's identity to its share's number
        self._digest = sha1(usedforsecurity=False)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._at = 0

    def write(self, shares: list[_Share]) -> Iterator[bytes]:
        self._numbers = {id(share.pack): share.number for share in shares}
        yield from self._put(pack_header(len(self._oids)))
        for share in shares:
            if share.whole and self._ofs_delta:
                yield from self._copy(share.pack, HEADER_BYTES, share.pack.end)
            else:
                yield from self._entries(share)
        yield from self._flush()
        yield self._digest.digest()

    def _entries(self, share: _Share) -> Iterator[bytes]:
        """Write a share's entries, gathering those that can be copied together into runs."""
        pack, offsets = share.pack, share.offsets
        places = array("Q", bytes(8 * len(offsets)))  # where each entry starts in the pack that is written
        run_start = run_end = 0
        for number, offset in enumerate(offsets):
            entry = pack.entry(offset)
            if offset != run_end:
                yield from self._copy(pack, run_start, run_end)
                run_start = run_end = offset
            place = self._at + offset - run_start
            places[number] = place
            header = self._new_header(share, entry, place, places)
            if header == VERBATIM:
                run_end = entry.end
                continue
            yield from self._copy(pack, run_start, run_end)
            run_start = run_end = entry.end
            if header is None:
                yield from self._put_whole(pack.oid_at(offset))
            else:
                yield from self._put(header)
                yield from self._copy(pack, entry.data_start, entry.end)
        yield from self._copy(pack, run_start, run_end)

    def _new_header(self, share: _Share, entry: Entry, place: int, places: "array[int]") -> bytes | None:
        """The header that an entry needs: its own, another, or None where it has to be sent whole."""
        if entry.base_offset is None:
            return VERBATIM
        if entry.type_number == OFS_DELTA and self._ofs_delta:
            number = bisect_left(share.offsets, entry.base_offset)
            if number < len(share.offsets) and share.offsets[number] == entry.base_offset:
                distance = place - places[number]
                if distance == entry.offset - entry.base_offset:
                    return VERBATIM
                return entry_header(OFS_DELTA, entry.size) + ofs_distance(distance)
        base = share.pack.oid_at(entry.base_offset)
        if not (self._is_sent_in_time(base, share) if base in self._oids else base in self._thin_bases):
            return None
        return VERBATIM if entry.type_number == REF_DELTA else entry_header(REF_DELTA, entry.size) + base

    def _is_sent_in_time(self, base: ObjectId, share: _Share) -> bool:
        """Whether a base that is sent comes from the same share, or from an earlier one."""
        place = self._store.locate(base)
        return place is not None and self._numbers[id(place[0])] <= share.number

    def _put_whole(self, oid: ObjectId) -> Iterator[bytes]:
        kind, size, pieces = self._store.stream(oid)
        yield from self._put(entry_header(kind, size))
        deflate = zlib.compressobj()
        for piece in pieces:
            yield from self._put(deflate.compress(piece))
        yield from self._put(deflate.flush())

    def _copy(self, pack: Pack, start: int, end: int) -> Iterator[bytes]:
        if start < end:
            for piece in pack.chunks(start, end):
                yield from self._put(piece)

    def _put(self, data: bytes) -> Iterator[bytes]:
        self._at += len(data)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= PIECE_BYTES:
            yield from self._flush()

    def _flush(self) -> Iterator[bytes]:
        piece = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        if piece:
            self._digest.update(piece)
            yield piece
