"""The HTTPS door as strangers meet it: a real process, TLS, curl, git and raw sockets."""

import base64
import gzip
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.scenarios.http_door import PASSWORD, TIP, USER, Server, make_certificates

AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
UPLOAD = "Content-Type: application/x-git-upload-pack-request\r\n"
QUICK = {
    "header_timeout_s": 2.0,
    "keep_alive_timeout_s": 1.0,
    "body_idle_timeout_s": 2.0,
    "body_timeout_s": 3.0,
    "write_idle_timeout_s": 2.0,
    "stop_timeout_s": 3.0,
    "threads": 10,
    "max_concurrent_requests": 10,
    "max_body_bytes": 10**9,
}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with ordinary limits and two workers."""
    folder = tmp_path_factory.mktemp("patient")
    server = Server(folder, make_certificates(folder), max_body_bytes=10**6, workers=2).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that loses its patience after two seconds."""
    folder = tmp_path_factory.mktemp("quick")
    server = Server(folder, make_certificates(folder), **QUICK).start()
    yield server
    server.stop()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server of one test's own, not started."""
    server = Server(tmp_path, make_certificates(tmp_path), **QUICK)
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Closes the many connections a test opened."""
    with ExitStack() as connections:
        yield connections


def post(path: str, *headers: str) -> bytes:
    """A request's head, with credentials."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: {AUTHORIZATION}", UPLOAD.strip(), *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def everything(connection: ssl.SSLSocket) -> tuple[bytes, bool]:
    """All bytes until the peer ends, and whether it ended cleanly: with TLS's close_notify."""
    received = bytearray()
    while True:
        try:
            data = connection.recv(65536)
        except (ssl.SSLEOFError, ConnectionResetError):
            return bytes(received), False
        if not data:
            return bytes(received), True
        received += data


def answer(connection: ssl.SSLSocket) -> tuple[int, str]:
    """Status and body of one response that has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65536)
        assert data, received
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), body.decode()


def curl(server: Server, path: str, *options: str) -> "subprocess.CompletedProcess[bytes]":
    command = ["curl", "-sS", "--max-time", "20", "--cacert", str(server.certificates.authority), *options]
    return subprocess.run([*command, server.url(path)], capture_output=True, check=False)


def git(server: Server, *arguments: str, user: str = USER, **environment: str) -> "subprocess.CompletedProcess[str]":
    extra = f"http.extraHeader=Authorization: Basic {base64.b64encode(f'{user}:{PASSWORD}'.encode()).decode()}"
    return subprocess.run(
        ["git", "-c", extra, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_SSL_CAINFO": str(server.certificates.authority),
            "GIT_TERMINAL_PROMPT": "0",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def healthy_within(server: Server, seconds: float) -> bool:
    began = time.monotonic()
    return curl(server, "/healthz").stdout == b"ok\n" and time.monotonic() - began < seconds


# ---- git and curl, well-behaved


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_git_lists_refs_in_every_protocol_version(patient: Server, version: str) -> None:
    listed = git(patient, "-c", f"protocol.version={version}", "ls-remote", patient.url("/v1/repos/web.git"))

    assert listed.returncode == 0, listed.stderr
    assert f"{TIP}\trefs/heads/main" in listed.stdout


def test_git_shows_why_it_was_denied(patient: Server) -> None:
    listed = git(patient, "ls-remote", patient.url("/v1/repos/denied"))

    assert "remote: User: arn:aws:iam::123456789012:user/alice is not authorized" in listed.stderr
    assert "403" in listed.stderr


def test_git_shows_that_a_repository_does_not_exist(patient: Server) -> None:
    listed = git(patient, "ls-remote", patient.url("/v1/repos/absent"))

    assert "remote: absent does not exist" in listed.stderr


def test_wrong_absent_or_too_frequent_credentials_are_told_apart(patient: Server) -> None:
    path = "/v1/repos/web/info/refs?service=git-upload-pack"

    absent = curl(patient, path, "-i").stdout
    wrong = curl(patient, path, "-i", "-u", f"{USER}:wrong").stdout
    many = curl(patient, path, "-i", "-u", "many:x").stdout

    assert absent.startswith(b"HTTP/1.1 401 ")
    assert b'\r\nWWW-Authenticate: Basic realm="gitserver"\r\n' in absent
    assert wrong.startswith(b"HTTP/1.1 401 ")
    assert wrong.endswith(b"the user name or the password is wrong, or the credential was revoked\n")
    assert many.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: " in many


def test_an_advertisement_looks_like_git_http_backends(patient: Server) -> None:
    shown = curl(patient, "/v1/repos/web/info/refs?service=git-receive-pack", "-i", "-u", f"{USER}:{PASSWORD}").stdout

    head, _, body = shown.decode().partition("\r\n\r\n")
    assert head.splitlines()[1:5] == [
        "Expires: Fri, 01 Jan 1980 00:00:00 GMT",
        "Pragma: no-cache",
        "Cache-Control: no-cache, max-age=0, must-revalidate",
        "Content-Type: application/x-git-receive-pack-advertisement",
    ]
    assert "\r\nx-amzn-RequestId: " in head + "\r\n"
    assert body.startswith("001f# service=git-receive-pack\n0000")


def test_version_2_has_no_service_line(patient: Server) -> None:
    path = "/v1/repos/web/info/refs?service=git-upload-pack"

    shown = curl(patient, path, "-u", f"{USER}:{PASSWORD}", "-H", "Git-Protocol: version=2").stdout

    assert shown.startswith(b"000eversion 2\n")


@pytest.mark.parametrize(
    ("options", "path", "status"),
    [
        ([], "/v1/repos/web/info/refs", 403),
        ([], "/v1/repos/web/HEAD", 403),
        ([], "/v1/repos/web/objects/info/packs", 403),
        ([], "/v1/repos/we%20b/info/refs?service=git-upload-pack", 404),
        ([], "/v1/repos/web.git.git/info/refs?service=git-upload-pack", 404),
        ([], "/nowhere", 404),
        ([], "/v1/repos/web/git-upload-pack", 405),
        (["-I"], "/v1/repos/web/info/refs?service=git-upload-pack", 405),
        (["-d", "x"], "/v1/repos/web/git-upload-pack", 415),
        (["-X", "PUT"], "/healthz", 405),
    ],
)
def test_what_is_not_smart_git_is_refused_with_a_sentence(
    patient: Server, options: list[str], path: str, status: int
) -> None:
    shown = curl(patient, path, "-u", f"{USER}:{PASSWORD}", "-i", *options).stdout.decode()

    assert shown.startswith(f"HTTP/1.1 {status} ")
    assert "Content-Type: text/plain" in shown


def test_a_connection_is_kept_for_many_requests(patient: Server) -> None:
    shown = curl(patient, "/healthz", "-w", "%{num_connects}", patient.url("/healthz"), patient.url("/healthz")).stdout

    assert shown == b"ok\n1ok\n0ok\n0"


def test_old_tls_is_refused(patient: Server) -> None:
    tried = curl(patient, "/healthz", "--tlsv1.0", "--tls-max", "1.1")

    assert tried.returncode == 35


def test_a_request_id_is_on_every_answer_and_in_the_log_and_no_secret_is(patient: Server) -> None:
    shown = curl(patient, "/v1/repos/web/info/refs?service=git-upload-pack", "-u", f"{USER}:{PASSWORD}", "-i").stdout

    request_id = re.search(rb"x-amzn-RequestId: (\w{32})\r\n", shown)
    assert request_id is not None
    lines = [line for line in patient.access_log() if line["request_id"] == request_id[1].decode()]
    assert [line["status"] for line in lines] == [200]
    assert PASSWORD not in patient.log.read_text()
    assert AUTHORIZATION.split()[1] not in patient.log.read_text()


# ---- bodies


def test_a_chunked_body_reaches_the_repository(patient: Server) -> None:
    with patient.connect() as connection:
        connection.sendall(post("/v1/repos/web/git-upload-pack", "Transfer-Encoding: chunked", "Connection: close"))
        connection.sendall(b"5\r\nhello\r\n")
        connection.sendall(b"6;name=value\r\n world\r\n0\r\n\r\n")
        received, clean = everything(connection)

    assert clean
    assert b"11 bytes" in received


def test_a_gzipped_body_reaches_the_repository(patient: Server) -> None:
    body = gzip.compress(b"hello world" * 1000)
    with patient.connect() as connection:
        head = post("/v1/repos/web/git-upload-pack", "Content-Encoding: gzip", f"Content-Length: {len(body)}")
        connection.sendall(head + body)
        received = connection.recv(65536)

    assert b"11000 bytes" in received


def test_a_gzip_bomb_is_refused(patient: Server) -> None:
    bomb = gzip.compress(bytes(50 * 10**6))
    with patient.connect() as connection:
        head = post("/v1/repos/web/git-upload-pack", "Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
        connection.sendall(head + bomb)
        status, sentence = answer(connection)

    assert status == 413
    assert "larger than this server takes" in sentence


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(patient: Server) -> None:
    with patient.connect() as connection:
        connection.sendall(post("/v1/repos/web/git-upload-pack", "Expect: 100-continue", "Content-Length: 1000001"))
        status, _ = answer(connection)

    assert status == 413


def test_a_chunked_body_that_grows_too_long_is_refused(patient: Server) -> None:
    with patient.connect() as connection:
        connection.sendall(post("/v1/repos/web/git-upload-pack", "Transfer-Encoding: chunked"))
        for _ in range(17):
            connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
        status, _ = answer(connection)

    assert status == 413


def test_a_client_may_wait_for_continue(patient: Server) -> None:
    with patient.connect() as connection:
        head = post("/v1/repos/web/git-upload-pack", "Expect: 100-continue", "Content-Length: 5")
        connection.sendall(head)
        first = connection.recv(65536)
        connection.sendall(b"hello")
        second = connection.recv(65536)

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"5 bytes" in second


def test_a_denied_client_is_not_told_to_continue(patient: Server) -> None:
    with patient.connect() as connection:
        connection.sendall(post("/v1/repos/denied/git-upload-pack", "Expect: 100-continue", "Content-Length: 5"))
        status, _ = answer(connection)

    assert status == 403


@pytest.mark.parametrize(
    ("name", "head", "body"),
    [
        ("short-length", "Content-Length: 1000", b"only this"),
        ("short-chunk", "Transfer-Encoding: chunked", b"ff\r\nonly this"),
        ("no-last-chunk", "Transfer-Encoding: chunked", b"4\r\nthis\r\n"),
        ("no-last-line", "Transfer-Encoding: chunked", b"4\r\nthis\r\n0\r\n"),
    ],
)
def test_a_body_cut_short_is_an_error_and_no_end(quick: Server, name: str, head: str, body: bytes) -> None:
    with quick.connect() as connection:
        connection.sendall(post(f"/v1/repos/{name}/git-upload-pack", head) + body)

    seen = len(body) if "Length" in head else body.count(b"this") * (9 if name == "short-chunk" else 4)
    assert quick.diary_says(f"{name} raised BodyCutShort after {seen}")
    assert quick.diary_says(f"{name} closed")


# ---- answers that fail


def test_an_answer_that_fails_midway_breaks_the_connection(patient: Server) -> None:
    with patient.connect() as connection:
        connection.sendall(post("/v1/repos/fails-midway/git-upload-pack", "Content-Length: 0"))
        received, clean = everything(connection)

    assert not clean
    assert received.startswith(b"HTTP/1.1 200 ")
    assert not received.endswith(b"0\r\n\r\n")


def test_curl_notices_an_answer_that_fails_midway(patient: Server) -> None:
    options = ["-u", f"{USER}:{PASSWORD}", "-H", UPLOAD.strip(), "-d", "", "-o", "/dev/null"]

    failed = curl(patient, "/v1/repos/fails-politely-midway/git-upload-pack", *options)
    failed_in_1_0 = curl(patient, "/v1/repos/fails-midway/git-upload-pack", "--http1.0", *options)

    assert failed.returncode == 18
    assert failed_in_1_0.returncode != 0


def test_a_bug_is_hidden_behind_a_request_id(patient: Server) -> None:
    with patient.connect() as connection:
        connection.sendall(post("/v1/repos/fails-at-once/git-upload-pack", "Content-Length: 0"))
        status, sentence = answer(connection)

    assert status == 500
    assert re.fullmatch(r"the server failed; its log says more under request id \w{32}\n", sentence)
    assert "Broken: at once" in patient.log.read_text()


def test_a_client_that_leaves_releases_the_repository(quick: Server) -> None:
    with quick.connect() as connection:
        connection.sendall(post("/v1/repos/big-4001/git-upload-pack", "Content-Length: 0"))
        connection.recv(65536)

    assert quick.diary_says("big-4001 closed")


# ---- the hostile


def test_stalled_uploads_and_readers_slow_nobody_and_are_thrown_out(quick: Server, crowd: ExitStack) -> None:
    uploads = [crowd.enter_context(quick.connect()) for _ in range(4)]
    for upload in uploads:
        upload.sendall(post("/v1/repos/stalled/git-upload-pack", "Content-Length: 60000000") + bytes(1024))
    readers = [crowd.enter_context(quick.connect(receive_buffer=65536)) for _ in range(4)]
    for reader in readers:
        reader.sendall(post("/v1/repos/big-4000/git-upload-pack", "Content-Length: 0"))
    time.sleep(0.3)

    assert healthy_within(quick, 1.9)  # before the others are thrown out

    assert [answer(upload)[0] for upload in uploads] == [408] * 4
    assert quick.diary_says("stalled raised BodyTooSlow after 1024")
    assert quick.diary_says("big-4000 closed")


def test_a_stranger_cannot_hold_threads_with_bodies_nobody_reads(quick: Server, crowd: ExitStack) -> None:
    strangers = [crowd.enter_context(quick.connect()) for _ in range(10)]
    for stranger in strangers:
        stranger.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n")
    time.sleep(0.4)

    assert healthy_within(quick, 1.9)  # before the others are thrown out


def test_a_trickling_upload_ends_when_its_whole_time_is_over(quick: Server) -> None:
    with quick.connect() as connection:
        connection.sendall(post("/v1/repos/trickling/git-upload-pack", "Content-Length: 60000000"))
        began = time.monotonic()
        while time.monotonic() - began < 3.4:
            connection.sendall(b"x" * 10)
            time.sleep(0.2)
        status, sentence = answer(connection)

    assert status == 408
    assert "all of it took more than 3 seconds" in sentence


def test_silent_clients_take_no_thread(quick: Server, crowd: ExitStack) -> None:
    silent = [crowd.enter_context(socket.create_connection(("127.0.0.1", quick.port))) for _ in range(60)]
    half_said = [crowd.enter_context(quick.connect()) for _ in range(40)]
    for talker in half_said:
        talker.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")

    assert healthy_within(quick, 1.9)  # before the others are thrown out

    assert answer(half_said[0])[0] == 408
    silent[0].settimeout(5)
    assert silent[0].recv(1) == b""


def test_requests_beyond_the_limit_are_told_to_come_back(quick: Server, crowd: ExitStack) -> None:
    busy = [crowd.enter_context(quick.connect()) for _ in range(10)]
    for connection in busy:
        connection.sendall(post("/v1/repos/busy/git-upload-pack", "Content-Length: 0"))
    time.sleep(0.3)

    refused = curl(quick, "/healthz", "-i").stdout
    served = [b"0 bytes" in connection.recv(65536) for connection in busy]

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 5\r\n" in refused
    assert refused.endswith(b"the server is busy; try again in a few seconds\n")
    assert all(served)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000, 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"\x16\x03 nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ],
)
def test_heads_that_are_too_long_or_ambiguous_are_refused(patient: Server, request_head: bytes, status: int) -> None:
    with patient.connect() as connection:
        connection.sendall(request_head)

        assert answer(connection)[0] == status


def test_two_requests_sent_at_once_are_answered_in_order(patient: Server) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with patient.connect() as connection:
        connection.sendall(one + one + last)
        received, _ = everything(connection)

    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"200", b"200", b"404"]


# ---- start and stop


def test_a_stopping_server_finishes_what_runs_and_closes_the_application(own: Server) -> None:
    own.start()
    answers: list[bytes] = []

    def ask() -> None:
        with own.connect() as connection:
            connection.sendall(post("/v1/repos/busy/git-upload-pack", "Content-Length: 0", "Connection: close"))
            answers.append(everything(connection)[0])

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    took = own.stop()
    asking.join()

    assert b"0 bytes" in answers[0]
    assert took < 3.0
    assert own.diary_says("the application closed")


def test_a_stopping_server_does_not_wait_for_ever(own: Server) -> None:
    own.start()
    with own.connect() as connection:
        connection.sendall(post("/v1/repos/stuck/git-upload-pack", "Content-Length: 60000000"))
        stop = threading.Event()

        def trickle() -> None:
            while not stop.is_set():
                try:
                    connection.sendall(b"x")
                except OSError:
                    return
                stop.wait(0.1)

        trickling = threading.Thread(target=trickle)
        trickling.start()
        time.sleep(0.3)
        took = own.stop()
        stop.set()
        trickling.join()

    assert took < 8.0
    assert own.diary_says("stuck closed")


def test_a_killed_server_leaves_no_process_and_serves_again_at_once(own: Server) -> None:
    own.start()
    assert healthy_within(own, 5)
    workers = psutil.Process(own.pid).children(recursive=True)

    own.stop(signal.SIGKILL)
    began = time.monotonic()
    own.start()

    assert healthy_within(own, 2)
    assert time.monotonic() - began < 2.0
    assert workers
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)


def test_a_killed_worker_is_replaced(own: Server) -> None:
    own.start()
    assert healthy_within(own, 5)
    (worker,) = psutil.Process(own.pid).children()

    worker.kill()

    assert healthy_within(own, 3)


def test_a_certificate_that_does_not_fit_its_key_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    mixed = make_certificates(one)
    make_certificates(other).key.rename(mixed.key)

    with pytest.raises(AssertionError, match="both must be PEM files that belong together"):
        Server(tmp_path, mixed).start()


def test_an_application_that_cannot_be_built_is_never_announced(tmp_path: Path) -> None:
    server = Server(tmp_path, make_certificates(tmp_path), trusted_proxies=["no address"])

    with pytest.raises(AssertionError, match="trusted proxy 'no address' is neither an address nor a network"):
        server.start()


def test_a_taken_address_is_refused_with_a_sentence(quick: Server, own: Server) -> None:
    own.port = quick.port

    with pytest.raises(AssertionError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
        own.start()
