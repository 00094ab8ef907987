"""The PROXY protocol: where a connection that came through a load balancer really came from.

Only connections of trusted proxies are read this way, and they *must* then begin with a header: a client that could
choose would choose its own address.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, versions 1 (text) and 2 (binary).
"""

import socket
import struct
import time
from ipaddress import ip_address

from gitserver.core.addresses import plain_address
from gitserver.core.errors import Invalid

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2
MAX_TEXT_BYTES = 107  # of version 1, its line end included
MAX_BINARY_BYTES = 2048  # of version 2's addresses and extensions; no real proxy comes near


class ProxyHeaderRefused(Invalid):
    """A trusted proxy did not begin with a PROXY header, or with a broken one."""


def read_header(sock: socket.socket, timeout_s: float) -> str | None:
    """Take the header off *sock*, and not one byte more.

    Returns:
        The client's address, or None where the proxy speaks for itself (a health check).

    Raises:
        ProxyHeaderRefused: there is no whole and correct header within the time.
    """
    reader = _Bytes(sock, time.monotonic() + timeout_s)
    start = reader.take(len(SIGNATURE))
    return _binary(reader) if start == SIGNATURE else _text(reader, start)


class _Bytes:
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise ProxyHeaderRefused("the proxy's header did not come in time")
            self._sock.settimeout(left)
            try:
                more = self._sock.recv(size - len(data))
            except OSError as gone:
                raise ProxyHeaderRefused("the proxy's header did not come") from gone
            if not more:
                raise ProxyHeaderRefused("the connection ended inside the proxy's header")
            data += more
        return data


def _text(reader: _Bytes, line: bytes) -> str | None:
    while not line.endswith(b"\r\n"):
        if not line.startswith(b"PROXY ") or len(line) >= MAX_TEXT_BYTES:
            raise ProxyHeaderRefused("a trusted proxy did not begin with a PROXY header; is it told to send one?")
        line += reader.take(1)
    words = line[:-2].split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyHeaderRefused("the proxy's header is not PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT")
    try:
        return str(plain_address(words[2].decode("ascii")))
    except ValueError as reason:
        raise ProxyHeaderRefused("the proxy's header names no address") from reason


def _binary(reader: _Bytes) -> str | None:
    command, family, length = struct.unpack(">BBH", reader.take(4))
    if command >> 4 != 2 or length > MAX_BINARY_BYTES:
        raise ProxyHeaderRefused("the proxy's header has an unknown version or is too long")
    body = reader.take(length)
    if command & 15 == 0:
        return None
    if command & 15 != 1:
        raise ProxyHeaderRefused("the proxy's header has an unknown command")
    size = {0x11: 4, 0x21: 16}.get(family)
    if size is None:
        return None
    if length < 2 * size + 4:
        raise ProxyHeaderRefused("the proxy's header is too short for its addresses")
    return str(plain_address(str(ip_address(body[:size]))))
