"""Protocol version 2 of fetching: capabilities, then one command after another.

Source: gitprotocol-v2(5).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from gitserver.core.errors import TooMuch
from gitserver.git.delivery import SIDE_BAND_64K_BYTES, Fetching
from gitserver.git.negotiation import Negotiation
from gitserver.git.objects import ObjectId
from gitserver.git.protocol import (
    AGENT,
    DELIM,
    DELIM_PACKET,
    END,
    FLUSH,
    FLUSH_PACKET,
    PacketReader,
    ProtocolError,
    Special,
    pkt,
    printable,
)
from gitserver.git.shallow import Boundary
from gitserver.git.upload_request import FetchRequest, read_oid

CAPABILITIES = (
    AGENT,
    b"ls-refs=unborn",
    b"fetch=shallow wait-for-done filter ref-in-want",
    b"server-option",
    b"object-format=sha1",
    b"object-info",
)
_KEYS = frozenset({b"agent", b"object-format", b"server-option", b"session-id"})
_COMMANDS = frozenset({b"ls-refs", b"fetch", b"object-info"})
_LINES_A_PIECE = 512


def advertise_v2() -> Iterator[bytes]:
    """What the server can do."""
    yield b"".join((pkt(b"version 2\n"), *(pkt(line + b"\n") for line in CAPABILITIES), FLUSH_PACKET))


def answer_v2(fetching: Fetching, reader: PacketReader) -> Iterator[bytes] | None:
    """Read one request and answer it; None where the client says that it is done.

    Raises:
        ProtocolError: the request is not one.
        TooMuch: it passes a cap.
    """
    command = _command(fetching, reader)
    if command is None:
        return None
    name, has_arguments = command
    arguments = _arguments(fetching, reader) if has_arguments else iter(())
    if name == b"ls-refs":
        return _ls_refs(fetching, arguments)
    if name == b"fetch":
        return _fetch(fetching, arguments)
    return _object_info(fetching, arguments)


def _command(fetching: Fetching, reader: PacketReader) -> tuple[bytes, bool] | None:
    """Read the command and its capabilities: the command's name, and whether arguments follow."""
    name: bytes | None = None
    options = lines = 0
    while isinstance(line := reader.line(), bytes):
        lines += 1
        key, _, value = line.partition(b"=")
        if key == b"command" and name is not None:
            raise ProtocolError(f"command {printable(value[:60])!r} requested after {printable(name)!r}")
        if key == b"command" and value not in _COMMANDS:
            raise ProtocolError(f"invalid command {printable(value[:60])!r}")
        if key == b"command":
            name = value
        elif key not in _KEYS:
            raise ProtocolError(f"unknown capability {printable(line[:60])!r}")
        elif key == b"object-format" and value != b"sha1":
            raise ProtocolError(f"mismatched object format: server sha1; client {printable(value[:60])}")
        options += key == b"server-option"
        if options > fetching.limits.server_options:
            raise TooMuch(f"no more than {fetching.limits.server_options} server options may be sent")
    if line not in (FLUSH, DELIM) and (lines or line is not END):
        raise ProtocolError(f"expected a flush packet, found {line}")
    if name is None:
        if lines or line is DELIM:
            raise ProtocolError("no command requested")
        return None
    return name, line is DELIM


def _arguments(fetching: Fetching, reader: PacketReader) -> Iterator[bytes]:
    """The lines up to the flush packet, one at a time: gzip makes a list of millions out of a few kilobytes."""
    lines = 0
    while (line := reader.line()) is not FLUSH:
        if isinstance(line, Special):
            raise ProtocolError(f"expected a flush packet, found {line}")
        lines += 1
        if lines > fetching.limits.lines:
            raise TooMuch(f"no more than {fetching.limits.lines} arguments may be sent")
        yield line


def _unexpected(line: bytes) -> ProtocolError:
    return ProtocolError(f"unexpected line: {printable(line[:200])!r}")


def _ls_refs(fetching: Fetching, arguments: Iterator[bytes]) -> Iterator[bytes]:
    flags: set[bytes] = set()
    prefixes: list[bytes] = []
    for line in arguments:
        word, space, value = line.partition(b" ")
        if line in (b"peel", b"symrefs", b"unborn"):
            flags.add(line)
        elif word == b"ref-prefix" and space:
            if len(prefixes) <= fetching.limits.ref_prefixes:
                prefixes.append(value)
        else:
            raise _unexpected(line)
    if len(prefixes) > fetching.limits.ref_prefixes:
        prefixes = []
    return _pieces(chain(_refs(fetching, flags, Prefixes(prefixes or [b""])), [FLUSH_PACKET]))


class Prefixes:
    """Beginnings of ref names. Whether a name has one of many is found as quickly as whether it has one of few."""

    def __init__(self, prefixes: Iterable[bytes]) -> None:
        self._ascending: list[bytes] = []  # none begins with another, so only the last one up to a name can begin it
        for prefix in sorted(prefixes):
            if not self._ascending or not prefix.startswith(self._ascending[-1]):
                self._ascending.append(prefix)

    def begin(self, name: bytes) -> bool:
        """Whether *name* begins with one of them."""
        place = bisect_right(self._ascending, name)
        return place > 0 and name.startswith(self._ascending[place - 1])


def _refs(fetching: Fetching, flags: set[bytes], prefixes: Prefixes) -> Iterator[bytes]:
    visible = fetching.visible
    symref = visible.symref
    if symref is not None and prefixes.begin(b"HEAD"):
        target = b" symref-target:" + symref if b"symrefs" in flags else b""
        if visible.head is not None:
            yield pkt(b"%b HEAD%b\n" % (visible.head.hex().encode(), target))
        elif target and b"unborn" in flags:
            yield pkt(b"unborn HEAD%b\n" % target)
    peeled = visible.peeled if b"peel" in flags else {}
    for name, oid in visible.refs.items():
        if prefixes.begin(name):
            end = peeled.get(name)
            attribute = b"" if end is None else b" peeled:" + end.hex().encode()
            yield pkt(b"%b %b%b\n" % (oid.hex().encode(), name, attribute))


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    while piece := b"".join(islice(lines, _LINES_A_PIECE)):
        yield piece


def _fetch(fetching: Fetching, arguments: Iterator[bytes]) -> Iterator[bytes]:
    request = _fetch_request(fetching, arguments)
    wanted_refs = _wanted_refs(fetching, request)
    fetching.reachable.require(request.wants)
    if request.haves:
        return _acknowledge(fetching, request, wanted_refs)
    if not request.wants:
        return iter((FLUSH_PACKET,))
    return _packfile(fetching, request, wanted_refs, [])


_FLAGS = {
    b"done": "done",
    b"thin-pack": "thin_pack",
    b"no-progress": "no_progress",
    b"include-tag": "include_tag",
    b"ofs-delta": "ofs_delta",
    b"deepen-relative": "relative",
    b"wait-for-done": "wait_for_done",
}


def _fetch_request(fetching: Fetching, arguments: Iterator[bytes]) -> FetchRequest:
    request = FetchRequest(fetching.limits, side_band_bytes=SIDE_BAND_64K_BYTES)
    for line in arguments:
        word, space, value = line.partition(b" ")
        if line in _FLAGS:
            setattr(request, _FLAGS[line], True)
        elif word == b"want" and space:
            request.want(read_oid(value))
        elif word == b"have" and space:
            request.have(value)
        elif word == b"want-ref" and space:
            request.want_ref(value)
        elif not request.take(line):
            raise _unexpected(line)
    request.check()
    return request


def _wanted_refs(fetching: Fetching, request: FetchRequest) -> list[tuple[bytes, ObjectId]]:
    """Look the refs in ``want-ref`` lines up, and want what they point at."""
    found: list[tuple[bytes, ObjectId]] = []
    for name in request.want_refs:
        oid = fetching.visible.find(name)
        if oid is None:
            raise ProtocolError(f"unknown ref {printable(name[:200])}")
        request.want(oid)
        found.append((name, oid))
    return found


def _acknowledge(
    fetching: Fetching, request: FetchRequest, wanted_refs: list[tuple[bytes, ObjectId]]
) -> Iterator[bytes]:
    talk = Negotiation(fetching.graph, fetching.store, request.wants)
    for oid in request.haves:
        talk.hear(oid)
    if not request.done:
        acks = [pkt(b"ACK %b\n" % oid.hex().encode()) for oid in talk.common] or [pkt(b"NAK\n")]
        ready = not request.wait_for_done and bool(request.wants) and talk.is_enough()
        yield b"".join((pkt(b"acknowledgments\n"), *acks, pkt(b"ready\n") if ready else b""))
        if not ready:
            yield FLUSH_PACKET
            return
        yield DELIM_PACKET
    yield from _packfile(fetching, request, wanted_refs, list(talk.common))


def _packfile(
    fetching: Fetching, request: FetchRequest, wanted_refs: list[tuple[bytes, ObjectId]], common: list[ObjectId]
) -> Iterator[bytes]:
    edge = fetching.boundary(request)
    sections: list[bytes] = []
    if request.asks_for_depth or request.ends:
        sections += [pkt(b"shallow-info\n"), *shallow_lines(edge), DELIM_PACKET]
    if wanted_refs:
        lines = (pkt(b"%b %b\n" % (oid.hex().encode(), name)) for name, oid in wanted_refs)
        sections += [pkt(b"wanted-refs\n"), *lines, DELIM_PACKET]
    yield b"".join((*sections, pkt(b"packfile\n")))
    yield from fetching.pack(request, common, edge)
    yield FLUSH_PACKET


def shallow_lines(edge: Boundary) -> Iterator[bytes]:
    """Tell the client how the ends of its history move."""
    for oid in edge.shallow:
        yield pkt(b"shallow " + oid.hex().encode())
    for oid in edge.unshallow:
        yield pkt(b"unshallow " + oid.hex().encode())


def _object_info(fetching: Fetching, arguments: Iterator[bytes]) -> Iterator[bytes]:
    oids: dict[ObjectId, None] = {}
    with_size = False
    for line in arguments:
        word, space, value = line.partition(b" ")
        if line == b"size":
            with_size = True
        elif word == b"oid" and space:
            oids[read_oid(value)] = None
        else:
            raise _unexpected(line)
        if len(oids) > fetching.limits.object_info_ids:
            raise TooMuch(f"object-info: no more than {fetching.limits.object_info_ids} ids may be asked for")
    return _info_lines(fetching, oids, with_size)


def _info_lines(fetching: Fetching, oids: dict[ObjectId, None], with_size: bool) -> Iterator[bytes]:
    lacking = fetching.reachable.lacking(oids)
    if with_size:
        yield pkt(b"size")
    for oid in oids:
        size = b"" if oid in lacking else b"%d" % fetching.store.size(oid)
        yield pkt(b"%b %b" % (oid.hex().encode(), size) if with_size else oid.hex().encode())
    yield FLUSH_PACKET
