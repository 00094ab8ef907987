"""Clients that vanish in the middle of a push, servers that are stopped in the middle of one, and a second server."""

import random
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.house import House, Key
from tests.scenarios.conftest import NewHouse
from tests.scenarios.torture import (
    LONG,
    ZERO,
    Change,
    Pusher,
    assert_clones,
    change,
    problems,
    refs,
    report,
    request,
    sealed_files,
    tell,
    times,
    unrecorded,
)

pytestmark = [pytest.mark.torture, pytest.mark.timeout(14_400 if LONG else 300)]

MAIN = "refs/heads/main"
LARGE_BYTES = 10_000_000  # waits in a file
SETTLE_S = 20


def test_a_client_that_vanishes_at_any_byte_of_an_https_push_leaves_nothing(house: House) -> None:
    repository, tries = house.repository(), times(30, 500)
    before = sealed_files(house)

    for number in range(tries):
        made = change(size_bytes=LARGE_BYTES if number % 10 == 0 else 5_000)
        whole = https_request(house, repository, made, chunked=number % 3 == 0)
        with https_connection(house) as connection:
            connection.sendall(whole[: random.randrange(len(whole))])
            if number % 2:
                reset(connection)

    settle(house, repository)
    assert refs(house, repository) == {}
    assert sealed_files(house) == before
    assert_pushes(house, repository)
    tell(f"{tries} clients vanished in the middle of a push over HTTPS: nothing is left of them")


def test_a_client_that_does_not_wait_for_the_report_has_pushed_all_or_nothing(house: House, tmp_path: Path) -> None:
    repository, tries = house.repository(), times(10, 200)

    for number in range(tries):
        made = change()
        with https_connection(house) as connection:
            connection.sendall(https_request(house, repository, made, ref=f"refs/heads/branch-{number}"))
            time.sleep(random.uniform(0, 0.03))
            reset(connection)

    settle(house, repository)
    done = len(refs(house, repository))
    assert_pushes(house, repository)
    assert_clones(house, tmp_path, repository)
    tell(f"{tries} clients left before the report: {done} pushes were done whole, {tries - done} not at all")


def test_a_client_that_vanishes_at_any_byte_of_an_ssh_push_leaves_nothing(house: House) -> None:
    repository, key, tries = house.repository(), house.ssh_key(), times(8, 100)
    before = sealed_files(house)

    for number in range(tries):
        made = change(size_bytes=LARGE_BYTES if number % 4 == 0 else 5_000)
        whole = request([(ZERO, made.oid, MAIN)], made.pack)
        with ssh_push(house, repository, key) as client:
            assert client.stdin is not None
            client.stdin.write(whole[: random.randrange(len(whole))])
            client.stdin.flush()
            time.sleep(random.uniform(0, 0.05))
            client.kill()

    settle(house, repository)
    assert refs(house, repository) == {}
    assert sealed_files(house) == before
    assert_pushes(house, repository)
    tell(f"{tries} clients vanished in the middle of a push over SSH: nothing is left of them")


@pytest.mark.parametrize("door", ["https", "ssh"])
def test_a_server_told_to_stop_finishes_the_push_that_runs(new_house: NewHouse, tmp_path: Path, door: str) -> None:
    house = new_house()
    repository, made = house.repository(), change(size_bytes=2_000_000)
    push = push_over_https if door == "https" else push_over_ssh
    stopped: list[float] = []

    def stop_meanwhile() -> None:
        subprocess.run(["kill", "-TERM", str(house.process_id)], check=True)
        wait_until_refused(house.https_port if door == "https" else house.ssh_port)
        stopped.append(time.monotonic())

    told = push(house, repository, made, stop_meanwhile)
    ended = house.stop()

    assert report(told).ok
    assert ended == 0
    assert time.monotonic() - stopped[0] < SETTLE_S, "it waited for nobody"
    house.start()
    assert refs(house, repository) == {MAIN: made.oid}
    assert_clones(house, tmp_path, repository)


def test_a_server_told_to_stop_does_not_wait_for_a_silent_client_for_ever(new_house: NewHouse) -> None:
    house = new_house(GITSERVER_SERVER_GRACEFUL_STOP_S="2")
    repository, made, key = house.repository(), change(size_bytes=LARGE_BYTES), house.ssh_key()
    whole = https_request(house, repository, made)
    with https_connection(house) as silent, ssh_push(house, repository, key) as other:
        assert other.stdin is not None
        silent.sendall(whole[: len(whole) - 1000])
        other.stdin.write(request([(ZERO, made.oid, MAIN)], made.pack[:-1000]))
        other.stdin.flush()
        time.sleep(0.5)

        began = time.monotonic()
        house.stop()
        took_s = time.monotonic() - began
        other.kill()

    assert 1 < took_s < 2 + SETTLE_S
    house.start()
    assert refs(house, repository) == {}
    assert unrecorded(house) == set()
    assert problems(house) == []


def test_a_second_server_on_a_data_directory_is_refused_and_harms_nothing(house: House) -> None:
    repository = house.repository()

    second = house.cli("serve", "--https", "127.0.0.1:0", "--ssh", "127.0.0.1:0", check=False)

    assert second.returncode != 0
    assert "is running on" in second.stderr
    assert "stop it first" in second.stderr
    assert_pushes(house, repository)


def https_request(house: House, repository: str, made: Change, *, ref: str = MAIN, chunked: bool = False) -> bytes:
    """A whole push as it goes over the wire."""
    credential = house.git_credential()
    token = b64encode(f"{credential.user_name}:{credential.password}".encode())
    body = request([(ZERO, made.oid, ref)], made.pack)
    head = b"POST /v1/repos/%b/git-receive-pack HTTP/1.1\r\nHost: localhost\r\n" % repository.encode()
    head += b"Authorization: Basic %b\r\nContent-Type: application/x-git-receive-pack-request\r\n" % token
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    pieces = (body[at : at + 70_000] for at in range(0, len(body), 70_000))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


@contextmanager
def https_connection(house: House) -> Iterator[ssl.SSLSocket]:
    """A connection to the HTTPS door, closed without a word at the end."""
    context = ssl.create_default_context(cafile=str(house.ca_file))
    with (
        socket.create_connection(("127.0.0.1", house.https_port), 30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def reset(connection: socket.socket) -> None:
    """Have the connection end with a reset instead of an orderly close."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@contextmanager
def ssh_push(house: House, repository: str, key: Key) -> Iterator["subprocess.Popen[bytes]"]:
    """A client that speaks to receive-pack over SSH, and has read what the server said first."""
    command = ["ssh", *house.ssh_options(key), "-p", str(house.ssh_port), "git@localhost"]
    client = subprocess.Popen(
        [*command, f"git-receive-pack '/v1/repos/{repository}'"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stderr is not None
    try:
        while (length := client.stdout.read(4)) != b"0000":
            client.stdout.read(int(length, 16) - 4)
        yield client
    finally:
        client.kill()
        with suppress(BrokenPipeError):
            client.stdin.close()
        client.stdout.close()
        client.stderr.close()
        client.wait(30)


def push_over_https(house: House, repository: str, made: Change, meanwhile: Callable[[], None]) -> bytes:
    """Push, with *meanwhile* in the middle; the report."""
    whole = https_request(house, repository, made)
    half = len(whole) // 2
    with https_connection(house) as connection:
        connection.sendall(whole[:half])
        time.sleep(0.3)
        meanwhile()
        connection.sendall(whole[half:])
        answer = bytearray()
        while piece := connection.recv(65536):
            answer += piece
            if answer.endswith(b"\r\n0\r\n\r\n"):
                break
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    return dechunked(body) if b"chunked" in head else body


def dechunked(body: bytes) -> bytes:
    """The bytes of a chunked body."""
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        out += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :] if int(size, 16) else b""
    return out


def push_over_ssh(house: House, repository: str, made: Change, meanwhile: Callable[[], None]) -> bytes:
    """The same over SSH."""
    whole = request([(ZERO, made.oid, MAIN)], made.pack)
    half = len(whole) // 2
    with ssh_push(house, repository, house.ssh_key()) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(whole[:half])
        client.stdin.flush()
        time.sleep(0.3)
        meanwhile()
        client.stdin.write(whole[half:])
        client.stdin.flush()
        return client.stdout.read()


def settle(house: House, repository: str) -> None:
    """Wait until the server has let go of every push: no unfinished blob, no nameless file, no blob without a row."""
    deadline = time.monotonic() + SETTLE_S
    prefix = house.services.repositories.describe(house.caller, repository).id
    while held := [*held_files(house), *(name for name in unrecorded(house) if name.startswith(prefix))]:
        assert time.monotonic() < deadline, f"still held: {held}"
        time.sleep(0.05)


def wait_until_refused(port: int) -> None:
    """Wait until nobody listens any more."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.1)
    raise AssertionError("a stopping server still lets clients wait")


def held_files(house: House) -> list[str]:
    """What the server's processes hold open of pushes that are not finished."""
    held = []
    for process in house.processes():
        for entry in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                target = str(entry.readlink())
                if ".incoming" in target or "/spool/" in target:
                    held.append(target)
    return held


def assert_pushes(house: House, repository: str) -> None:
    """The server takes another push."""
    with closing(Pusher(house, repository)) as client:
        assert client.create("refs/heads/afterwards", change()).ok
