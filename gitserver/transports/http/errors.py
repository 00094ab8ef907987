"""What each kind of failure looks like over HTTP.

Bodies are plain text, since git shows a plain-text body of an error as ``remote:`` lines.
"""

import logging
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from gitserver.core.errors import Conflict, Denied, Failure, Invalid, NotFound, TooMuch, Unavailable
from gitserver.transports.http.body import BodyTooLarge, BodyTooSlow, UnsupportedEncoding
from gitserver.transports.http.exchange import REQUEST_ID

RETRY_AFTER_S = 5

_log = logging.getLogger("gitserver.http")

_KINDS: tuple[tuple[type[Failure], HTTPStatus], ...] = (
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (Denied, HTTPStatus.FORBIDDEN),
    (Invalid, HTTPStatus.BAD_REQUEST),
    (TooMuch, HTTPStatus.TOO_MANY_REQUESTS),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)

_SENTENCES = {
    404: "there is nothing at this address; a repository's address ends in /v1/repos/NAME",
    405: "this address does not take this method",
    413: "the request is larger than this server takes",
}


class Unauthenticated(Denied):
    """Nobody, or nobody we know, asks: they may try again with credentials."""

    def __init__(self, sentence: str, realm: str) -> None:
        super().__init__(sentence)
        self.realm = realm


class WrongMediaType(Invalid):
    """The request's Content-Type is not the one this address takes."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected Content-Type {expected}, found {found[:100] or 'none'!r}")


class DumbProtocol(Denied):
    """The client asked for a repository's files, which is git's dumb protocol."""

    def __init__(self) -> None:
        super().__init__(
            "this server speaks git's smart HTTP protocol only; use a git client of version 1.6.6 or later"
        )


# The door's own failures, which HTTP has a better status for than their kind's.
_OWN: tuple[tuple[type[Failure], HTTPStatus], ...] = (
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (BodyTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (BodyTooSlow, HTTPStatus.REQUEST_TIMEOUT),
    (UnsupportedEncoding, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (WrongMediaType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
)


def install(app: Flask) -> None:
    """Make *app* answer failures, and hide everything that is not one."""
    app.register_error_handler(Failure, answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_bug)


def status(failure: Failure) -> HTTPStatus:
    """The status a failure is told with."""
    for kind, code in _OWN + _KINDS:
        if isinstance(failure, kind):
            return code
    return HTTPStatus.INTERNAL_SERVER_ERROR


def answer(failure: Failure) -> Response:
    """The response that tells *failure*."""
    response = text(str(failure), status(failure))
    if isinstance(failure, Unauthenticated):
        response.headers["WWW-Authenticate"] = f'Basic realm="{failure.realm}"'
    if response.status_code in (429, 503):
        response.headers["Retry-After"] = str(getattr(failure, "retry_after_s", RETRY_AFTER_S))
    return response


def text(sentence: str, code: int) -> Response:
    """A plain-text response that nobody may keep."""
    response = Response(f"{sentence}\n", code, mimetype="text/plain")
    response.headers["Cache-Control"] = "no-store"
    return response


def _answer_http(exception: HTTPException) -> Response:
    code = exception.code or 500
    response = text(_SENTENCES.get(code, HTTPStatus(code).phrase), code)
    allowed = getattr(exception, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _answer_bug(bug: Exception) -> Response:
    request_id = request.environ[REQUEST_ID]
    _log.error("request %s failed", request_id, exc_info=bug)
    return text(f"the server failed; its log says more under request id {request_id}", 500)
