"""Protocol versions 0 and 1 of fetching: the advertisement, the request, rounds of haves, the pack.

Source: gitprotocol-pack(5), gitprotocol-capabilities(5), gitprotocol-http(5).
"""

from collections.abc import Generator, Iterator
from itertools import chain, islice

from gitserver.core.errors import TooMuch
from gitserver.git.delivery import SIDE_BAND_64K_BYTES, SIDE_BAND_BYTES, Fetching
from gitserver.git.negotiation import Negotiation
from gitserver.git.objects import ObjectId
from gitserver.git.protocol import (
    AGENT,
    END,
    FLUSH,
    FLUSH_PACKET,
    PacketReader,
    ProtocolError,
    Special,
    capabilities,
    pkt,
    printable,
)
from gitserver.git.upload_request import FetchRequest, read_oid
from gitserver.git.upload_v2 import shallow_lines

_BEFORE_SYMREF = (
    b"multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not deepen-relative "
    b"no-progress include-tag multi_ack_detailed allow-tip-sha1-in-want allow-reachable-sha1-in-want no-done"
)
_AFTER_SYMREF = b"filter object-format=sha1 " + AGENT
_NO_REFS = b"0" * 40 + b" capabilities^{}"
_LINES_A_PIECE = 512
NAK = pkt(b"NAK\n")


def advertise_v0(fetching: Fetching, version: int) -> Iterator[bytes]:
    """The refs, the first of them with the capabilities behind it."""
    if version == 1:
        yield pkt(b"version 1\n")
    lines = _advertised(fetching)
    first = next(lines, _NO_REFS)
    head = pkt(b"%b\0%b\n" % (first, _offer(fetching)))
    packets = chain([head], (pkt(line + b"\n") for line in lines), [FLUSH_PACKET])
    while piece := b"".join(islice(packets, _LINES_A_PIECE)):
        yield piece


def _advertised(fetching: Fetching) -> Iterator[bytes]:
    visible = fetching.visible
    if visible.head is not None:
        yield visible.head.hex().encode() + b" HEAD"
    for name, oid in visible.refs.items():
        yield oid.hex().encode() + b" " + name
        if (end := visible.peeled.get(name)) is not None:
            yield end.hex().encode() + b" " + name + b"^{}"


def _offer(fetching: Fetching) -> bytes:
    symref = fetching.visible.symref  # named though it may not exist yet: some clients cannot clone otherwise
    if symref is None:
        return _BEFORE_SYMREF + b" " + _AFTER_SYMREF
    return b"%b symref=HEAD:%b %b" % (_BEFORE_SYMREF, symref, _AFTER_SYMREF)


def answer_v0(fetching: Fetching, reader: PacketReader, *, stateless: bool) -> Iterator[bytes]:
    """Read a request and answer it, up to the end of the pack.

    Raises:
        ProtocolError: what the client sends is no request.
        NotOurRef: it wants what no visible ref leads to.
        TooMuch: it passes a cap.
    """
    talk = _Request(fetching, reader, stateless=stateless)
    if not talk.read():
        return
    edge = fetching.boundary(talk.request)
    if talk.request.asks_for_depth:
        yield b"".join((*shallow_lines(edge), FLUSH_PACKET))
    common = yield from talk.negotiate()
    if common is None:
        return
    yield from fetching.pack(talk.request, common, edge)
    if talk.request.side_band_bytes:
        yield FLUSH_PACKET


class _Request:
    """One request of protocol v0 as it is read, and the rounds that follow it."""

    def __init__(self, fetching: Fetching, reader: PacketReader, *, stateless: bool) -> None:
        self.request = FetchRequest(fetching.limits)
        self._fetching = fetching
        self._reader = reader
        self._stateless = stateless
        self._multi_ack = self._detailed = self._no_done = False

    def read(self) -> bool:
        """Read what is wanted; False if nothing is."""
        first = True
        while isinstance(line := self._reader.line(), bytes):
            word, space, value = line.partition(b" ")
            if word == b"want" and space:
                oid, _, words = value.partition(b" ")
                self.request.want(read_oid(oid))
                if first:
                    self._choose(capabilities(words))
                first = False
            elif not self.request.take(line):
                raise ProtocolError(
                    f"upload-pack: protocol error, expected to get object ID, not '{printable(line[:200])}'"
                )
        if line is not FLUSH and line is not END:
            raise ProtocolError(f"upload-pack: expected a flush packet, found {line}")
        if not self.request.wants:
            return False
        if line is END:
            raise ProtocolError("upload-pack: the request ends before its flush packet")
        self.request.check()
        self._fetching.reachable.require(self.request.wants)
        return True

    def _choose(self, chosen: dict[bytes, bytes]) -> None:
        if chosen.get(b"object-format", b"sha1") != b"sha1":
            raise ProtocolError("upload-pack: only the object format sha1 is served")
        request = self.request
        request.thin_pack = b"thin-pack" in chosen
        request.ofs_delta = b"ofs-delta" in chosen
        request.no_progress = b"no-progress" in chosen
        request.include_tag = b"include-tag" in chosen
        request.relative = b"deepen-relative" in chosen
        if b"side-band-64k" in chosen:
            request.side_band_bytes = SIDE_BAND_64K_BYTES
        elif b"side-band" in chosen:
            request.side_band_bytes = SIDE_BAND_BYTES
        self._detailed = b"multi_ack_detailed" in chosen
        self._multi_ack = self._detailed or b"multi_ack" in chosen
        self._no_done = b"no-done" in chosen

    def negotiate(self) -> Generator[bytes, None, list[ObjectId] | None]:
        """Answer haves until the client is done: the common objects, or None where no pack is to follow."""
        talk = Negotiation(self._fetching.graph, self._fetching.store, self.request.wants)
        rounds = 0
        last: ObjectId | None = None
        common_in_round = other_in_round = sent_ready = False
        while True:
            line = self._reader.line()
            if line is END:  # a stateless client that only wanted to hear of shallow commits, or one that left
                return None
            if isinstance(line, Special):
                if line is not FLUSH:
                    raise ProtocolError(f"upload-pack: expected a flush packet, found {line}")
                ready = self._detailed and common_in_round and not other_in_round and talk.is_enough()
                if ready and last is not None:
                    sent_ready = True
                    yield _ack(last, b"ready")
                if not talk.common or self._multi_ack:
                    yield NAK
                if self._no_done and sent_ready and last is not None:
                    yield _ack(last)
                    return list(talk.common)
                rounds += 1
                if self._stateless:
                    return None
                if rounds > self._fetching.limits.rounds:
                    raise TooMuch(f"upload-pack: no more than {self._fetching.limits.rounds} rounds are negotiated")
                common_in_round = other_in_round = False
                continue
            if line == b"done":
                if not talk.common:
                    yield NAK
                elif self._multi_ack and last is not None:
                    yield _ack(last)
                return list(talk.common)
            word, space, value = line.partition(b" ")
            if word != b"have" or not space:
                raise ProtocolError(f"upload-pack: expected SHA1 list, got '{printable(line[:200])}'")
            oid = self.request.have(value)
            first_common = not talk.common
            if talk.hear(oid):
                common_in_round, last = True, oid
                if self._multi_ack:
                    yield _ack(oid, b"common" if self._detailed else b"continue")
                elif first_common:
                    yield _ack(oid)
            else:
                other_in_round = True
                if self._multi_ack and talk.is_enough():
                    sent_ready = sent_ready or self._detailed
                    yield _ack(oid, b"ready" if self._detailed else b"continue")


def _ack(oid: ObjectId, status: bytes = b"") -> bytes:
    return pkt(b"ACK %b%b\n" % (oid.hex().encode(), b" " + status if status else b""))
