"""paramiko's transport with the algorithms and the limits of this door.

What a stranger sends before proving who they are *must* cost a bounded amount of memory, and what a client sends
afterwards *must not* exceed the window it was given: paramiko checks neither. Every private name of paramiko that is
touched here is in ``docs/decisions/0004-ssh-paramiko.md``.
"""

import io
import logging
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any, ClassVar

import paramiko
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.common import (
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
)
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.packet import Packetizer

from gitserver.transports.ssh.host_keys import HostKey

WINDOW_BYTES = 2**21
PACKET_BYTES = 2**15
MAX_PACKET_BYTES = 2**18  # as OpenSSH; the largest thing read into memory before it is authenticated
MAX_VERSION_BYTES = 255  # RFC 4253 section 4.2
MAX_HELD = 256  # answers waiting for new keys
LAST_KEX_MESSAGE = 49  # RFC 4253 section 7: numbers up to it belong to the transport
WIRE_LOG = "gitserver.transports.ssh.wire"


class GitTransport(paramiko.Transport):
    """One connection, from the server's side.

    Source: RFC 4253 (transport), RFC 5647 (AES-GCM), RFC 8731 (curve25519), RFC 8332 (rsa-sha2), and
    draft-ietf-sshm-mlkem-hybrid-kex; strict key exchange as OpenSSH's PROTOCOL file has it.
    """

    _CLIENT_ID = "gitserver"
    _preferred_kex = (
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    )  # no group of integers: strangers could make us spend 0.2 s on each exchange, holding up every thread
    _preferred_keys = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
    _preferred_ciphers = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com")
    _preferred_macs = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")  # negotiated; GCM uses none
    _preferred_pubkeys = (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    )
    _preferred_compression = ("none",)
    _kex_info: ClassVar = {**paramiko.Transport._kex_info, "curve25519-sha256": KexCurve25519}

    def __init__(self, sock: socket.socket, keys: Iterable[HostKey], *, attempts: int, stall_s: float) -> None:
        """Wrap a connected socket.

        Args:
            sock: owned from now on.
            keys: the host keys, in the order of preference.
            attempts: public keys that may be refused before the connection is closed.
            stall_s: how long the peer may leave unread what was sent.
        """

        def packetizer(inner: socket.socket) -> LimitedPacketizer:
            return LimitedPacketizer(inner, stall_s)

        super().__init__(sock, WINDOW_BYTES, PACKET_BYTES, packetizer_class=packetizer)
        self.attempts = attempts
        self.auth_handler: PublicKeyHandler | None = None
        self._held: list[Any] = []  # answers that have to wait for new keys; touched by this thread alone
        self.set_log_channel(WIRE_LOG)
        for key in keys:
            self.add_server_key(_private_key(key))

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The host key algorithms; no certificate forms, since there are no host certificates."""
        return self._preferred_keys

    def _queue_incoming_channel(self, channel: Channel) -> None:
        self.server_object.channel_opened(channel)

    def _parse_kex_init(self, m: Any) -> None:
        if self.initial_kex_done and not self.is_authenticated():
            raise paramiko.SSHException("the client asks for new keys before it has said who it is")
        super()._parse_kex_init(m)

    def _parse_newkeys(self, m: Any) -> None:
        if self.auth_handler is None:
            self.auth_handler = PublicKeyHandler(self)
        held, self._held = self._held, []
        for message in held:  # our own new keys are in use already, and nobody else sends before the line below
            super()._send_message(message)
        super()._parse_newkeys(m)

    def _send_message(self, data: Any) -> None:
        """Send, or hold what RFC 4253 section 7.1 forbids between our KEXINIT and our new keys.

        paramiko answers a channel request that crosses its own KEXINIT at once, which clients take for an attack.
        """
        if self.clear_to_send.is_set() or not self.initial_kex_done or data.asbytes()[0] <= LAST_KEX_MESSAGE:
            super()._send_message(data)
        else:
            self._hold(data)

    def _send_user_message(self, data: Any) -> None:
        """As paramiko's, but the thread that has to exchange the keys does not wait for them."""
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            self._hold(data)
        else:
            super()._send_user_message(data)

    def _hold(self, data: Any) -> None:
        if len(self._held) >= MAX_HELD:
            raise paramiko.SSHException("the client goes on asking instead of exchanging keys")
        self._held.append(data)


class PublicKeyHandler(AuthHandler):
    """Authentication by public key: counts attempts, and says which offer was verified.

    An unknown kind of key is a refused key; paramiko would close the connection and with it the chance of the
    client's next key.
    """

    _refused = 0
    _requests = 0

    def _parse_userauth_request(self, m: Any) -> None:
        self._requests += 1
        if self._requests > 2 * self.transport.attempts + 2:
            self._disconnect_no_more_auth()
            return
        super()._parse_userauth_request(m)

    def _generate_key_from_request(self, algorithm: str, keyblob: bytes) -> Any:
        if algorithm not in self.transport.preferred_pubkeys:
            return UnknownKey()
        return super()._generate_key_from_request(algorithm, keyblob)

    def _send_auth_result(self, username: str, method: str, result: int) -> None:
        super()._send_auth_result(username, method, result)
        self.auth_fail_count = 0  # paramiko's own limit counts the question "which methods are there"
        if result == AUTH_SUCCESSFUL:  # paramiko comes here with success only once the signature was verified
            self.transport.server_object.key_verified()
        elif method != "none":
            self._refused += 1
        if self._refused >= self.transport.attempts:
            self._disconnect_no_more_auth()


class UnknownKey(paramiko.PKey):
    """A key of a kind that is not accepted: nobody's."""

    def __init__(self) -> None:
        super().__init__()

    def asbytes(self) -> bytes:
        """Nothing: no credential has it."""
        return b""

    def verify_ssh_sig(self, data: bytes, msg: Any) -> bool:  # noqa: ARG002
        """Never."""
        return False


class LimitedPacketizer(Packetizer):
    """Packets, of a size and in a time that are bounded."""

    def __init__(self, sock: socket.socket, stall_s: float) -> None:
        super().__init__(sock)
        self._sock = sock
        self._stall_s = stall_s
        self._line = b""

    def start_handshake(self, timeout: float) -> None:
        """Nothing: the connection's own deadline covers it, without a thread for each."""

    def readline(self, timeout: float) -> str:  # noqa: ARG002
        """The client's version line.

        Raises:
            EOFError: the first bytes are not SSH's, or the line is longer than RFC 4253 allows.
        """
        while b"\n" not in self._line:
            if not b"SSH-".startswith(self._line[:4]) or len(self._line) > MAX_VERSION_BYTES:
                raise EOFError("that is not SSH")
            self._line += self.read_all(1)
        return self._line.rstrip(b"\r\n").decode("ascii", "replace")

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """See Packetizer.

        Raises:
            paramiko.SSHException: the peer announced a packet that is too long, or shorter than a packet can be.
        """
        if not 0 <= n <= MAX_PACKET_BYTES:
            raise paramiko.SSHException(f"a packet of about {n} bytes was announced")
        return super().read_all(n, check_rekey)

    def write_all(self, out: bytes) -> None:
        """Send all of *out*.

        Raises:
            EOFError: the connection is gone, or the peer took nothing for the time allowed.
        """
        rest = memoryview(out)
        moved = time.monotonic()
        while rest:
            try:
                sent = self._sock.send(rest)
            except TimeoutError:
                if self.closed or time.monotonic() - moved > self._stall_s:
                    self.close()  # half a packet went out: nothing more can follow it
                    raise EOFError("the peer does not read") from None
                continue
            except OSError as gone:
                self.close()
                raise EOFError(str(gone)) from gone
            rest = rest[sent:]
            moved = time.monotonic()


def _take_data(channel: Channel, m: Any) -> None:
    data = m.get_binary()
    if len(data) > WINDOW_BYTES + PACKET_BYTES - len(channel.in_buffer):
        raise paramiko.SSHException("the client sent more than the window it was given")
    channel._feed(data)


def _drop_data(_channel: Channel, _m: Any) -> None:
    raise paramiko.SSHException("a client has no standard error to send")


def _request(channel: Channel, m: Any) -> None:
    channel._handle_request(m)
    channel.transport.server_object.request_answered(channel)


GitTransport._channel_handler_table = {
    **paramiko.Transport._channel_handler_table,
    MSG_CHANNEL_DATA: _take_data,
    MSG_CHANNEL_EXTENDED_DATA: _drop_data,
    MSG_CHANNEL_REQUEST: _request,
}


class WireLogFilter(logging.Filter):
    """Keeps what paramiko says about its peers to one printable line, and to the level it deserves.

    A peer that breaks the protocol or leaves is no error of the server's; what this door does wrong is caught and
    logged where it happens.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        text = record.getMessage()
        if record.levelno > logging.DEBUG:
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.msg = "".join(letter if letter.isprintable() else " " for letter in text)[:500]
        record.args = ()
        return logging.getLogger(record.name).isEnabledFor(record.levelno)


def _private_key(key: HostKey) -> paramiko.PKey:
    if isinstance(key.private, RSAPrivateKey):
        return paramiko.RSAKey(key=key.private)
    text = key.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii")
    return paramiko.Ed25519Key(file_obj=io.StringIO(text))
