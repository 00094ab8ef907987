"""One git command over one channel."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from paramiko.channel import Channel
from paramiko.ssh_exception import SSHException

from gitserver.core.caller import Caller
from gitserver.core.errors import Failure, TooMuch, Unavailable
from gitserver.core.ids import RequestId, new_request_id
from gitserver.git.protocol import Reader, protocol_version
from gitserver.transports.ssh.command import GitCommand, parse_command

EXIT_REFUSED = 128  # as git itself ends on a fatal error

_log = logging.getLogger(__name__)


class ConnectionLost(Unavailable):
    """The client went away in the middle."""

    def __init__(self) -> None:
        super().__init__("the connection was lost before the client had finished")


class ClientSilent(TooMuch):
    """The client sent nothing, or took nothing, for too long."""

    def __init__(self, idle_s: float) -> None:
        super().__init__(f"nothing moved for {idle_s:.0f} seconds; the connection was closed")


class Conversation(Protocol):
    """One git command, authorized; see ``repos/access.py``."""

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        """What to send, while reading from *stream*."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class Access(Protocol):
    """Opens conversations, each authorized for its caller."""

    def upload_pack(self, caller: Caller, name: str, version: int) -> Conversation:
        """A fetch."""
        ...

    def receive_pack(self, caller: Caller, name: str, version: int) -> Conversation:
        """A push."""
        ...

    def upload_archive(self, caller: Caller, name: str) -> Conversation:
        """An archive."""
        ...


@dataclass(frozen=True)
class Request:
    """What a channel was asked for."""

    command: bytes | None  # None: a shell
    git_protocol: str  # the GIT_PROTOCOL that was sent, or empty
    who: Callable[[RequestId], Caller]  # asks anew who holds the key; raises Denied
    idle_s: float


class Session(threading.Thread):
    """Runs one request on its channel, tells how it ended, and closes the channel."""

    def __init__(self, channel: Channel, access: Access, request: Request, done: Callable[["Session"], None]) -> None:
        super().__init__(name=f"ssh-session-{channel.get_id()}", daemon=True)
        self._channel = channel
        self._access = access
        self._request = request
        self._done = done
        self._request_id = new_request_id()

    def run(self) -> None:
        """See threading.Thread."""
        self._channel.settimeout(self._request.idle_s)
        began = time.monotonic()
        try:
            self._channel.send_exit_status(self._serve())
        except (ConnectionLost, ClientSilent, OSError, EOFError, SSHException) as gone:
            _log.info("request %s ended early after %.1f s: %s", self._request_id, time.monotonic() - began, gone)
        finally:
            self._close()
            self._done(self)

    def _serve(self) -> int:
        """Run the request. Returns: the exit status."""
        try:
            caller = self._request.who(self._request_id)
            if self._request.command is None:
                return self._greet(caller)
            return self._converse(caller, parse_command(self._request.command))
        except (ConnectionLost, ClientSilent):
            raise
        except Failure as failure:
            _log.info("request %s refused: %s: %s", self._request_id, failure.code, printable(str(failure)))
            return self._tell(str(failure))
        except Exception:
            _log.exception("request %s failed", self._request_id)
            return self._tell(f"internal error, request id {self._request_id}")

    def _greet(self, caller: Caller) -> int:
        self._send(
            f"Hello {caller.name}, you are {caller.principal} (key {caller.proof.credential_id}). "
            "This server speaks git; it does not offer a shell.\n".encode()
        )
        return 0

    def _converse(self, caller: Caller, command: GitCommand) -> int:
        began, sent = time.monotonic(), 0
        conversation = self._open(caller, command)
        try:
            for piece in conversation.answer(ChannelReader(self._channel, self._request.idle_s), stateless=False):
                self._send(piece)
                sent += len(piece)
        finally:
            conversation.close()
        _log.info(
            "%s %s by %s from %s: %d bytes sent in %.3f s, request %s",
            command.service,
            printable(command.repository),
            caller.principal,
            caller.address,
            sent,
            time.monotonic() - began,
            self._request_id,
        )
        return 0

    def _open(self, caller: Caller, command: GitCommand) -> Conversation:
        if command.service == "upload-archive":
            return self._access.upload_archive(caller, command.repository)
        version = protocol_version(self._request.git_protocol)
        if command.service == "receive-pack":
            return self._access.receive_pack(caller, command.repository, version)
        return self._access.upload_pack(caller, command.repository, version)

    def _send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except TimeoutError as silent:
            raise ClientSilent(self._request.idle_s) from silent
        except (OSError, EOFError, SSHException) as gone:
            raise ConnectionLost from gone

    def _tell(self, sentence: str) -> int:
        lines = "".join(f"remote: {printable(line)}\n" for line in sentence.splitlines())
        try:
            self._channel.sendall_stderr(lines.encode())
        except (OSError, EOFError, SSHException) as gone:
            raise ConnectionLost from gone
        return EXIT_REFUSED

    def _close(self) -> None:
        try:
            self._channel.close()
        except (OSError, EOFError, SSHException) as gone:
            _log.debug("request %s: closing its channel failed: %s", self._request_id, gone)


class ChannelReader:
    """A channel's incoming bytes; keeps the end of the stream and the loss of the connection apart."""

    def __init__(self, channel: Channel, idle_s: float) -> None:
        self._channel = channel
        self._idle_s = idle_s

    def read(self, size: int, /) -> bytes:
        """See :class:`gitserver.git.protocol.Reader`.

        Raises:
            ConnectionLost: the channel or the connection ended without an end of the stream.
            ClientSilent: nothing came for the time allowed.
        """
        try:
            data: bytes = self._channel.recv(size)
        except TimeoutError as silent:
            raise ClientSilent(self._idle_s) from silent
        except (OSError, EOFError, SSHException) as gone:
            raise ConnectionLost from gone
        if not data and not self._channel.eof_received:
            raise ConnectionLost
        return data


def printable(text: str) -> str:
    """*text* without what could move a terminal's cursor or forge a log line."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
