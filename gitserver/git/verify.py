"""Whether a stored repository is whole: every pack, every index, every ref, and everything that is named.

Each pack is read like one that arrives, from its first byte to its last, and what comes out is held against the index.
"""

from collections.abc import Iterator

from gitserver.core.errors import Failure
from gitserver.git.examine import Examination
from gitserver.git.fsck import MESSAGE_IDS, FsckPolicy
from gitserver.git.limits import GIB, PackLimits
from gitserver.git.objects import Kind
from gitserver.git.pack_resolve import DeltaResolver
from gitserver.git.pack_scan import PackScanner, PackTable
from gitserver.git.packs import Pack
from gitserver.git.protocol import printable
from gitserver.git.ref_names import BRANCHES
from gitserver.git.repository import Repository
from gitserver.git.rules import peel
from gitserver.git.store import ObjectStore

# What is stored was let in under some limits once; it is sound whatever today's are.
_UNLIMITED = PackLimits(
    pack_bytes=1 << 62,
    objects=1 << 32,
    blob_bytes=1 << 62,
    tree_bytes=GIB,
    commit_bytes=GIB,
    header_bytes=GIB,
    delta_object_bytes=4 * GIB,
    delta_depth=1 << 20,
    inflated_ratio=1 << 40,
)


def verify_repository(repository: Repository) -> Iterator[str]:
    """Read everything; one sentence for each thing that is wrong."""
    for pack in repository.objects.packs:
        try:
            yield from _pack(pack, repository.objects)
        except Failure as failure:
            yield f"pack {pack.id}: {failure}"
    yield from _refs(repository)


def _pack(pack: Pack, objects: ObjectStore) -> Iterator[str]:
    examination = Examination(_UNLIMITED, FsckPolicy(ignored=MESSAGE_IDS))
    scanner = PackScanner(_Stream(pack), _ignore, examination.examine, _UNLIMITED)
    table = scanner.scan()
    alone = ObjectStore(())  # a stored pack leans on no other
    resolver = DeltaResolver(table, pack, scanner.deltas, alone, examination.examine, scanner.allowance, _UNLIMITED)
    for _ in resolver.resolve():
        pass
    yield from _index(pack, table)
    for oid in examination.absent(table, objects):
        yield f"pack {pack.id}: object {oid.hex()} is named, but missing"


def _index(pack: Pack, table: PackTable) -> Iterator[str]:
    index = pack.index
    if index.count != len(table) or index.checksum != table.checksum or pack.end != table.end:
        yield f"pack {pack.id}: its index is that of another pack"
        return
    for number, offset in enumerate(table.offsets):
        oid = table.oid(number)
        position = index.find(oid)
        size = table.result_sizes.get(number, table.sizes[number])
        found = position is not None and (
            index.offset(position),
            index.crc(position),
            index.kind(position),
            pack.object_size(position),
        )
        if found != (offset, table.crcs[number], table.kinds[number], size):
            yield f"pack {pack.id}: its index is wrong about object {oid.hex()}"


def _refs(repository: Repository) -> Iterator[str]:
    objects, snapshot = repository.objects, repository.refs
    for name, oid in snapshot.refs.items():
        if oid not in objects:
            yield f"{printable(name)} points at {oid.hex()}, which is missing"
        elif name.startswith(BRANCHES) and objects.kind(oid) is not Kind.COMMIT:
            yield f"{printable(name)} points at {oid.hex()}, which is not a commit"
        elif peel(objects, oid) != snapshot.peeled.get(name):
            yield f"{printable(name)} is said to peel to something else than it does"
    if snapshot.head is not None and snapshot.refs and snapshot.head not in snapshot.refs:
        yield f"HEAD points at {printable(snapshot.head)}, which does not exist"


class _Stream:
    """A stored pack as it once arrived."""

    def __init__(self, pack: Pack) -> None:
        self._chunks = pack.chunks(0, pack.size)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _ignore(_: bytes) -> None:
    """What is read is already stored."""
