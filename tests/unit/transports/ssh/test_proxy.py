"""Where a connection that came through a proxy came from."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from gitserver.core.addresses import TrustedProxies
from gitserver.transports.ssh.proxy import SIGNATURE, ProxyHeaderRefused, read_header
from tests.unit.transports.ssh.ssh_house import House, run


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(body)) + body


GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 22\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 22\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ff:: ff:: 1 2\r\n", None),
    (binary(1, 0x11, bytes([192, 0, 2, 7, 198, 51, 100, 1, 0, 1, 0, 22])), "192.0.2.7"),
    (binary(1, 0x11, bytes([192, 0, 2, 7, 198, 51, 100, 1, 0, 1, 0, 22]) + b"extension"), "192.0.2.7"),
    (binary(1, 0x21, socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + bytes(4)), "2001:db8::7"),
    (binary(1, 0x21, socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") * 2 + bytes(4)), "192.0.2.7"),
    (binary(0, 0x00, b""), None),
    (binary(1, 0x31, bytes(216)), None),
]
BAD = [
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"PROXY TCP4 192.0.2.7\r\n",
    b"PROXY TCP4 elsewhere 198.51.100.1 4711 22\r\n",
    b"PROXY TCP4 " + b"1" * 200,
    SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
    binary(2, 0x11, bytes(12)),
    binary(1, 0x11, bytes(4)),
    SIGNATURE + b"\x21\x11\xff\xff",
    SIGNATURE + b"\x21",
]


@pytest.mark.parametrize(("header", "address"), GOOD)
def test_a_header_names_the_client(
    pair: tuple[socket.socket, socket.socket], header: bytes, address: str | None
) -> None:
    pair[0].sendall(header + b"SSH-2.0-x\r\n")

    assert read_header(pair[1], 1) == address
    assert pair[1].recv(100) == b"SSH-2.0-x\r\n"


@pytest.mark.parametrize("header", BAD)
def test_a_broken_header_is_refused(pair: tuple[socket.socket, socket.socket], header: bytes) -> None:
    pair[0].sendall(header)
    pair[0].shutdown(socket.SHUT_WR)

    with pytest.raises(ProxyHeaderRefused):
        read_header(pair[1], 1)


def test_a_header_that_does_not_come_is_refused_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"PROXY TCP4 192.0.")

    with pytest.raises(ProxyHeaderRefused):
        read_header(pair[1], 0.1)


def test_addresses_and_networks_are_trusted_and_mapped_ones_too() -> None:
    trusted = TrustedProxies(["192.0.2.7", "10.0.0.0/8", "2001:db8::/32"])

    assert "192.0.2.7" in trusted
    assert "::ffff:10.1.2.3" in trusted
    assert "2001:db8::1" in trusted
    assert "192.0.2.8" not in trusted


def test_a_trusted_proxy_speaks_for_its_client(tmp_path: Path) -> None:
    with House(tmp_path, tmp_path / "host", trusted_proxies=("127.0.0.0/8",)) as house:
        alice = house.key("alice")
        sock = socket.create_connection(("127.0.0.1", house.port))
        sock.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 22\r\n")
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=10)
        transport.auth_publickey("git", alice.pkey)

        assert run(transport, "git-upload-pack '/v1/repos/web'")[0] == 0
        assert [caller.address for caller in house.callers] == ["192.0.2.7"]
        assert house.ssh(alice, "git-upload-pack '/v1/repos/web'").returncode == 255  # without a header
        transport.close()


def test_who_is_not_trusted_cannot_choose_an_address(tmp_path: Path) -> None:
    with House(tmp_path, tmp_path / "host") as house, socket.create_connection(("127.0.0.1", house.port)) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 22\r\nSSH-2.0-x\r\n")

        assert not b"".join(iter(lambda: read(sock), b"")).removeprefix(b"SSH-2.0-gitserver\r\n")


def read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(4096)
    except ConnectionResetError:
        return b""
