"""What goes over the wire for what a WSGI application does: the real loop, in a thread of the test."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitserver.transports.http.exchange import Exchange, WSGIApplication, refusal
from gitserver.transports.http.loop import Loop
from gitserver.transports.http.server import server_context
from gitserver.transports.http.settings import HttpSettings
from tests.scenarios.http_door import Certificates, make_certificates

Asking = Callable[[WSGIApplication, bytes], tuple[bytes, bool]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def ask(certificates: Certificates) -> Iterator[Asking]:
    """Runs an application, sends it bytes, and gives what came back and whether the end was clean."""
    settings = HttpSettings(
        "127.0.0.1", 0, certificates.certificate, certificates.key, threads=2, stop_timeout_s=1.0, header_timeout_s=2.0
    )
    stopping: list[Callable[[], None]] = []

    def asking(application: WSGIApplication, request: bytes) -> tuple[bytes, bool]:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        exchange = Exchange(application, settings, several_processes=False)
        loop = Loop([listener], server_context(settings), settings, exchange.answer, refusal)
        stopped = threading.Event()
        thread = threading.Thread(target=loop.run, args=(lambda: not stopped.is_set(), lambda: None))
        thread.start()

        def stop() -> None:
            stopped.set()
            loop.wake()
            thread.join()

        stopping.append(stop)
        return _converse(port, certificates.authority, request)

    yield asking
    for stop in stopping:
        stop()


def _converse(port: int, authority: Path, request: bytes) -> tuple[bytes, bool]:
    context = ssl.create_default_context(cafile=authority)
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    received = bytearray()
    with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as connection:
        connection.sendall(request)
        try:
            while data := connection.recv(65536):
                received += data
        except (ssl.SSLEOFError, ConnectionResetError):
            return bytes(received), False
    return bytes(received), True


def get(version: str = "1.1", method: str = "GET") -> bytes:
    return f"{method} / HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def says(status: str, *pieces: bytes, **headers: str) -> WSGIApplication:
    """An application that always answers this."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(status, named)
        return pieces

    return application


def test_a_body_without_a_length_goes_out_in_chunks(ask: Asking) -> None:
    received, clean = ask(says("200 OK", b"hello", b"", bytes(20000), b"world"), get())

    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert body == b"5\r\nhello\r\n4e20\r\n" + bytes(20000) + b"\r\n5\r\nworld\r\n0\r\n\r\n"
    assert clean


def test_a_big_last_piece_is_ended_too(ask: Asking) -> None:
    received, _ = ask(says("200 OK", bytes(20000)), get())

    assert received.endswith(b"\r\n4e20\r\n" + bytes(20000) + b"\r\n0\r\n\r\n")


def test_an_old_client_gets_no_chunks(ask: Asking) -> None:
    received, clean = ask(says("200 OK", b"hello", b"world"), get("1.0"))

    assert received.endswith(b"\r\n\r\nhelloworld")
    assert b"chunked" not in received
    assert clean


def test_an_empty_answer_has_a_length(ask: Asking) -> None:
    received, _ = ask(says("200 OK"), get())

    assert b"\r\nContent-Length: 0\r\n" in received


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_that_have_no_body_have_none(ask: Asking, status: str) -> None:
    received, _ = ask(says(status, b"oops"), get())

    assert received.endswith(b"\r\n\r\n")
    assert b"chunked" not in received


def test_head_is_answered_without_a_body(ask: Asking) -> None:
    received, _ = ask(says("200 OK", b"hello", Content_Length="5"), get(method="HEAD"))

    assert b"\r\nContent-Length: 5\r\n" in received
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("length", ["4", "6"])
def test_another_length_than_promised_breaks_the_connection(ask: Asking, length: str) -> None:
    _, clean = ask(says("200 OK", b"hel", b"lo", Content_Length=length), get())

    assert not clean


def test_headers_cannot_be_smuggled_in(ask: Asking) -> None:
    received, _ = ask(says("200 OK", b"x", X_Name="a\r\nSet-Cookie: b"), get())

    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in received


def test_an_application_that_never_starts_is_answered_for(ask: Asking) -> None:
    received, _ = ask(lambda _environ, _start: [b"x"], get())

    assert received.startswith(b"HTTP/1.1 500 ")


def test_an_iterator_is_closed_even_when_it_fails(ask: Asking) -> None:
    closed: list[bool] = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            raise RuntimeError("no")

        def close(self) -> None:
            closed.append(True)

    received, _ = ask(lambda _environ, start: (start("200 OK", []), Pieces())[1], get())

    assert received.startswith(b"HTTP/1.1 500 ")
    assert closed == [True]


def test_the_application_sees_what_was_asked(ask: Asking) -> None:
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seen.update(environ, body=environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    head = b"POST /a%20b?c=d HTTP/1.1\r\nHost: localhost\r\nX-Twice: 1\r\nX-Twice: 2\r\nx_under: 3\r\n"
    ask(application, head + b"Content-Type: a/b\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + bytes(100000))

    assert (seen["REQUEST_METHOD"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("POST", "/a b", "c=d")
    assert (seen["HTTP_X_TWICE"], seen["CONTENT_TYPE"], seen["CONTENT_LENGTH"]) == ("1,2", "a/b", "100000")
    assert "HTTP_X_UNDER" not in seen
    assert seen["body"] == bytes(100000)
