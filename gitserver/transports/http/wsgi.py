"""The HTTPS door's application: which blueprints there are, and what every answer has in common."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from flask import Flask, Response

from gitserver.core.ids import new_request_id
from gitserver.transports.http import errors, git
from gitserver.transports.http.exchange import REQUEST_ID, WSGIApplication, WSGIEnvironment
from gitserver.transports.http.login import CALLER, GitCredentials, Login

MAX_FORM_BYTES = 16 * 2**20  # of a body that a view takes whole; git's are streamed
MAX_LOGGED_CHARS = 300

_access_log = logging.getLogger("gitserver.http.access")

_ON_EVERY_ANSWER = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)


class Door:
    """A WSGI application that names and logs each request, and can be closed.

    Args:
        inner: answers the requests.
        on_close: releases what the application was built with.
    """

    def __init__(self, inner: WSGIApplication, on_close: Callable[[], None]) -> None:
        self._inner = inner
        self._on_close = on_close

    def __call__(self, environ: WSGIEnvironment, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """See PEP 3333."""
        exchange = _Watched(environ, start_response)
        exchange.pieces = self._inner(environ, exchange.start_response)
        return exchange

    def close(self) -> None:
        """Release everything; called once, after the last request."""
        self._on_close()


def application(
    access: git.GitAccess,
    authenticator: GitCredentials,
    *,
    max_body_bytes: int,
    trusted_proxies: Sequence[str] = (),
    realm: str = "gitserver",
    on_close: Callable[[], None] = lambda: None,
) -> Door:
    """Build the application.

    Args:
        access: opens repositories for callers.
        authenticator: finds callers.
        max_body_bytes: of a push, as sent and as inflated.
        trusted_proxies: addresses or networks whose ``X-Forwarded-For`` is believed.
        realm: what git shows when it asks for a password.
        on_close: called by :meth:`Door.close`.
    """
    app = Flask("gitserver", static_folder=None, template_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_FORM_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
    app.url_map.merge_slashes = False
    errors.install(app)
    app.register_blueprint(git.blueprint(access, Login(authenticator, trusted_proxies, realm), max_body_bytes))

    @app.get("/healthz")
    def health() -> Response:
        return errors.text("ok", 200)

    return Door(app, on_close)


class _Watched:
    """One request's answer: adds the headers that all have, and writes the access log when it is over."""

    def __init__(self, environ: WSGIEnvironment, start_response: Callable[..., Any]) -> None:
        self._environ = environ
        self._start_response = start_response
        self._began = time.monotonic()
        self._request_id = new_request_id()
        self._status = ""
        self._sent_bytes = 0
        self._outcome = "cut"
        self.pieces: Iterable[bytes] = ()
        environ[REQUEST_ID] = self._request_id

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self._status = status
        given = {name.lower() for name, _ in headers}
        own = [("x-amzn-RequestId", self._request_id), *_ON_EVERY_ANSWER]
        headers = headers + [(name, value) for name, value in own if name.lower() not in given]
        return self._start_response(status, headers, exc_info)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self._sent_bytes += len(piece)
            yield piece
        self._outcome = "whole"

    def close(self) -> None:
        """Called by the server when the answer went out, or cannot any more."""
        try:
            close = getattr(self.pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._tell()

    def _tell(self) -> None:
        caller = self._environ.get(CALLER)
        line = {
            "request_id": self._request_id,
            "address": self._environ["REMOTE_ADDR"],
            "caller": caller and str(caller.principal),
            "from": caller and caller.address,
            "method": self._environ["REQUEST_METHOD"],
            "path": self._environ["PATH_INFO"][:MAX_LOGGED_CHARS],
            "status": int(self._status[:3] or 0),
            "outcome": self._outcome,
            "sent_bytes": self._sent_bytes,
            "took_ms": round((time.monotonic() - self._began) * 1000),
            "agent": self._environ.get("HTTP_USER_AGENT", "")[:MAX_LOGGED_CHARS],
        }
        _access_log.info("%s", json.dumps(line))
