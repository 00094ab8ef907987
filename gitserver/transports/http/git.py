"""Git's smart HTTP protocol.

A view authorizes, and reads until it has the first piece of the answer, before the 200 goes out; what fails later
breaks the connection. Headers and their order are those of ``git http-backend``.

Source: gitprotocol-http(5); http-backend(1).
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Protocol

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from gitserver.core.caller import Caller
from gitserver.core.errors import NotFound
from gitserver.git.protocol import FLUSH_PACKET, Reader, pkt, protocol_version
from gitserver.transports.http.body import BodyTooLarge, decoded
from gitserver.transports.http.errors import DumbProtocol, WrongMediaType
from gitserver.transports.http.login import Login

UPLOAD_PACK = "git-upload-pack"
RECEIVE_PACK = "git-receive-pack"

MAX_NEGOTIATION_BYTES = 64 * 2**20  # what an upload-pack request may say: over a million wants and haves

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_NEVER_KEPT = (
    ("Expires", "Fri, 01 Jan 1980 00:00:00 GMT"),
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache, max-age=0, must-revalidate"),
)


class NoSuchRepositoryName(NotFound):
    """The name in the address is not one a repository can have."""

    def __init__(self) -> None:
        super().__init__("no repository can have this name; a name is 1 to 100 letters, digits, '.', '_' or '-'")


class Conversation(Protocol):
    """One repository, opened for one caller and one service."""

    def advertise(self) -> Iterator[bytes]:
        """The advertisement, without the lines that only smart HTTP has."""
        ...

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        """The answer to one request."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class GitAccess(Protocol):
    """Opens conversations, and authorizes when it does."""

    def upload_pack(self, caller: Caller, name: str, version: int) -> Conversation:
        """For clone and fetch."""
        ...

    def receive_pack(self, caller: Caller, name: str, version: int) -> Conversation:
        """For push."""
        ...


class Streamed:
    """An answer's pieces, of which the first is known; closing it releases the conversation."""

    def __init__(self, conversation: Conversation, pieces: Iterator[bytes], prefix: bytes = b"") -> None:
        self._conversation = conversation
        self._pieces = pieces
        self._first: bytes | None = prefix
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._first = prefix + next(pieces, b"")
            on_failure.pop_all()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._pieces)

    def close(self) -> None:
        """Called by the server at the end, whoever made it."""
        with contextlib.closing(self._conversation):
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()


def blueprint(access: GitAccess, login: Login, max_body_bytes: int) -> Blueprint:
    """Smart HTTP under ``/v1/repos/NAME``.

    Args:
        access: opens repositories.
        login: finds callers.
        max_body_bytes: of a push, as sent and as inflated.
    """
    bp = Blueprint("git", __name__, url_prefix="/v1/repos")
    services: dict[str, Callable[[Caller, str, int], Conversation]] = {
        UPLOAD_PACK: access.upload_pack,
        RECEIVE_PACK: access.receive_pack,
    }
    limits = {UPLOAD_PACK: min(MAX_NEGOTIATION_BYTES, max_body_bytes), RECEIVE_PACK: max_body_bytes}

    @bp.get("/<name>/info/refs")
    def advertisement(name: str) -> Response:
        if request.method != "GET":
            raise MethodNotAllowed(["GET"])
        service = request.args.get("service", "")
        if service not in services:
            raise DumbProtocol
        caller = login.caller(request)
        version = _version(service)
        conversation = services[service](caller, _repository(name), version)
        prefix = b"" if version == 2 else pkt(b"# service=%b\n" % service.encode("ascii")) + FLUSH_PACKET
        return _stream(
            f"application/x-{service}-advertisement", Streamed(conversation, conversation.advertise(), prefix)
        )

    @bp.post(f"/<name>/<any('{UPLOAD_PACK}', '{RECEIVE_PACK}'):service>")
    def result(name: str, service: str) -> Response:
        caller = login.caller(request)
        _require_media_type(f"application/x-{service}-request")
        _refuse_long(limits[service])
        body = decoded(request.environ["wsgi.input"], request.headers.get("Content-Encoding", ""), limits[service])
        conversation = services[service](caller, _repository(name), _version(service))
        pieces = conversation.answer(body, stateless=True)
        return _stream(f"application/x-{service}-result", Streamed(conversation, pieces))

    @bp.get("/<name>/HEAD")
    @bp.get("/<name>/objects/<path:rest>")
    def file(**_where: str) -> Response:
        raise DumbProtocol

    return bp


def _version(service: str) -> int:
    """The protocol version to speak. Pushes have no version 2, and fall back to 0 as C Git's do."""
    version = protocol_version(request.headers.get("Git-Protocol", ""))
    return 0 if version == 2 and service == RECEIVE_PACK else version


def _repository(name: str) -> str:
    name = name.removesuffix(".git")
    if not _NAME.fullmatch(name) or name.endswith(".git"):
        raise NoSuchRepositoryName
    return name


def _require_media_type(expected: str) -> None:
    found = request.headers.get("Content-Type", "")
    if found.partition(";")[0].strip().lower() != expected:
        raise WrongMediaType(expected, found)


def _refuse_long(limit_bytes: int) -> None:
    if (request.content_length or 0) > limit_bytes:
        raise BodyTooLarge(limit_bytes)


def _stream(media_type: str, pieces: Streamed) -> Response:
    response = Response(pieces, direct_passthrough=True)
    response.headers.clear()
    for name, value in (*_NEVER_KEPT, ("Content-Type", media_type)):
        response.headers.add(name, value)
    return response
