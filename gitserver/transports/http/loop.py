"""One process's connections: everything slow waits here, in one selector; only whole requests get a thread.

- A thread *must* never wait for a handshake or a head: a stranger who sends nothing costs a socket, not a thread.
- A connection is owned by the loop or by one thread, never by both.
- Every stage has a deadline; the loop closes what passes it.
"""

import contextlib
import logging
import os
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence

from gitserver.transports.http.connection import Connection, Stage
from gitserver.transports.http.settings import HttpSettings

TICK_S = 0.25
DRAIN_S = 5.0
MAX_DRAIN_BYTES = 2**26
HEAD_END = b"\r\n\r\n"

_log = logging.getLogger("gitserver.http")

Answer = Callable[[Connection, bytes], bool]
"""Answers the request whose head is given; True if the connection may carry another one."""

Refusal = Callable[[int, str], bytes]
"""A whole response, head included, for a status and a sentence."""


class Loop:
    """Accepts, shakes hands, collects heads, hands requests to threads, times out.

    Args:
        listeners: bound, listening sockets; shared with other processes.
        tls: the server's context.
        settings: the limits.
        answer: called in a thread for each request.
        refuse: makes the answers that the loop gives by itself.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        tls: ssl.SSLContext,
        settings: HttpSettings,
        answer: Answer,
        refuse: Refusal,
    ) -> None:
        self._listeners = listeners
        self._tls = tls
        self._settings = settings
        self._answer = answer
        self._refuse = refuse
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._busy = 0
        self._requests: queue.SimpleQueue[tuple[Connection, bytes] | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[tuple[Connection, bool]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._swept = 0.0
        self._stopping = False

    def run(self, alive: Callable[[], bool], tick: Callable[[], None], signals: int | None = None) -> None:
        """Serve while *alive*, then finish what runs, within ``stop_timeout_s``.

        Args:
            alive: asked several times a second.
            tick: called several times a second; tells a supervisor that the process is well.
            signals: a descriptor that becomes readable when *alive* may have changed.
        """
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._settings.threads)]
        for thread in threads:
            thread.start()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        if signals is not None:
            self._selector.register(signals, selectors.EVENT_READ)
        for listener in self._listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ)
        try:
            while alive():
                tick()
                self._turn()
            self._stop(tick)
        finally:
            self._close(threads)

    def wake(self) -> None:
        """Make the loop look around now. Callable from any thread."""
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"\0")

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            connection, head = request
            again = False
            try:
                again = self._answer(connection, head)
            except Exception:
                _log.exception("a request of %s was dropped", connection.address[0])
                connection.abort()
            finally:
                self._answered.put((connection, again))
                self.wake()

    def _turn(self) -> None:
        for key, _ in self._selector.select(TICK_S):
            match key.fileobj:
                case Connection() as connection:
                    self._advance(connection)
                case socket.socket() as listener if listener is not self._wake_read:
                    self._accept(listener)
                case waker:
                    _empty(waker)
        while not self._answered.empty():
            self._take_back(*self._answered.get())
        now = time.monotonic()
        if now - self._swept >= TICK_S:
            self._swept = now
            self._sweep(now)

    def _accept(self, listener: socket.socket) -> None:
        if len(self._connections) >= self._settings.max_connections and not self._make_room():
            time.sleep(0.01)  # all are busy: leave it to another process, and do not spin
            return
        try:
            plain, address = listener.accept()
        except OSError as unable:  # another process took it, or it went away, or no descriptor is left
            if not isinstance(unable, BlockingIOError | ConnectionAbortedError):
                _log.warning("cannot accept a connection: %s", unable)
                self._make_room()
            return
        plain.setblocking(False)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except OSError:
            plain.close()
            return
        connection = Connection(tls, (address[0], address[1]), self._settings, time.monotonic())
        self._connections.add(connection)
        self._selector.register(connection, selectors.EVENT_READ)
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        try:
            match connection.stage:
                case Stage.HANDSHAKE:
                    self._shake_hands(connection)
                case Stage.IDLE | Stage.HEAD:
                    self._collect(connection)
                case Stage.DRAINING:
                    self._drain(connection)
        except (OSError, ValueError):
            self._drop(connection)

    def _shake_hands(self, connection: Connection) -> None:
        try:
            connection.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._selector.modify(connection, selectors.EVENT_READ)
            return
        except ssl.SSLWantWriteError:
            self._selector.modify(connection, selectors.EVENT_WRITE)
            return
        self._selector.modify(connection, selectors.EVENT_READ)
        connection.stage = Stage.IDLE
        connection.deadline = time.monotonic() + self._settings.header_timeout_s
        self._collect(connection)

    def _collect(self, connection: Connection) -> None:
        """Read until the head is whole. Bytes of the body that came with it are handed over too."""
        held = bytearray(connection.intake.take_buffered())
        wanting = True
        while wanting and HEAD_END not in held and len(held) <= self._settings.max_header_bytes:
            try:
                data = connection.tls.recv(16384)
            except ssl.SSLWantReadError:
                wanting = False
            except ssl.SSLWantWriteError:
                wanting = False
            else:
                if not data:
                    self._drop(connection)
                    return
                held += data
        if held[:2] == b"\r\n":  # one empty line before a request is forgiven; RFC 9112 section 2.2
            del held[:2]
        end = held.find(HEAD_END)
        if end < 0 and len(held) <= self._settings.max_header_bytes:
            self._wait_for_head(connection, bytes(held))
        elif end < 0 or end > self._settings.max_header_bytes:
            limit = self._settings.max_header_bytes
            self._say_and_finish(connection, 431, f"the request's headers are longer than {limit} bytes")
        elif self._busy >= self._settings.max_concurrent_requests:
            self._say_and_finish(connection, 503, "the server is busy; try again in a few seconds")
        else:
            self._hand_over(connection, bytes(held))

    def _wait_for_head(self, connection: Connection, held: bytes) -> None:
        connection.intake.unread(held)
        if held and connection.stage is Stage.IDLE:
            connection.stage = Stage.HEAD
            connection.deadline = time.monotonic() + self._settings.header_timeout_s

    def _hand_over(self, connection: Connection, head: bytes) -> None:
        self._selector.unregister(connection)
        connection.stage = Stage.BUSY
        self._busy += 1
        self._requests.put((connection, head))

    def _take_back(self, connection: Connection, again: bool) -> None:
        self._busy -= 1
        if connection.fileno() < 0:
            self._connections.discard(connection)
            return
        if again and not self._stopping:
            connection.stage = Stage.IDLE
            connection.deadline = time.monotonic() + self._settings.keep_alive_timeout_s
            self._selector.register(connection, selectors.EVENT_READ)
            self._advance(connection)  # the next request may be here already, in TLS's own buffer
        else:
            self._selector.register(connection, selectors.EVENT_READ)
            self._finish(connection)

    def _say_and_finish(self, connection: Connection, status: int, sentence: str) -> None:
        _log.warning("%s was told %d: %s", connection.address[0], status, sentence)
        connection.tls.send(self._refuse(status, sentence))  # fits the socket's buffer, or the client is gone
        self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        connection.finish()
        connection.stage = Stage.DRAINING
        connection.deadline = time.monotonic() + DRAIN_S
        self._advance(connection)

    def _drain(self, connection: Connection) -> None:
        while connection.drained_bytes < MAX_DRAIN_BYTES:
            try:
                data = connection.tls.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            if not data:
                break
            connection.drained_bytes += len(data)
        self._drop(connection)

    def _sweep(self, now: float) -> None:
        for connection in [c for c in self._connections if c.stage is not Stage.BUSY and c.deadline < now]:
            if connection.stage is Stage.HEAD:
                with contextlib.suppress(OSError):
                    connection.tls.send(self._refuse(408, "the request's headers came too slowly"))
            self._drop(connection)

    def _make_room(self) -> bool:
        """Close the waiting connection that is nearest its end, so that strangers who wait cannot lock others out."""
        waiting = [c for c in self._connections if c.stage is not Stage.BUSY]
        if not waiting:
            return False
        self._drop(min(waiting, key=lambda c: c.deadline))
        return True

    def _drop(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        connection.close()
        self._connections.discard(connection)

    def _stop(self, tick: Callable[[], None]) -> None:
        self._stopping = True
        for listener in self._listeners:
            self._selector.unregister(listener)
            listener.close()
        for connection in [c for c in self._connections if c.stage in (Stage.HANDSHAKE, Stage.IDLE, Stage.HEAD)]:
            self._drop(connection)
        limit = time.monotonic() + self._settings.stop_timeout_s
        while self._connections and time.monotonic() < limit:
            tick()
            self._turn()

    def _close(self, threads: Sequence[threading.Thread]) -> None:
        for connection in self._connections:
            connection.interrupt()
        for _ in threads:
            self._requests.put(None)
        limit = time.monotonic() + 1.0
        for thread in threads:
            thread.join(max(0.0, limit - time.monotonic()))
        for connection in self._connections:
            connection.close()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()


def _empty(waker: object) -> None:
    descriptor = waker if isinstance(waker, int) else waker.fileno()  # type: ignore[attr-defined]
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)
