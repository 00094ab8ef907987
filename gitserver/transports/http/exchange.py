"""One request and its response: HTTP on the one side, WSGI on the other.

The request's head is read by gunicorn's parser, which refuses what proxies and servers are known to read differently.
A response that fails midway *must not* end like a whole one: its last chunk is never sent and the connection breaks.

Source: RFC 9112; PEP 3333.
"""

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

from gunicorn.config import Config
from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.message import Request

from gitserver.core.errors import Failure
from gitserver.core.ids import new_request_id
from gitserver.transports.http.body import BodyCutShort, ChunkedBody, LengthBody
from gitserver.transports.http.connection import ClientGone, Connection
from gitserver.transports.http.settings import HttpSettings

READ_OFF_BYTES = 65536  # an unread rest of a body up to this is read off, so that the connection can be kept
READ_OFF_S = 0.25
COALESCE_BYTES = 16384  # a piece up to this goes out in one TLS record with what frames it

WSGIEnvironment = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None] | None
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApplication = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

_log = logging.getLogger("gitserver.http")

REQUEST_ID = "gitserver.request_id"  # environ key: the id under which the log knows the request

_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}


class ApplicationMistake(Exception):
    """The application broke PEP 3333, or promised another length than it gave."""


class Exchange:
    """Answers requests with a WSGI application.

    Args:
        application: called once for each request, from several threads at once.
        settings: the limits.
        several_processes: whether other processes serve the same application.
    """

    def __init__(self, application: WSGIApplication, settings: HttpSettings, several_processes: bool) -> None:
        self._application = application
        self._settings = settings
        self._several_processes = several_processes
        self._limits = parser_limits(settings)

    def answer(self, connection: Connection, head: bytes) -> bool:
        """See ``loop.Answer``."""
        connection.begin_request()
        try:
            return self._answer(connection, head)
        except ClientGone as gone:
            _log.debug("%s went away: %s", connection.address[0], gone)
            connection.close()
            return False
        finally:
            if connection.fileno() >= 0:
                connection.end_request()

    def _answer(self, connection: Connection, head: bytes) -> bool:
        connection.intake.unread(head)
        connection.intake.in_head = True
        try:
            request = Request(self._limits, connection.intake, connection.address, connection.requests)
        except (errors.ParseException, errors.NoMoreData, StopIteration) as wrong:
            connection.send(refusal(*_verdict(wrong)))
            return False
        connection.intake.in_head = False
        if _speaks_1_1(request) and not any(name == "HOST" for name, _ in request.headers):
            connection.send(refusal(400, "the request has no Host header"))  # RFC 9112 section 3.2
            return False
        if _is_coded_twice(request):
            connection.send(refusal(*_verdict(errors.UnsupportedTransferCoding(""))))
            return False
        body = _body(request, connection)
        reply = Reply(connection, request)
        incoming = Input(body, reply, expected=_expects(request))
        return self._run(self._environ(request, connection, incoming), reply) and _read_off(incoming, connection)

    def _run(self, environ: WSGIEnvironment, reply: "Reply") -> bool:
        """True if the response went out whole."""
        pieces: Iterable[bytes] = ()
        try:
            pieces = self._application(environ, reply.start_response)
            for piece in pieces:
                reply.write(piece)
            reply.end()
        except ClientGone:
            raise
        except Exception as failed:
            request_id = environ.get(REQUEST_ID, "without an id")
            if isinstance(failed, Failure):
                _log.warning("request %s broke off: %s", request_id, failed)
            else:
                _log.exception("request %s broke off", request_id)
            reply.fail()
            return False
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        return reply.keep

    def _environ(self, request: Request, connection: Connection, body: object) -> WSGIEnvironment:
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(request.path or "").decode("latin-1"),
            "QUERY_STRING": request.query,
            "RAW_URI": request.uri,
            "SERVER_NAME": self._settings.host,
            "SERVER_PORT": str(self._settings.port),
            "SERVER_PROTOCOL": "HTTP/1.1" if _speaks_1_1(request) else "HTTP/1.0",
            "REMOTE_ADDR": connection.address[0],
            "REMOTE_PORT": str(connection.address[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": body,
            "wsgi.input_terminated": True,
            "wsgi.errors": _Errors(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": self._several_processes,
            "wsgi.run_once": False,
        }
        for name, value in request.headers:
            key = name.replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ


class Reply:
    """The response as it goes out."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._length: int | None = None
        self._sent = 0
        self._started = False
        self._bodiless = False
        self._chunked = False
        self._chunk_end = b""  # what the last chunk still lacks; goes out with the next one's size
        self.keep = not request.should_close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo = None
    ) -> Callable[[bytes], object]:
        """See PEP 3333."""
        if exc_info and self._started and exc_info[1] is not None:
            raise exc_info[1]
        if self._status and not exc_info:
            raise ApplicationMistake("start_response was called twice")
        self._status = status
        self._headers = [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self._length = int(lengths[0]) if lengths else None
        if any(name.lower() == "connection" and value.lower() == "close" for name, value in headers):
            self.keep = False
        code = int(status[:3])
        self._bodiless = self._request.method == "HEAD" or code in (204, 304)
        return self.write

    def proceed(self) -> None:
        """Tell a client that waits for it to send its body; nothing once the response has begun."""
        if not self._started:
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def write(self, piece: bytes) -> None:
        """Send one piece of the body; the head goes first."""
        if self._bodiless or not piece:
            return
        self._sent += len(piece)
        if self._length is not None and self._sent > self._length:
            raise ApplicationMistake(f"{self._sent} bytes of a body of {self._length}")
        before = b"" if self._started else self._head()
        if self._chunked:
            before += b"%b%x\r\n" % (self._chunk_end, len(piece))
            self._chunk_end = b"\r\n"
        if len(piece) <= COALESCE_BYTES:
            self._connection.send(before + piece + self._chunk_end)
            self._chunk_end = b""
            return
        if before:
            self._connection.send(before)
        self._connection.send(piece)  # not copied: with many threads, big copies cost half the speed

    def end(self) -> None:
        """Finish the response."""
        if self._length is not None and self._sent != self._length and not self._bodiless:
            raise ApplicationMistake(f"{self._sent} bytes of a body of {self._length}")
        if not self._started:
            if self._length is None and not self._bodiless:
                self._length = 0
                self._headers.append(("Content-Length", "0"))
            self._connection.send(self._head())
        elif self._chunked:
            self._connection.send(self._chunk_end + b"0\r\n\r\n")

    def fail(self) -> None:
        """The application raised: say so if nothing went out yet, else break the connection."""
        self.keep = False
        if not self._started:
            self._connection.send(refusal(500, "the server failed; its log says more under this request id"))
            return
        self._connection.broken = True
        if not self._chunked and self._length is None:
            self._connection.abort()  # the end of the connection would be taken for the end of the response

    def _head(self) -> bytes:
        if not self._status:
            raise ApplicationMistake("no start_response")
        self._chunked = self._length is None and not self._bodiless and _speaks_1_1(self._request)
        if self._length is None and not self._bodiless and not self._chunked:
            self.keep = False
        own = [
            ("Server", "gitserver"),
            ("Date", formatdate(usegmt=True)),
            ("Connection", "keep-alive" if self.keep else "close"),
        ]
        if self._chunked:
            own.append(("Transfer-Encoding", "chunked"))
        head = _head(self._status, self._headers + own)
        self._started = True
        return head


class Input(io.RawIOBase):
    """``wsgi.input``. A client that waits for "100 Continue" is told to go on at the first read."""

    def __init__(self, body: LengthBody | ChunkedBody, reply: Reply, *, expected: bool) -> None:
        super().__init__()
        self._body = body
        self._reply = reply
        self._expected = expected
        self._failed = False

    @property
    def coming(self) -> bool:
        """Whether more bytes are on their way without the client being told to go on."""
        return not self._body.finished and not self._expected and not self._failed

    @property
    def finished(self) -> bool:
        """Whether the whole body was read."""
        return self._body.finished

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """1 to *size* bytes, empty only at the end; everything if *size* is negative.

        Raises:
            BodyCutShort, BodyTooSlow: see ``body``.
        """
        if size is None or size < 0:
            return self.readall()
        if self._expected:
            self._expected = False
            self._reply.proceed()
        try:
            return self._body.read(size)
        except Failure:
            self._failed = True
            raise

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Errors:
    """``wsgi.errors``: what is written there goes to the log."""

    def write(self, text: str) -> int:
        """Log *text*."""
        if text.strip():
            _log.error("%s", text.rstrip())
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Log *lines*."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""


def parser_limits(settings: HttpSettings) -> Config:
    """Gunicorn's configuration for its parser. Nothing a client says is trusted as a proxy's word."""
    limits = Config()
    limits.set("limit_request_line", settings.max_request_line_bytes)
    limits.set("limit_request_fields", settings.max_header_fields)
    limits.set("limit_request_field_size", settings.max_header_field_bytes)
    limits.set("forwarded_allow_ips", "")
    limits.set("secure_scheme_headers", {})
    limits.set("forwarder_headers", "")
    limits.set("header_map", "drop")
    limits.set("http_parser", "python")
    return limits


def refusal(status: int, sentence: str) -> bytes:
    """A whole response that closes the connection. See ``loop.Refusal``."""
    body = f"{sentence}\n".encode()
    headers = [
        ("Server", "gitserver"),
        ("Date", formatdate(usegmt=True)),
        ("Connection", "close"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("x-amzn-RequestId", new_request_id()),
    ]
    if status == 503:
        headers.append(("Retry-After", "5"))
    return _head(f"{status} {HTTPStatus(status).phrase}", headers) + body


def _head(status: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise ApplicationMistake("a response header contains a line break")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _verdict(wrong: Exception) -> tuple[int, str]:
    match wrong:
        case errors.LimitRequestLine():
            return 414, "the request line is too long"
        case errors.LimitRequestHeaders():
            return 431, "the request has too many headers, or one that is too long"
        case errors.UnsupportedTransferCoding():
            return 501, "this transfer coding is not supported; use chunked"
        case errors.ExpectationFailed():
            return 417, "this expectation is not supported; use 100-continue"
        case _:
            return 400, "the request is not valid HTTP"


def _speaks_1_1(request: Request) -> bool:
    return request.version is not None and request.version >= (1, 1)


def _is_coded_twice(request: Request) -> bool:
    """Whether the body is in another transfer coding below the chunks: the parser lets it pass, undecoded."""
    return any(name == "TRANSFER-ENCODING" and value.strip().lower() != "chunked" for name, value in request.headers)


def _expects(request: Request) -> bool:
    return _speaks_1_1(request) and any(name == "EXPECT" for name, _ in request.headers)


def _body(request: Request, connection: Connection) -> LengthBody | ChunkedBody:
    match request.body and request.body.reader:
        case ChunkedReader(parser=pieces) if pieces is not None:
            return ChunkedBody(_chunks(pieces))
        case LengthReader(length=length):
            return LengthBody(connection.intake, length)
        case other:
            raise ApplicationMistake(f"the parser made a body that is not known here: {other!r}")


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except (errors.ParseException, errors.NoMoreData) as broken:
        raise BodyCutShort("its chunks are not whole") from broken


def _read_off(incoming: Input, connection: Connection) -> bool:
    """Read what the application left of the body, if it is little and here. True if the connection may be kept.

    A stranger can make the server do this, so it *must not* wait.
    """
    connection.hurry(READ_OFF_S)
    left = READ_OFF_BYTES
    try:
        while incoming.coming and left > 0:
            left -= len(incoming.read(left))
    except Failure:
        return False
    return incoming.finished
