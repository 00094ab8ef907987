"""The last part of a fetch: where history ends, which objects are missing, and the pack of them.

Source: gitprotocol-pack(5), "Packfile Data"; gitprotocol-v2(5), ``packfile``.
"""

from collections.abc import Generator, Iterator
from time import monotonic

from gitserver.core.errors import Failure
from gitserver.git.graph import CommitGraph
from gitserver.git.objects import Kind, ObjectId
from gitserver.git.pack_writer import NOTHING, write_pack
from gitserver.git.protocol import BAND_DATA, BAND_ERROR, BAND_PROGRESS, MAX_BAND_BYTES, ProtocolError, printable
from gitserver.git.reachability import Selection, selecting
from gitserver.git.refs import RefSnapshot
from gitserver.git.shallow import Boundary, Deepening, boundary
from gitserver.git.store import ObjectStore
from gitserver.git.upload_request import FetchRequest, UploadLimits
from gitserver.git.wants import Reachable, ReachableMemory, VisibleRefs

KEEPALIVE_S = 5.0
PROGRESS_S = 0.5
_FRAME_BYTES = 5  # of a side-band packet: four length digits and the band


class Fetching:
    """One repository's snapshot as clients may see it, and the steps that every protocol version takes over it."""

    def __init__(
        self, snapshot: RefSnapshot, store: ObjectStore, limits: UploadLimits, memory: ReachableMemory | None = None
    ) -> None:
        self.store = store
        self.limits = limits
        self.pack_begun = False  # from then on nothing but the pack, or a broken connection, may follow
        self.visible = VisibleRefs(snapshot)
        self.graph = CommitGraph(store)
        self.reachable = Reachable(self.graph, store, self.visible, limits.searched_trees, memory)

    def boundary(self, request: FetchRequest) -> Boundary:
        """Where the client's history will end.

        Raises:
            ProtocolError: an excluded ref is unknown or ambiguous, or a shallow line names no commit.
            NothingSelected: see :func:`gitserver.git.shallow.boundary`.
        """
        ends = [oid for oid in request.ends if oid in self.store]
        for oid in ends:
            if self.store.kind(oid) is not Kind.COMMIT:
                raise ProtocolError(f"upload-pack: invalid shallow object {oid.hex()}")
        asked = Deepening(
            request.depth, request.relative, request.since, tuple(self._excluded(ref) for ref in request.excluded_refs)
        )
        wanted = [end.oid for end in map(self.graph.peel, request.wants) if end.kind is Kind.COMMIT]
        return boundary(self.graph, wanted, dict.fromkeys(ends), asked, self.reachable.commit_tips())

    def pack(self, request: FetchRequest, common: list[ObjectId], edge: Boundary) -> Iterator[bytes]:
        """The pack, framed as the client asked.

        Failures are told on band 3, where there is one, and then raised: the stream must not end as if it were whole.
        """
        bands = request.side_band_bytes
        self.pack_begun = True
        try:
            selection = yield from self._selection(request, common, edge)
            if bands and not request.no_progress:
                yield _framed(BAND_PROGRESS, b"Enumerating objects: %d, done.\n" % len(selection.objects), bands)
            pieces = write_pack(
                self.store,
                selection.objects,
                ofs_delta=request.ofs_delta,
                thin_bases=selection.theirs if request.thin_pack else NOTHING,
            )
            for piece in pieces:
                yield _framed(BAND_DATA, piece, bands) if bands else piece
        except Failure as failure:
            if bands:
                yield _framed(BAND_ERROR, f"upload-pack: {failure}\n".encode(), bands)
            raise

    def _excluded(self, name: bytes) -> ObjectId:
        found = self.visible.find_short(name)
        if len(found) != 1:
            raise ProtocolError(f"upload-pack: ambiguous deepen-not: {printable(name[:200])}")
        oid = self.visible.find(found[0])
        end = self.graph.peel(oid) if oid is not None else None
        if end is None or end.kind is not Kind.COMMIT:
            raise ProtocolError(f"upload-pack: deepen-not names no commit: {printable(name[:200])}")
        return end.oid

    def _selection(
        self, request: FetchRequest, common: list[ObjectId], edge: Boundary
    ) -> Generator[bytes, None, Selection]:
        wants = [*request.wants, *edge.wants]
        steps = selecting(self.graph, self.store, wants, common, cut=edge.cut, passing=request.passing)
        told = monotonic()
        while True:
            try:
                count = next(steps)
            except StopIteration as end:
                selection: Selection = end.value
                break
            quiet_s = PROGRESS_S if not request.no_progress else KEEPALIVE_S
            if request.side_band_bytes and monotonic() - told >= quiet_s:
                told = monotonic()
                yield _still_there(request, count)
        if request.include_tag:
            self._add_tags(selection.objects)
        return selection

    def _add_tags(self, objects: set[ObjectId]) -> None:
        """Add annotated tags whose target is sent. Source: git-pack-objects(1), ``--include-tag``."""
        for name, target in self.visible.peeled.items():
            if target in objects and name.startswith(b"refs/tags/") and name in self.visible.refs:
                objects.update(self.graph.peel(self.visible.refs[name]).tags)


def _still_there(request: FetchRequest, count: int) -> bytes:
    if request.no_progress:
        return b"0005\x01"
    return _framed(BAND_PROGRESS, b"Enumerating objects: %d\r" % count, request.side_band_bytes)


def _framed(number: int, data: bytes, packet_bytes: int) -> bytes:
    """*data* on a side band, as packets of at most *packet_bytes*, joined."""
    room = packet_bytes - _FRAME_BYTES
    if len(data) <= room:
        return b"%04x%c%b" % (len(data) + _FRAME_BYTES, number, data)
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    for at in range(0, len(data), room):
        piece = view[at : at + room]
        parts += (b"%04x%c" % (len(piece) + _FRAME_BYTES, number), piece)
    return b"".join(parts)


SIDE_BAND_BYTES = 1000
SIDE_BAND_64K_BYTES = MAX_BAND_BYTES + _FRAME_BYTES
