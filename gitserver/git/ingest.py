"""From a stream to a pack that may be kept: scanned, resolved, checked, completed, indexed.

Nothing here writes to the repository. The pack waits in a spool, laid out as it would be stored, and can be read there
together with what the repository holds already.
"""

from binascii import crc32
from collections.abc import Iterable, Iterator
from hashlib import sha1, sha256
from itertools import chain
from zlib import compress

from gitserver.core.errors import Conflict
from gitserver.git.examine import Examination, SpecialBlob, check_special_blobs
from gitserver.git.fsck import STRICT, FsckPolicy
from gitserver.git.limits import PackLimits
from gitserver.git.objects import OID_BYTES, ObjectId
from gitserver.git.pack_format import HEADER_BYTES, PackDamaged, entry_header, pack_header
from gitserver.git.pack_index import build_index
from gitserver.git.pack_resolve import DeltaResolver
from gitserver.git.pack_scan import PackScanner, PackTable
from gitserver.git.packs import Pack
from gitserver.git.protocol import Reader
from gitserver.git.store import ObjectStore
from gitserver.storage.spool import Spool
from gitserver.storage.vault import Blob, Owner, Vault

_SPECIAL_FILE_BYTES = 16 << 20
PACK_BLOB = "pack"


class ObjectCollision(Conflict):
    """Two objects with one id and different bytes."""

    def __init__(self, oid: ObjectId) -> None:
        super().__init__(f"SHA-1 collision: the repository holds another object with the id {oid.hex()}")


class IncomingPack:
    """A received pack, not yet part of the repository.

    Args:
        held: what the repository holds already.
        spool: where the pack waits; closed together with this.
        limits: the caps.
        policy: which rules of git fsck are not insisted on.
    """

    def __init__(self, held: ObjectStore, spool: Spool, limits: PackLimits, policy: FsckPolicy = STRICT) -> None:
        self._held, self._spool, self._limits, self._policy = held, spool, limits, policy
        self._table = PackTable()
        self._header = b""
        self._examination = Examination(limits, policy)
        self.object_count = 0
        self.pack_bytes = 0
        self.absent: list[ObjectId] = []  # what the pack's objects name and nobody has
        self._came = ObjectStore(())
        self.objects = held  # once received: what is held and what came, together

    def receive(self, stream: Reader) -> Iterator[int]:
        """Take the pack off *stream*, yielding now and then while deltas are resolved.

        Raises:
            PackDamaged: Git would not take the pack.
            FsckRefused: an object breaks a rule.
            LimitReached: a cap was met.
            ObjectCollision: an object is held already, with other bytes.
            DiskFull: there is no room for it to wait.
        """
        scanner = PackScanner(stream, self._spool.write, self._examination.examine, self._limits)
        self._table = table = scanner.scan()
        if scanner.surplus:
            raise PackDamaged("there is something behind the pack")
        resolver = DeltaResolver(
            table,
            self._spool,
            scanner.deltas,
            self._held,
            self._examination.examine,
            scanner.allowance,
            self._limits,
        )
        yield from resolver.resolve()
        self.object_count = len(table)
        if self.object_count:
            self._lay_out(resolver.borrowed)
            self._check()

    @property
    def is_closed(self) -> bool:
        """Whether there is something to keep, and nothing that it names is missing. Nothing else may be stored."""
        return self.object_count > 0 and not self.absent

    def store(self, vault: Vault, owner: Owner) -> Blob:
        """Seal the pack into a blob, durable when this returns. No row names it yet.

        Raises:
            DiskFull: it does not fit; nothing is left behind.
        """
        sink = vault.create(owner, PACK_BLOB)
        try:
            sink.write(self._header)
            for piece in self._spool.chunks(HEADER_BYTES):
                sink.write(piece)
            return sink.commit()
        except BaseException:
            sink.abort()
            raise

    def close(self) -> None:
        """Forget the pack."""
        self._spool.close()

    def _lay_out(self, borrowed: list[ObjectId]) -> None:
        """Complete a thin pack, and put trailer and index where a stored pack has them."""
        table = self._table
        outside = set(borrowed)
        if outside:
            outside.difference_update(map(table.oid, range(len(table))))
        appended = [self._append(oid) for oid in borrowed if oid in outside]
        self.object_count = len(table) + len(appended)
        self._header = pack_header(self.object_count)
        checksum = self._checksum() if appended else table.checksum
        self._spool.write(checksum)
        self.pack_bytes = self._spool.size
        self._spool.write(build_index(chain(self._rows(), appended), checksum))
        pack = Pack("incoming", self._spool, self.pack_bytes)
        self._came = ObjectStore((pack,))
        self.objects = ObjectStore((pack, *self._held.packs))

    def _rows(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        table = self._table
        oids = bytes(table.oids)
        for number, offset in enumerate(table.offsets):
            size = table.result_sizes.get(number, table.sizes[number])
            oid = oids[number * OID_BYTES : (number + 1) * OID_BYTES]
            yield oid, offset, table.crcs[number], table.kinds[number], size

    def _append(self, oid: ObjectId) -> tuple[bytes, int, int, int, int]:
        kind, data = self._held.read(oid)
        entry = entry_header(kind, len(data)) + compress(data)
        offset = self._spool.size
        self._spool.write(entry)
        return oid, offset, crc32(entry), kind, len(data)

    def _checksum(self) -> bytes:
        digest = sha1(self._header, usedforsecurity=False)
        for piece in self._spool.chunks(HEADER_BYTES):
            digest.update(piece)
        return digest.digest()

    def _check(self) -> None:
        self._refuse_collisions()
        self.absent = list(self._examination.absent(self._table, self._held))
        if not self.absent:
            check_special_blobs(
                self._special(self._examination.gitmodules),
                self._special(self._examination.gitattributes),
                self._policy,
            )

    def _refuse_collisions(self) -> None:
        for number in range(len(self._table)):
            oid = self._table.oid(number)
            if oid in self._held and not _same(self._held, self._came, oid):
                raise ObjectCollision(oid)

    def _special(self, oids: Iterable[bytes]) -> Iterator[SpecialBlob]:
        for name in sorted(oids):
            oid = ObjectId(name)
            if oid not in self.objects:
                yield oid, None, None
            elif self.objects.size(oid) > _SPECIAL_FILE_BYTES:
                yield oid, self.objects.kind(oid), None
            else:
                yield oid, *self.objects.read(oid)


def _same(one: ObjectStore, other: ObjectStore, oid: ObjectId) -> bool:
    kind, size, data = one.stream(oid)
    other_kind, other_size, other_data = other.stream(oid)
    return (kind, size) == (other_kind, other_size) and _digest(data) == _digest(other_data)


def _digest(pieces: Iterable[bytes]) -> bytes:
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
