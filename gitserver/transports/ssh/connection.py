"""One SSH connection, from its socket to its end."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence

from paramiko.ssh_exception import SSHException

from gitserver.transports.ssh.gate import Gate
from gitserver.transports.ssh.host_keys import HostKey
from gitserver.transports.ssh.server import Authenticator, GitSSHServer
from gitserver.transports.ssh.session import Access, printable
from gitserver.transports.ssh.settings import SshSettings
from gitserver.transports.ssh.transport import GitTransport

PAUSE_S = 0.5  # how late, at most, a deadline is noticed
MAX_CLAIM_CHARACTERS = 128  # of a user name that nobody proved, for the journal

Refused = Callable[[str, str, str], None]  # address, method, claimed user name

_log = logging.getLogger(__name__)


class Connection:
    """Lets one client prove who they are, then keeps watch until they are gone."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        settings: SshSettings,
        host_keys: Sequence[HostKey],
        authenticator: Authenticator,
        access: Access,
        refused: Refused,
        gate: Gate,
    ) -> None:
        self.address = address
        self._sock = sock
        self._settings = settings
        self._refused = refused
        self._gate = gate
        self._transport = GitTransport(sock, host_keys, attempts=settings.login_attempts, stall_s=settings.idle_s)
        self._server = GitSSHServer(
            authenticator, access, address, max_sessions=settings.max_sessions, idle_s=settings.idle_s
        )

        self._thread = threading.Thread(target=self._run, name=f"ssh-{address}", daemon=True)

    def start(self) -> None:
        """See Guest."""
        try:
            self._thread.start()
        except RuntimeError:
            _log.exception("no thread for a connection from %s", self.address)
            self.close()

    def close(self) -> None:
        """See Guest. Whatever runs on the connection ends."""
        self._transport.close()
        self._sock.close()
        self._gate.left(self)

    def stop(self) -> bool:
        """Take no further commands, and close if none is running. True when closed."""
        if not self._server.stop():
            return False
        self.close()
        return True

    def wait(self, timeout_s: float) -> None:
        """Wait until nothing more is done for this connection, once it is closed."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            if self._knock():
                self._gate.entered(self)
                self._watch()
        except Exception:
            _log.exception("a connection from %s failed", self.address)
        finally:
            self.close()

    def _knock(self) -> bool:
        """Wait for a verified signature. False: it did not come."""
        deadline = time.monotonic() + self._settings.login_s
        try:
            self._transport.start_server(event=threading.Event(), server=self._server)
        except (SSHException, OSError, EOFError) as gone:
            _log.debug("a connection from %s ended at once: %s", self.address, gone)
            return False
        while time.monotonic() < deadline and self._transport.is_active():
            if self._server.authenticated.wait(PAUSE_S):
                return True
        if self._server.authenticated.is_set():
            return True
        if self._server.refused is not None:
            method, claimed = self._server.refused
            self._refused(self.address, method, printable(claimed)[:MAX_CLAIM_CHARACTERS])
        return False

    def _watch(self) -> None:
        while self._transport.is_active():
            self._transport.join(PAUSE_S)
            if self._server.quiet_s() > self._settings.idle_s:
                _log.info("a connection from %s was idle for too long", self.address)
                return
