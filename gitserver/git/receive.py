"""receive-pack: one push, from its commands to its report.

The road is always the same: commands, verdicts on each ref, the pack into a spool, every check, verdicts again, the
sealed blob, and then one transaction in which refs, pack and journal change together or not at all. A push that fails
leaves no row and no blob.

Source: gitprotocol-pack(5), gitprotocol-http(5).
"""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Protocol

from sqlalchemy.orm import Session

from gitserver.core.errors import Failure
from gitserver.git import ref_names
from gitserver.git.fsck import FsckPolicy
from gitserver.git.ingest import IncomingPack
from gitserver.git.limits import PushLimits
from gitserver.git.objects import ZERO_OID, ObjectId
from gitserver.git.protocol import (
    AGENT,
    BAND_DATA,
    BAND_PROGRESS,
    FLUSH_PACKET,
    PacketReader,
    Reader,
    band,
    error_packet,
    pkt,
)
from gitserver.git.push_request import PushRequest, read_request
from gitserver.git.refs import RefMoved, RefsCollide, RefUpdate, bump, move_ref, settle_head
from gitserver.git.repository import GitStorage, Repository
from gitserver.git.rules import PushRules, broken_rule, peel
from gitserver.storage.database import CommitUncertain, Database
from gitserver.storage.spool import Spool
from gitserver.storage.vault import Blob

_CAPABILITIES = (
    b"report-status report-status-v2 delete-refs side-band-64k quiet atomic ofs-delta push-options object-format=sha1 "
    + AGENT
)
_KEEPALIVE_S = 5
_DRAIN_BYTES = 1 << 30
_MISSING = "missing necessary objects"
_DEFAULT_BRANCHES = (ref_names.BRANCHES + b"main", ref_names.BRANCHES + b"master")


class Judge(Protocol):
    """Says whether this client may change a ref."""

    def __call__(self, change: RefUpdate, /) -> str | None:
        """None, or the reason why not, in one line."""
        ...


class Finish(Protocol):
    """Is told, inside the transaction, what a push changes."""

    def __call__(self, tx: Session, changes: Sequence[RefUpdate], generation: int, options: Sequence[str], /) -> None:
        """Write down whatever must be true together with the changes."""
        ...


class _NothingMoves(Exception):
    """Rolls the transaction back; never seen outside."""


class ReceivePack:
    """One client's push to one repository.

    Args:
        storage: where the repository lives.
        repository: the repository, open; closed with this.
        database: for the transaction.
        judge: asked for each ref, before the pack is read and again when it has been.
        finish: called in the transaction.
        rules: what the repository lets nobody do.
        limits: the caps.
        policy: which rules of git fsck are not insisted on.
        spool_directory: where a large pack waits, sealed.
        version: the protocol version asked for; receive-pack knows 0 and 1.
    """

    def __init__(
        self,
        storage: GitStorage,
        repository: Repository,
        database: Database,
        judge: Judge,
        finish: Finish,
        rules: PushRules,
        limits: PushLimits,
        policy: FsckPolicy,
        spool_directory: Path,
        version: int,
    ) -> None:
        self._storage, self._repository, self._database = storage, repository, database
        self._judge, self._finish, self._rules, self._limits = judge, finish, rules, limits
        self._policy, self._spool_directory, self._version = policy, spool_directory, version
        self._refused: dict[RefUpdate, str] = {}

    def advertise(self) -> Iterator[bytes]:
        """The refs, and what this end can do."""
        if self._version == 1:
            yield pkt(b"version 1\n")
        lines = [
            b"%b %b" % (oid.hex().encode("ascii"), name)
            for name, oid in self._repository.refs.refs.items()
            if not ref_names.is_hidden(name)
        ]
        if not lines:
            lines = [b"%b capabilities^{}" % ZERO_OID.hex().encode("ascii")]
        lines[0] += b"\0" + _CAPABILITIES
        for at in range(0, len(lines), 500):
            yield b"".join(pkt(line + b"\n") for line in lines[at : at + 500])
        yield FLUSH_PACKET

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        """Take one push off *stream* and tell what became of it.

        Whatever is wrong with the push is told in the answer.
        """
        if not stateless:
            yield from self.advertise()
        packets = PacketReader(stream)
        try:
            request = read_request(packets, self._limits)
        except Failure as failure:
            yield error_packet(failure)
            return
        if request is None:
            return
        trouble = request.trouble or (yield from self._push(request, packets))
        if trouble and stateless:
            _drain(packets)
        yield from self._report(request, trouble)
        if trouble and not stateless:
            _drain(packets)

    def close(self) -> None:
        """Let go of the repository."""
        self._repository.close()

    def _verdicts(self, request: PushRequest) -> dict[RefUpdate, str]:
        """What can be said of each ref before the pack is here."""
        times = Counter(command.name for command in request.commands)
        refused = {}
        for command in request.commands:
            reason = (
                ref_names.refusal(
                    command.name, ref_bytes=self._limits.ref_bytes, branch_bytes=self._limits.branch_bytes
                )
                or ("multiple updates for one ref" if times[command.name] > 1 else None)
                or self._judge(command)
            )
            if reason:
                refused[command] = reason
        return refused

    def _push(self, request: PushRequest, packets: PacketReader) -> Generator[bytes, None, str | None]:
        """Do what can be done of *request*; the reason if nothing could be, or None."""
        self._refused = self._verdicts(request)
        spool = Spool(self._spool_directory, self._limits.spool_memory_bytes)
        with closing(IncomingPack(self._repository.objects, spool, self._limits.pack, self._policy)) as incoming:
            trouble = None
            if request.brings_pack:
                trouble = yield from self._receive(incoming, request, packets)
            return trouble or self._apply(request, incoming)

    def _receive(
        self, incoming: IncomingPack, request: PushRequest, packets: PacketReader
    ) -> Generator[bytes, None, str | None]:
        """Take the pack in; the reason why not, or None."""
        told = monotonic()
        try:
            for _ in incoming.receive(packets):
                if request.side_band and monotonic() - told > _KEEPALIVE_S:
                    told = monotonic()
                    yield b"0005%c" % BAND_PROGRESS
        except Failure as failure:
            return str(failure)
        return None

    def _apply(self, request: PushRequest, incoming: IncomingPack) -> str | None:
        """Judge again, and change what may be changed; the reason if nothing could be."""
        self._examine_targets(request, incoming)
        for command in request.commands:
            if command not in self._refused and (reason := self._judge(command)):
                self._refused[command] = reason
        wanted = [command for command in request.commands if command not in self._refused]
        if not wanted or (request.atomic and self._refused):
            self._refuse_rest(request)
            return None
        blob = None
        try:
            if incoming.is_closed and any(not command.deletes for command in wanted):
                blob = incoming.store(self._storage.vault, self._repository.owner)
            self._commit(request, wanted, incoming, blob)
        except _NothingMoves:
            self._refuse_rest(request)
        except CommitUncertain as uncertain:
            return str(uncertain)  # the pack may be in use; if it is not, it is swept
        except Failure as failure:
            self._discard(blob)
            return str(failure)
        except BaseException:
            self._discard(blob)
            raise
        else:
            return None
        self._discard(blob)
        return None

    def _discard(self, blob: Blob | None) -> None:
        if blob is not None:
            self._storage.vault.delete(blob)

    def _refuse_rest(self, request: PushRequest) -> None:
        for command in request.commands:
            self._refused.setdefault(command, "atomic push failure")

    def _examine_targets(self, request: PushRequest, incoming: IncomingPack) -> None:
        for command in request.commands:
            if command in self._refused:
                continue
            if not command.deletes and not self._is_whole(command.new, incoming):
                self._refused[command] = _MISSING
            else:
                reason = self._stale(command) or broken_rule(
                    command, self._rules, self._repository.refs.head, incoming.objects
                )
                if reason:
                    self._refused[command] = reason

    def _is_whole(self, oid: ObjectId, incoming: IncomingPack) -> bool:
        """Whether everything that hangs on *oid* is there. What the repository holds is closed; so must the pack be."""
        return oid in self._repository.objects or (incoming.is_closed and oid in incoming.objects)

    def _stale(self, command: RefUpdate) -> str | None:
        """Refuse early what the transaction would refuse: rules need the old commit to be a real one."""
        found = self._repository.refs.refs.get(command.name, ZERO_OID)
        if found == command.old:
            return None
        return _moved(RefMoved(command.name, found if found != ZERO_OID else None))

    def _commit(self, request: PushRequest, wanted: list[RefUpdate], incoming: IncomingPack, blob: Blob | None) -> None:
        repository = self._repository
        peeled = {command: peel(incoming.objects, command.new) for command in wanted if not command.deletes}
        with self._database.transaction() as tx:
            generation = bump(tx, repository.id)
            moved = []
            for command in wanted:
                try:
                    move_ref(tx, repository.id, command, peeled.get(command))
                    moved.append(command)
                except RefMoved as conflict:
                    self._refused[command] = _moved(conflict)
                except RefsCollide as conflict:
                    self._refused[command] = str(conflict)
            if not moved or (request.atomic and self._refused):
                raise _NothingMoves
            if blob is not None:
                self._storage.add_pack(tx, blob, generation, incoming.object_count, incoming.pack_bytes)
            head = _first_branch(moved)
            if head is not None:
                settle_head(tx, repository.id, head)
            self._finish(tx, moved, generation, request.options)

    def _report(self, request: PushRequest, trouble: str | None) -> Iterator[bytes]:
        if not request.wants_report:
            if request.side_band:
                yield FLUSH_PACKET
            return
        lines = [b"unpack " + (_one_line(trouble) if trouble else b"ok") + b"\n"]
        for command in request.commands:
            reason = self._refused.get(command) or ("unpacker error" if trouble else None)
            lines.append(b"ng %b %b\n" % (command.name, _one_line(reason)) if reason else b"ok %b\n" % command.name)
        report = b"".join(map(pkt, lines)) + FLUSH_PACKET
        if not request.side_band:
            yield report
            return
        yield from band(BAND_DATA, report)
        yield FLUSH_PACKET


def _first_branch(moved: Sequence[RefUpdate]) -> bytes | None:
    """The branch that HEAD of a so far empty repository should point at."""
    branches = [change.name for change in moved if change.name.startswith(ref_names.BRANCHES) and not change.deletes]
    usual = [name for name in _DEFAULT_BRANCHES if name in branches]
    return next(iter(usual or branches), None)


def _moved(conflict: RefMoved) -> str:
    return f"stale info: {conflict}"


def _one_line(text: str) -> bytes:
    return " ".join(text.split()).encode()[:1000]


def _drain(stream: Reader) -> None:
    """Let the client finish sending, so that it comes to read why it was refused."""
    left = _DRAIN_BYTES
    while left > 0 and (piece := stream.read(1 << 18)):
        left -= len(piece)
