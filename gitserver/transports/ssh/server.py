"""What one SSH connection is answered: which keys are known, which channels and requests are allowed.

An offered key *must not* count as an identity: clients offer keys unsigned, and keys that are not theirs. Each offer
replaces the last; :meth:`GitSSHServer.key_verified` pins the one whose signature was checked; and each command turns
the pinned offer into a :class:`Caller` anew, so that a key revoked meanwhile is refused.
"""

# ruff: noqa: ARG002  # paramiko decides which arguments its questions have

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import paramiko
from paramiko.channel import Channel
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)

from gitserver.core.caller import Caller
from gitserver.core.ids import RequestId
from gitserver.transports.ssh.session import Access, Request, Session

MAX_GIT_PROTOCOL_BYTES = 256
MAX_CHANNELS = 1000  # opened on one connection, one after another

_log = logging.getLogger(__name__)


class Authenticator(Protocol):
    """Knows which public key is whose. Its offers are opaque to this door."""

    def ssh_key(self, user_name: str, key: bytes) -> Any:
        """The offer of a known key, or None. A look-up: it says nothing about who is asking."""
        ...

    def ssh_caller(self, offer: Any, address: str, request_id: RequestId) -> Caller:
        """Who holds the offered key, after its signature was verified.

        Raises:
            Denied: the key was revoked meanwhile.
        """
        ...


class GitSSHServer(paramiko.ServerInterface):
    """One connection's answers. It remembers an offer, never an identity."""

    def __init__(
        self, authenticator: Authenticator, access: Access, address: str, *, max_sessions: int, idle_s: float
    ) -> None:
        self._authenticator = authenticator
        self._access = access
        self._address = address
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._offer: Any = None  # of the key that was offered last, signed or not
        self._verified: Any = None  # of the key whose signature was verified
        self._protocols: dict[int, str] = {}  # channel id -> GIT_PROTOCOL
        self._requests: dict[int, Request] = {}  # channel id -> what was asked; one for each channel, ever
        self._opened = 0
        self._waiting: dict[int, Channel] = {}  # open, without a command yet
        self._running: set[Session] = set()
        self._quiet_since = time.monotonic()
        self._stopping = False
        self.refused: tuple[str, str] | None = None  # the last refused attempt: method and claimed user name
        self.authenticated = threading.Event()

    # Who is it

    def get_allowed_auths(self, username: str) -> str:
        """Keys, and nothing else."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Whether the key is known; see the top of the module. Called for unsigned questions too."""
        self._offer = None
        if getattr(key, "public_blob", None) is None:  # a certificate is not the key inside it
            self._offer = self._look_up(username, key.asbytes())
        if self._offer is None:
            self.refused = ("ssh-key", username)
            return AUTH_FAILED
        return AUTH_SUCCESSFUL

    def check_auth_none(self, username: str) -> int:
        """Never."""
        return AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        """Never, and the password is not looked at."""
        self._offer = None
        self.refused = ("password", username)
        return AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> int:
        """Never."""
        self._offer = None
        self.refused = ("keyboard-interactive", username)
        return AUTH_FAILED

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        """Never."""
        self._offer = None
        return AUTH_FAILED

    def key_verified(self) -> None:
        """The signature over the last offer was right. Called once, by the transport."""
        self._verified = self._offer
        self._offer = None
        self.authenticated.set()

    # Channels

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Sessions, as many at once as is allowed."""
        if kind != "session":
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        with self._lock:
            self._waiting = {number: channel for number, channel in self._waiting.items() if not channel.closed}
            busy = len(self._running) + len(self._waiting)
            if self._stopping or busy >= self._max_sessions or self._opened >= MAX_CHANNELS:
                return OPEN_FAILED_RESOURCE_SHORTAGE
            self._opened += 1
        return OPEN_SUCCEEDED

    def channel_opened(self, channel: Channel) -> None:
        """The transport opened what :meth:`check_channel_request` allowed."""
        with self._lock:
            self._waiting[channel.get_id()] = channel

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        """Never: nothing is forwarded."""
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_port_forward_request(self, address: str, port: int) -> bool:
        """Never: nothing is forwarded."""
        return False

    def check_channel_env_request(self, channel: Channel, name: bytes, value: bytes) -> bool:
        """``GIT_PROTOCOL`` alone."""
        if name != b"GIT_PROTOCOL" or len(value) > MAX_GIT_PROTOCOL_BYTES:
            return False
        self._protocols[channel.get_id()] = value.decode("ascii", "replace")
        return True

    def check_channel_exec_request(self, channel: Channel, command: bytes) -> bool:
        """Once for each channel. What may be run is judged in the session, where a sentence can say why not."""
        return self._ask(channel, command)

    def check_channel_shell_request(self, channel: Channel) -> bool:
        """Answered with a greeting: there is no shell."""
        return self._ask(channel, None)

    def check_channel_subsystem_request(self, channel: Channel, name: str) -> bool:
        """Never; paramiko would start whatever was registered."""
        return False

    def request_answered(self, channel: Channel) -> None:
        """The reply to a channel request went out: what it asked for may begin."""
        with self._lock:
            request = self._requests.get(channel.get_id())
            if request is None or self._waiting.pop(channel.get_id(), None) is None:
                return
            session = Session(channel, self._access, request, done=self._done)
            self._running.add(session)
        session.start()

    # For the connection

    def quiet_s(self) -> float:
        """Seconds since a command last ran on this connection; 0 while one does."""
        with self._lock:
            return 0.0 if self._running else time.monotonic() - self._quiet_since

    def stop(self) -> bool:
        """Take no further commands. True when none is running."""
        with self._lock:
            self._stopping = True
            return not self._running

    def _look_up(self, username: str, key: bytes) -> Any:
        try:
            return self._authenticator.ssh_key(username, key)
        except Exception:
            _log.exception("looking up an SSH key failed")
            return None

    def _ask(self, channel: Channel, command: bytes | None) -> bool:
        number = channel.get_id()
        if number in self._requests or not channel.get_transport().is_authenticated():
            return False
        self._requests[number] = Request(
            command, self._protocols.pop(number, ""), self._who(self._verified), self._idle_s
        )
        return True

    def _who(self, offer: Any) -> Callable[[RequestId], Caller]:
        return lambda request_id: self._authenticator.ssh_caller(offer, self._address, request_id)

    def _done(self, session: Session) -> None:
        with self._lock:
            self._running.discard(session)
            self._quiet_since = time.monotonic()
