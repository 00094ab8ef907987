"""pkt-lines, side bands and capabilities: the frame around every git conversation.

Source: gitprotocol-common(5), gitprotocol-pack(5), gitprotocol-capabilities(5), gitprotocol-v2(5).
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Final, Protocol

from gitserver.core.errors import Failure, Invalid

MAX_PACKET_BYTES = 65520  # LARGE_PACKET_MAX, its four length digits included
MAX_DATA_BYTES = MAX_PACKET_BYTES - 4
MAX_BAND_BYTES = MAX_DATA_BYTES - 1
MAX_ERROR_BYTES = 1000

BAND_DATA = 1
BAND_PROGRESS = 2
BAND_ERROR = 3

FLUSH_PACKET = b"0000"
DELIM_PACKET = b"0001"
RESPONSE_END_PACKET = b"0002"

AGENT = b"agent=gitserver/" + version("gitserver").encode("ascii")


class Reader(Protocol):
    """Where a conversation's bytes come from: a request body or a channel."""

    def read(self, size: int, /) -> bytes:
        """At least one and at most *size* bytes; empty only at the end."""
        ...


class ProtocolError(Invalid):
    """The peer said something that git's protocol does not allow."""


class Special:
    """A packet that carries no data."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


FLUSH: Final = Special("flush")
DELIM: Final = Special("delimiter")
RESPONSE_END: Final = Special("response end")
END: Final = Special("end of stream")

_SPECIAL = {0: FLUSH, 1: DELIM, 2: RESPONSE_END}

Packet = bytes | Special


class PacketReader:
    """Takes pkt-lines off a :class:`Reader`, and afterwards the raw bytes behind them."""

    def __init__(self, stream: Reader) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def packet(self) -> Packet:
        """The next packet's data, or which special packet it is; :data:`END` at a clean end.

        Raises:
            ProtocolError: bad length digits, or the stream ends inside a packet.
        """
        if not self._fill(4):
            if self._buffer:
                raise ProtocolError("the stream ends inside a packet's length")
            return END
        length = _length(bytes(self._buffer[:4]))
        if length in _SPECIAL:
            del self._buffer[:4]
            return _SPECIAL[length]
        if not self._fill(length):
            raise ProtocolError("the stream ends inside a packet")
        data = bytes(self._buffer[4:length])
        del self._buffer[:length]
        return data

    def line(self) -> Packet:
        """As :meth:`packet`, without one newline at the end of the data."""
        packet = self.packet()
        return packet.removesuffix(b"\n") if isinstance(packet, bytes) else packet

    def lines(self) -> Iterator[bytes]:
        """Lines up to the next flush packet.

        Raises:
            ProtocolError: another special packet, or the end of the stream, comes first.
        """
        while (packet := self.line()) is not FLUSH:
            if isinstance(packet, Special):
                raise ProtocolError(f"expected a flush packet, found {packet}")
            yield packet

    def read(self, size: int) -> bytes:
        """Raw bytes after the packets; see :class:`Reader`."""
        if self._buffer:
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            return data
        return self._stream.read(size)

    def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            more = self._stream.read(MAX_PACKET_BYTES)
            if not more:
                return False
            self._buffer += more
        return True


def pkt(data: bytes) -> bytes:
    """One pkt-line. *data* is at most :data:`MAX_DATA_BYTES` long."""
    if len(data) > MAX_DATA_BYTES:
        raise ValueError(f"{len(data)} bytes do not fit a packet")
    return b"%04x%b" % (len(data) + 4, data)


def band(number: int, data: bytes) -> Iterator[bytes]:
    """*data* on one side band, cut into packets."""
    view = memoryview(data)
    for at in range(0, len(view), MAX_BAND_BYTES):
        piece = view[at : at + MAX_BAND_BYTES]
        yield b"".join((b"%04x%c" % (len(piece) + 5, number), piece))


def error_packet(failure: Failure) -> bytes:
    """The packet that ends a conversation; git shows its text.

    Source: gitprotocol-pack(5), ``error-line``.
    """
    return pkt(b"ERR " + str(failure).encode("utf-8", "replace")[:MAX_ERROR_BYTES])


def capabilities(line: bytes) -> dict[bytes, bytes]:
    """Read a space-separated capability list: name to value, empty where there is none."""
    return {name: value for name, _, value in (word.partition(b"=") for word in line.split())}


def protocol_version(git_protocol: str) -> int:
    """The version a client asks for in ``Git-Protocol`` or ``GIT_PROTOCOL``: the highest known one.

    Source: gitprotocol-v2(5): a colon-separated list of keys; unknown ones are ignored.
    """
    wanted = 0
    for word in git_protocol.split(":"):
        key, _, value = word.partition("=")
        if key == "version" and value in ("1", "2"):
            wanted = max(wanted, int(value))
    return wanted


def printable(data: Iterable[int] | bytes) -> str:
    """*data* for a message: text where it is text, escapes where it is not."""
    return bytes(data).decode("utf-8", "backslashreplace")


def _length(digits: bytes) -> int:
    if not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        raise ProtocolError(f"bad packet length {digits!r}")
    length = int(digits, 16)
    if length == 3 or length > MAX_PACKET_BYTES:
        raise ProtocolError(f"bad packet length {length}")
    return length
