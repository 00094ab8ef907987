"""One client's TLS connection, with a time limit on everything the client can delay."""

import contextlib
import socket
import ssl
import time
from enum import Enum

from gunicorn.http.unreader import Unreader

from gitserver.transports.http.body import BodyTooSlow
from gitserver.transports.http.settings import HttpSettings

SEND_BYTES = 65536  # what the write idle time is allowed for, at least: with 30 s, clients slower than 2 KiB/s are cut
RECORD_BYTES = 16384  # most that one TLS record carries; RFC 8446 section 5.1


class ClientGone(Exception):
    """The client closed, reset or stopped taking bytes; there is nobody left to tell."""


class Stage(Enum):
    """What a connection is waiting for."""

    HANDSHAKE = "the TLS handshake"
    IDLE = "the first byte of a request"
    HEAD = "the rest of a request's head"
    BUSY = "its answer; a thread owns the connection"
    DRAINING = "the client to read the last answer and close"


class Connection:
    """A socket and where it stands. Owned by the loop, or, while BUSY, by one thread.

    Args:
        tls: the socket, wrapped, not yet shaken hands.
        address: the peer's address and port.
        settings: the limits.
        now: the monotonic time.
    """

    def __init__(self, tls: ssl.SSLSocket, address: tuple[str, int], settings: HttpSettings, now: float) -> None:
        self.tls = tls
        self.address = address
        self.settings = settings
        self.stage = Stage.HANDSHAKE
        self.deadline = now + settings.header_timeout_s
        self.intake = Intake(self)
        self.requests = 0
        self.drained_bytes = 0
        self.broken = False  # a response ended midway; must not look like a clean end
        self._body_deadline = 0.0
        self._body_idle_s = settings.body_idle_timeout_s
        self._response_deadline = 0.0
        self._timeout: float | None = None

    def fileno(self) -> int:
        """For the selector."""
        return self.tls.fileno()

    def begin_request(self) -> None:
        """Hand the socket to the calling thread: from now on calls wait, within limits."""
        self.requests += 1
        self._body_deadline = 0.0
        self._body_idle_s = self.settings.body_idle_timeout_s
        self._response_deadline = 0.0
        self._timeout = None

    def hurry(self, seconds: float) -> None:
        """From now on the body has only *seconds* left."""
        self._body_deadline = time.monotonic() + seconds
        self._body_idle_s = seconds

    def end_request(self) -> None:
        """Give the socket back to the loop, where no call waits."""
        self.tls.settimeout(0)

    def take(self, limit: int) -> bytes:
        """See ``body.Arriving``.

        Raises:
            BodyTooSlow: nothing came for the idle time, or the whole body takes too long.
        """
        now = time.monotonic()
        if not self._body_deadline:
            self._body_deadline = now + self.settings.body_timeout_s
        if now > self._body_deadline:
            raise BodyTooSlow(self.settings.body_timeout_s, "all of it")
        self._wait_at_most(self._body_idle_s)
        try:
            return self.tls.recv(limit)
        except TimeoutError as silent:
            raise BodyTooSlow(self._body_idle_s, "its next byte") from silent
        except OSError:
            return b""  # reset or broken off; the body's reader knows whether that was too early

    def send(self, data: bytes) -> None:
        """Send all of *data*.

        Raises:
            ClientGone: the client closed, took not even 64 KiB in the idle time, or takes too long for everything.
        """
        self._wait_at_most(self.settings.write_idle_timeout_s)
        view = memoryview(data)
        while view:
            now = time.monotonic()
            if not self._response_deadline:
                self._response_deadline = now + self.settings.response_timeout_s
            if now > self._response_deadline:
                raise ClientGone(f"the response took more than {self.settings.response_timeout_s:g} seconds")
            try:
                view = view[self.tls.send(view[:SEND_BYTES]) :]
            except TimeoutError as stalled:
                raise ClientGone(
                    f"it took less than {SEND_BYTES} bytes in {self.settings.write_idle_timeout_s:g} seconds"
                ) from stalled
            except OSError as gone:
                raise ClientGone(str(gone)) from gone

    def close(self) -> None:
        """Close at once. Safe to call twice."""
        self.tls.close()

    def abort(self) -> None:
        """Reset the connection: for a response whose only end is the connection's own."""
        with contextlib.suppress(OSError):
            self.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.tls.close()

    def interrupt(self) -> None:
        """Make a thread's waiting call fail; callable from another thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.tls, socket.SHUT_RDWR)

    def finish(self) -> None:
        """Say that no more will be sent, and keep reading: closing now could destroy an answer still on its way.

        A broken connection ends without TLS's close_notify.
        """
        with contextlib.suppress(OSError, ValueError):
            self.tls.settimeout(0)
            if not self.broken:
                self.tls.unwrap()  # sends close_notify; the peer's own is not waited for
        with contextlib.suppress(OSError):
            self.tls.shutdown(socket.SHUT_WR)  # from here the socket reads raw bytes, which are only discarded

    def _wait_at_most(self, seconds: float) -> None:
        if self._timeout != seconds:
            self.tls.settimeout(seconds)
            self._timeout = seconds


class Intake(Unreader):
    """What gunicorn's parser reads from: the head the loop collected, then the body, with its limits."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.in_head = True

    @property
    def held(self) -> int:
        """How many bytes wait in the buffer."""
        return int(self.buf.getbuffer().nbytes)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """See gunicorn: the next bytes of the source."""
        if self.in_head:
            return b""  # the head was whole when it was handed over; the parser reports a cut one
        return self._connection.take(min(size_hint or RECORD_BYTES, 4 * RECORD_BYTES))

    def take(self, limit: int) -> bytes:
        """See ``body.Arriving``: what is held first, then the connection."""
        if self.held:
            data: bytes = self.buf.getvalue()
            self.take_buffered()
            if len(data) > limit:
                self.unread(data[limit:])
            return data[:limit]
        return self._connection.take(limit)
