"""What a client asks of upload-pack: the lines that protocol v0, v1 and v2 share, read under caps.

Source: gitprotocol-pack(5), ``upload-request``; gitprotocol-v2(5), ``fetch``.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from gitserver.core.errors import TooMuch
from gitserver.git.filters import EVERYTHING, Filter, parse_filter
from gitserver.git.objects import ObjectId, ObjectMalformed, oid_from_hex
from gitserver.git.protocol import ProtocolError, Reader, printable


@dataclass(frozen=True)
class UploadLimits:
    """Caps on what one fetch may ask. A stateful conversation as a whole is one fetch."""

    wants: int = 100_000
    haves: int = 200_000
    shallow_lines: int = 100_000
    deepen_not_lines: int = 100
    ref_prefixes: int = 65_536  # more than that count as none, as in git
    lines: int = 1_000_000  # arguments of one command, useless ones included
    server_options: int = 100
    object_info_ids: int = 10_000
    rounds: int = 10_000  # of negotiation, and of commands
    request_bytes: int = 64 * 1024 * 1024  # all that one request, or one whole conversation, may send
    searched_trees: int = 5_000_000  # trees read to see whether a tree or blob wanted by id is reachable


class Metered:
    """A reader that stops a peer who sends more than is sensible."""

    def __init__(self, stream: Reader, limit_bytes: int) -> None:
        self._stream = stream
        self._limit = self._left = limit_bytes

    def read(self, size: int, /) -> bytes:
        """See :class:`Reader`.

        Raises:
            TooMuch: the limit is passed.
        """
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TooMuch(f"a request may be {self._limit} bytes long")
        return data


@dataclass
class FetchRequest:
    """A fetch as asked for so far. Ids are not looked up yet."""

    limits: UploadLimits
    wants: dict[ObjectId, None] = field(default_factory=dict)
    want_refs: dict[bytes, None] = field(default_factory=dict)
    haves: dict[ObjectId, None] = field(default_factory=dict)
    heard: int = 0  # have lines
    ends: dict[ObjectId, None] = field(default_factory=dict)  # the client's shallow commits
    depth: int = 0
    relative: bool = False
    since: int | None = None
    excluded_refs: list[bytes] = field(default_factory=list)
    passing: Filter = EVERYTHING
    done: bool = False
    thin_pack: bool = False
    ofs_delta: bool = False
    no_progress: bool = False
    include_tag: bool = False
    wait_for_done: bool = False
    side_band_bytes: int = 0  # the largest packet, length digits included; 0: no side band

    @property
    def asks_for_depth(self) -> bool:
        """Whether the end of the client's history is to move."""
        return bool(self.depth or self.since is not None or self.excluded_refs)

    def take(self, line: bytes) -> bool:
        """Take a line that every protocol version has; False if *line* is not one.

        Raises:
            ProtocolError, TooMuch, FilterNotSupported: the line is one, but not a good one.
        """
        word, space, value = line.partition(b" ")
        take = self._TAKERS.get(word)
        if take is None or not space:
            return False
        take(self, value)
        return True

    def want(self, oid: ObjectId) -> None:
        """Take a wanted object."""
        _capped(self.wants, self.limits.wants, "objects", "wanted")
        self.wants[oid] = None

    def want_ref(self, name: bytes) -> None:
        """Take a wanted ref's full name."""
        _capped(self.want_refs, self.limits.wants, "refs", "wanted")
        self.want_refs[name] = None

    def have(self, value: bytes) -> ObjectId:
        """Take an object that the client has."""
        oid = read_oid(value)
        self.heard += 1  # repeated ones too: each may cost an answer
        if self.heard > self.limits.haves:
            raise TooMuch(f"upload-pack: no more than {self.limits.haves} have lines may be sent")
        self.haves[oid] = None
        return oid

    def check(self) -> None:
        """Refuse what cannot be asked together.

        Raises:
            ProtocolError: a depth, and a date or an excluded ref.
        """
        if self.depth and (self.since is not None or self.excluded_refs):
            raise ProtocolError("upload-pack: deepen and deepen-since (or deepen-not) cannot be used together")

    def _shallow(self, value: bytes) -> None:
        _capped(self.ends, self.limits.shallow_lines, "shallow lines", "sent")
        self.ends[read_oid(value)] = None

    def _deepen(self, value: bytes) -> None:
        if not _NUMBER.fullmatch(value):
            raise ProtocolError(f"upload-pack: invalid deepen: {printable(value[:60])}")
        self.depth = int(value)

    def _deepen_since(self, value: bytes) -> None:
        if not _NUMBER.fullmatch(value) or not int(value):
            raise ProtocolError(f"upload-pack: invalid deepen-since: {printable(value[:60])}")
        self.since = int(value)

    def _deepen_not(self, value: bytes) -> None:
        _capped(self.excluded_refs, self.limits.deepen_not_lines, "deepen-not lines", "sent")
        self.excluded_refs.append(value)

    def _filter(self, value: bytes) -> None:
        self.passing = parse_filter(value)

    _TAKERS = {  # noqa: RUF012  # a table of methods, never changed
        b"shallow": _shallow,
        b"deepen": _deepen,
        b"deepen-since": _deepen_since,
        b"deepen-not": _deepen_not,
        b"filter": _filter,
    }


def read_oid(value: bytes) -> ObjectId:
    """An object id from the wire.

    Raises:
        ProtocolError: *value* is none.
    """
    try:
        return oid_from_hex(value)
    except ObjectMalformed as malformed:
        raise ProtocolError(f"upload-pack: {malformed}") from malformed


def _capped(found: Collection[object], limit: int, what: str, done: str) -> None:
    if len(found) >= limit:
        raise TooMuch(f"upload-pack: no more than {limit} {what} may be {done}")


_NUMBER = re.compile(rb"\d{1,12}")
