"""Turning a scanned pack's deltas into objects, depth first, within a fixed amount of memory.

Bases are resolved before what leans on them. The data of a base is kept only while deltas on it are waiting, and when
more waits than the cache takes, the base is made again from its own chain, which counts against the pack's allowance:
work stays in proportion to what was sent.

Source: gitformat-pack(5), "Deltified representation".
"""

import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from typing import Protocol

from dulwich.errors import ApplyDeltaError
from dulwich.pack import apply_delta

from gitserver.git.limits import LimitReached, PackLimits, cap_size, delta_too_large
from gitserver.git.objects import Kind, ObjectId
from gitserver.git.pack_format import (
    OFS_DELTA,
    REF_DELTA,
    PackDamaged,
    read_entry_header,
    read_ofs_distance,
)
from gitserver.git.pack_scan import Allowance, PackTable

_TELL_EVERY = 1000
_LEAST_DELTA_BYTES = 4  # Git takes none shorter
_OUTSIDE = -1


class PackBytes(Protocol):
    """A pack's bytes, anywhere."""

    def read_at(self, offset: int, length: int) -> bytes:
        """*length* bytes from *offset*; fewer only at the end."""
        ...


class Bases(Protocol):
    """Where the bases of a thin pack are found."""

    def __contains__(self, oid: ObjectId, /) -> bool:
        """Whether the object is there."""
        ...

    def kind(self, oid: ObjectId) -> Kind:
        """The object's kind."""
        ...

    def size(self, oid: ObjectId) -> int:
        """The object's inflated size, in bytes."""
        ...

    def read(self, oid: ObjectId) -> tuple[Kind, bytes]:
        """The object."""
        ...


def inflate_entry(raw: bytes) -> bytes:
    """The bytes of one entry's object, or of its delta, given the whole entry.

    Raises:
        PackDamaged: they cannot be inflated, or are of another size than the entry's header says.
    """
    number, size, at = read_entry_header(raw, 0)
    if number == OFS_DELTA:
        _, at = read_ofs_distance(raw, at)
    elif number == REF_DELTA:
        at += 20
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(memoryview(raw)[at:], size + 1)
    except zlib.error as damage:
        raise PackDamaged(f"an object cannot be inflated: {damage}") from damage
    if len(data) != size:
        raise PackDamaged("an object is not as long as its header says")
    return data


def patched(base: bytes, delta: bytes) -> bytes:
    """What *delta* makes of *base*.

    Raises:
        PackDamaged: the delta does not fit the base, or contradicts itself.
    """
    if len(delta) < _LEAST_DELTA_BYTES:
        raise PackDamaged("a delta cannot be applied: it is too short")
    try:
        return b"".join(apply_delta(base, delta))
    except (ApplyDeltaError, ValueError) as damage:
        raise PackDamaged(f"a delta cannot be applied: {damage}") from damage


@dataclass
class _Base:
    """A resolved object with deltas still waiting on it. A chain of these leads back to a whole object."""

    number: int  # its entry; _OUTSIDE: it lies in the repository
    oid: ObjectId
    data: bytes | None  # None: dropped to save memory
    waiting: list[int]


class DeltaResolver:
    """Resolves every delta of one pack.

    Args:
        table: the scanned pack; its rows are completed.
        pack: the pack's bytes.
        deltas: inflated deltas that the scan kept; used up.
        bases: the repository, for a thin pack's bases.
        examine: is handed each commit, tree and tag that was a delta.
        allowance: the scan's account of inflated bytes.
        limits: the caps.
    """

    def __init__(
        self,
        table: PackTable,
        pack: PackBytes,
        deltas: dict[int, bytes],
        bases: Bases,
        examine: Callable[[ObjectId, Kind, bytes], None],
        allowance: Allowance,
        limits: PackLimits,
    ) -> None:
        self._table, self._pack, self._deltas, self._bases = table, pack, deltas, bases
        self._examine, self._allowance, self._limits = examine, allowance, limits
        self._on_number: dict[int, list[int]] = {}  # base's entry number to the deltas on it
        self._on_oid: dict[ObjectId, list[int]] = {}
        self.borrowed: list[ObjectId] = []  # bases outside the pack

    def resolve(self) -> Iterator[int]:
        """Resolve, telling the number of deltas done now and then.

        Raises:
            PackDamaged: a delta is broken, or its base is nowhere.
            LimitReached: a cap was met.
        """
        total = self._arrange()
        done = 0
        for root in self._roots():
            for _ in self._descend(root):
                done += 1
                if done % _TELL_EVERY == 0:
                    yield done
        if done != total:
            raise PackDamaged(f"{total - done} deltas have no base: it is missing, or they lean on each other")

    def _arrange(self) -> int:
        table = self._table
        for number, offset in table.ofs_bases.items():
            base = bisect_left(table.offsets, offset)
            if table.offsets[base] != offset:
                raise PackDamaged(f"the delta at offset {table.offsets[number]} has no entry where its base should be")
            self._on_number.setdefault(base, []).append(number)
        for number, oid in table.ref_bases.items():
            self._on_oid.setdefault(oid, []).append(number)
        return len(table.ofs_bases) + len(table.ref_bases)

    def _roots(self) -> Iterator[_Base]:
        """The whole objects that deltas lean on: those in the pack first, then those in the repository."""
        numbers = {number for number in self._on_number if self._table.kinds[number]}
        if self._on_oid:
            whole = (number for number, kind in enumerate(self._table.kinds) if kind)
            numbers.update(number for number in whole if self._table.oid(number) in self._on_oid)
        for number in sorted(numbers):
            oid = self._table.oid(number)
            waiting = self._take_waiting(number, oid)
            if waiting:
                yield _Base(number, oid, None, waiting)
        for oid in list(self._on_oid):
            if oid in self._on_oid and oid in self._bases:
                self.borrowed.append(oid)
                yield _Base(_OUTSIDE, oid, None, self._on_oid.pop(oid))

    def _descend(self, root: _Base) -> Iterator[None]:
        chain = [root]
        kind = self._kind(root)
        held = 0
        while chain:
            base = chain[-1]
            if not base.waiting:
                chain.pop()
                held -= len(base.data or b"")
                continue
            if base.data is None:
                base.data = self._make(chain)
                held += len(base.data)
            data = base.data
            number = base.waiting.pop()
            if not base.waiting:
                held -= len(data)
                base.data = None
            result = patched(data, self._take_delta(number))
            oid = self._settle(number, kind, result)
            waiting = self._take_waiting(number, oid)
            if waiting:
                if len(chain) >= self._limits.delta_depth:
                    raise LimitReached(f"a chain of deltas is longer than {self._limits.delta_depth}")
                chain.append(_Base(number, oid, result, waiting))
                held = self._shed(chain, held + len(result))
            yield

    def _shed(self, chain: list[_Base], held: int) -> int:
        """Drop waiting bases' data, the oldest first, until what is *held* fits the cache."""
        for base in chain[:-1]:
            if held <= self._limits.cache_bytes:
                break
            held -= len(base.data or b"")
            base.data = None
        return held

    def _make(self, chain: list[_Base]) -> bytes:
        """The data of the last base of *chain*, from the nearest one that still has its own."""
        at = len(chain) - 1
        while at and chain[at].data is None:
            at -= 1
        data = chain[at].data
        if data is None:
            data = self._whole(chain[0])
        for base in chain[at + 1 :]:
            data = patched(data, self._inflate(base.number))
            self._allowance.spend(len(data), self._table.end)
        return data

    def _kind(self, root: _Base) -> Kind:
        return self._bases.kind(root.oid) if root.number == _OUTSIDE else Kind(self._table.kinds[root.number])

    def _whole(self, root: _Base) -> bytes:
        if root.number != _OUTSIDE:
            return self._inflate(root.number)
        size = self._bases.size(root.oid)
        self._cap_delta(size)
        self._allowance.spend(size, self._table.end)
        return self._bases.read(root.oid)[1]

    def _take_waiting(self, number: int, oid: ObjectId) -> list[int]:
        waiting = self._on_number.pop(number, [])
        if self._on_oid:
            waiting += self._on_oid.pop(oid, [])
        return waiting

    def _take_delta(self, number: int) -> bytes:
        kept = self._deltas.pop(number, None)
        return self._inflate(number) if kept is None else kept

    def _inflate(self, number: int) -> bytes:
        self._cap_delta(self._table.sizes[number])
        start = self._table.offsets[number]
        return inflate_entry(self._pack.read_at(start, self._table.entry_end(number) - start))

    def _cap_delta(self, size: int) -> None:
        if size > self._limits.delta_object_bytes:
            raise delta_too_large(size, self._limits)

    def _settle(self, number: int, kind: Kind, data: bytes) -> ObjectId:
        cap_size(kind, len(data), self._limits)
        digest = sha1(b"%s %d\0" % (kind.word, len(data)), usedforsecurity=False)
        digest.update(data)
        oid = ObjectId(digest.digest())
        self._table.resolve(number, kind, oid)
        if kind is not Kind.BLOB:
            self._examine(oid, kind, data)
        return oid
