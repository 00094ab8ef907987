"""The SSH door: accepts connections until it is told to stop."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence

from gitserver.core.addresses import TrustedProxies, plain_address
from gitserver.transports.ssh.connection import Connection, Refused
from gitserver.transports.ssh.gate import Gate
from gitserver.transports.ssh.host_keys import HostKey
from gitserver.transports.ssh.proxy import ProxyHeaderRefused, read_header
from gitserver.transports.ssh.server import Authenticator
from gitserver.transports.ssh.session import Access
from gitserver.transports.ssh.settings import SshSettings
from gitserver.transports.ssh.transport import WIRE_LOG, WireLogFilter

BACKLOG = 256
TICK_S = 0.2
PROXY_HEADER_S = 5.0
FAREWELL_S = 1.0


_log = logging.getLogger(__name__)


class Listener:
    """One listening socket and the connections that came through it."""

    def __init__(
        self,
        settings: SshSettings,
        host_keys: Sequence[HostKey],
        authenticator: Authenticator,
        access: Access,
        refused: Refused,
    ) -> None:
        """Bind and listen; nothing is accepted before :meth:`run`.

        Args:
            settings: the limits.
            host_keys: in the order they are offered.
            authenticator: knows whose keys they are.
            access: opens conversations.
            refused: told once of each connection that ended without proof after trying: address, method, and the
                user name that was claimed.

        Raises:
            OSError: the address is taken or is not this machine's.
            ValueError: a trusted proxy is neither an address nor a network.
        """
        self._settings = settings
        self._host_keys = host_keys
        self._authenticator = authenticator
        self._access = access
        self._refused = refused
        self._trusted = TrustedProxies(settings.trusted_proxies)
        self._proxied = threading.BoundedSemaphore(settings.max_unauthenticated)
        self._gate = Gate(
            inside=settings.max_connections,
            knocking=settings.max_unauthenticated,
            knocking_each=settings.max_unauthenticated_per_address,
            wait_s=settings.login_s,
        )
        self._socket = _listen(settings.host, settings.port)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that are really listened on."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def run(self, stop: threading.Event) -> None:
        """Accept connections until *stop* is set; then finish running commands, for ``stop_s`` at most."""
        self._socket.settimeout(TICK_S)
        ticked = time.monotonic()
        while not stop.is_set():
            self._accept()
            if time.monotonic() - ticked > TICK_S:
                self._gate.tick()
                ticked = time.monotonic()
        self._socket.close()
        strangers = [guest for guest in self._gate.close() if isinstance(guest, Connection)]
        self._finish()
        for stranger in strangers:  # their failures are still told
            stranger.wait(FAREWELL_S)

    def _accept(self) -> None:
        try:
            sock, address = self._socket.accept()
        except TimeoutError:
            return
        except OSError as reason:  # out of file descriptors, or the client was gone already
            _log.warning("a connection could not be accepted: %s", reason)
            time.sleep(TICK_S)
            return
        _tune(sock, self._settings.keepalive_s, self._settings.idle_s)
        peer = str(plain_address(address[0]))
        if peer not in self._trusted:
            self._arrive(sock, peer)
        elif self._proxied.acquire(blocking=False):
            threading.Thread(target=self._arrive_proxied, args=(sock, peer), name="ssh-proxied", daemon=True).start()
        else:
            sock.close()

    def _arrive(self, sock: socket.socket, address: str) -> None:
        self._gate.arrive(
            Connection(
                sock,
                address,
                self._settings,
                self._host_keys,
                self._authenticator,
                self._access,
                self._refused,
                self._gate,
            )
        )

    def _arrive_proxied(self, sock: socket.socket, proxy: str) -> None:
        try:
            self._arrive(sock, read_header(sock, PROXY_HEADER_S) or proxy)
        except ProxyHeaderRefused as refused:
            _log.warning("a connection from the proxy %s was closed: %s", proxy, refused)
            sock.close()
        finally:
            self._proxied.release()

    def _finish(self) -> None:
        deadline = time.monotonic() + self._settings.stop_s
        guests = [guest for guest in self._gate.inside() if isinstance(guest, Connection)]
        while guests and time.monotonic() < deadline:
            guests = [guest for guest in guests if not guest.stop()]
            time.sleep(0.05 if guests else 0)
        for guest in guests:
            _log.warning("a command from %s was still running and was cut", guest.address)
            guest.close()


def serve(
    settings: SshSettings,
    host_keys: Sequence[HostKey],
    authenticator: Authenticator,
    access: Access,
    *,
    refused: Refused,
    ready: Callable[[str, int], None],
    stop: threading.Event | None = None,
) -> None:
    """Run the door in this process until it is told to stop.

    Called from the main thread, SIGTERM and SIGINT tell it; from any thread, *stop* does.

    Args:
        settings: the limits.
        host_keys: see :func:`gitserver.transports.ssh.host_keys.load_host_keys`.
        authenticator: knows whose keys they are.
        access: opens conversations.
        refused: told of failed attempts, for the journal; see :class:`Listener`.
        ready: called with the host and the port, once connections are accepted.
        stop: set to stop; running commands have ``stop_s`` to finish.

    Raises:
        OSError: the address cannot be listened on.
    """
    stopping = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
    quiet_paramiko()
    listener = Listener(settings, host_keys, authenticator, access, refused)
    ready(*listener.address)
    listener.run(stopping)


def quiet_paramiko() -> None:
    """Send what paramiko logs through :class:`WireLogFilter`. May be called twice."""
    wire = logging.getLogger(WIRE_LOG)
    if not any(isinstance(present, WireLogFilter) for present in wire.filters):
        wire.addFilter(WireLogFilter())


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    dual = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=dual)


def _tune(sock: socket.socket, keepalive_s: int, idle_s: float) -> None:
    """No delay for small packets, and a peer that vanished is noticed."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, keepalive_s // 4))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(idle_s * 1000))
