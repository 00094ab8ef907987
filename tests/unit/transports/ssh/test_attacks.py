"""Attacks on the SSH door that we have heard of, each told as a story."""

import queue
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_EXTENDED_DATA,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_INFO_RESPONSE,
    cMSG_USERAUTH_REQUEST,
)

from gitserver.transports.ssh.session import ClientSilent, ConnectionLost
from tests.unit.transports.ssh.ssh_house import House, Key, run, wait_until

Open = Callable[..., House]


@pytest.fixture(scope="session")
def host_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host_keys")


@pytest.fixture
def open_house(tmp_path: Path, host_keys: Path) -> Iterator[Open]:
    houses: list[House] = []

    def build(**changes: object) -> House:
        houses.append(House(tmp_path, host_keys, **changes).__enter__())
        return houses[-1]

    yield build
    for house in houses:
        house.release.set()
        house.stop()


class Liar(AuthHandler):  # type: ignore[misc]
    """A client's side of authentication that says whatever it is told to."""

    def __init__(self, transport: paramiko.Transport) -> None:
        super().__init__(transport)
        self.replies: queue.Queue[str] = queue.Queue()
        transport.auth_handler = self
        message = paramiko.Message()
        message.add_byte(cMSG_SERVICE_REQUEST)
        message.add_string("ssh-userauth")
        transport._send_message(message)
        assert self.replies.get(timeout=10) == "service"

    def _parse_service_accept(self, m: paramiko.Message) -> None:
        self.replies.put("service")

    def _parse_userauth_info_request(self, m: paramiko.Message) -> None:
        self.replies.put("known")  # the same number as SSH_MSG_USERAUTH_PK_OK

    def _parse_userauth_success(self, m: paramiko.Message) -> None:
        self.authenticated = True
        self.transport._auth_trigger()
        self.replies.put("success")

    def _parse_userauth_failure(self, m: paramiko.Message) -> None:
        self.replies.put("failure")

    def offer(self, key: Key, user: str = "git") -> str:
        """Send *key* unsigned."""
        self.transport._send_message(self._request(key, user, signed=False))
        return self.replies.get(timeout=10)

    def prove(self, key: Key, user: str = "git", *, signer: Key | None = None) -> str:
        """Send *key* with a signature, made by *signer* if that is somebody else."""
        pkey = (signer or key).pkey
        message = self._request(key, user, signed=True)
        blob = self._get_session_blob(key.pkey, "ssh-connection", user, "ssh-ed25519")
        message.add_string(pkey.sign_ssh_data(blob, "ssh-ed25519"))
        self.transport._send_message(message)
        return self.replies.get(timeout=10)

    def _request(self, key: Key, user: str, *, signed: bool) -> paramiko.Message:
        message = paramiko.Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        for word in (user, "ssh-connection", "publickey"):
            message.add_string(word)
        message.add_boolean(signed)
        message.add_string("ssh-ed25519")
        message.add_string(key.pkey.asbytes())
        return message


def test_who_offers_the_admins_public_half_and_then_signs_with_his_own_key_is_himself(open_house: Open) -> None:
    house = open_house()
    admin, mallory = house.key("admin"), house.key("mallory")
    transport = house.transport()
    liar = Liar(transport)

    assert liar.offer(mallory) == "known"
    assert liar.offer(admin) == "known"
    assert liar.prove(mallory) == "success"

    assert run(transport, "git-upload-pack '/v1/repos/web'")[1] == b"fetch web v0 for mallory"
    assert [caller.name for caller in house.callers] == ["mallory"]
    transport.close()


def test_who_offers_the_admins_key_after_having_signed_stays_himself(open_house: Open) -> None:
    house = open_house()
    admin, mallory = house.key("admin"), house.key("mallory")
    transport = house.transport()
    liar = Liar(transport)

    assert liar.prove(mallory) == "success"
    transport._send_message(liar._request(admin, "git", signed=False))

    assert run(transport, "git-upload-pack '/v1/repos/web'")[1] == b"fetch web v0 for mallory"
    transport.close()


def test_who_offers_the_admins_key_without_a_signature_gets_nothing(open_house: Open) -> None:
    house = open_house()
    admin = house.key("admin")
    transport = house.transport()
    liar = Liar(transport)

    assert liar.offer(admin) == "known"
    with pytest.raises(paramiko.ChannelException):
        transport.open_session(timeout=10)
    with pytest.raises(paramiko.SSHException):
        transport.request_port_forward("127.0.0.1", 0)

    assert house.callers == []
    transport.close()


def test_the_admins_key_with_somebody_elses_signature_is_refused(open_house: Open) -> None:
    house = open_house()
    admin, mallory = house.key("admin"), house.key("mallory")
    transport = house.transport()
    liar = Liar(transport)

    assert liar.prove(admin, signer=mallory) == "failure"
    with pytest.raises(paramiko.ChannelException):
        transport.open_session(timeout=10)

    assert liar.prove(mallory) == "success"
    assert run(transport, "git-upload-pack '/v1/repos/web'")[1] == b"fetch web v0 for mallory"
    transport.close()


def test_answers_to_questions_that_were_not_asked_prove_nothing(open_house: Open) -> None:
    house = open_house()
    admin = house.key("admin")
    transport = house.transport()
    liar = Liar(transport)

    assert liar.offer(admin) == "known"
    message = paramiko.Message()
    message.add_byte(cMSG_USERAUTH_INFO_RESPONSE)
    message.add_int(1)
    message.add_string("123456")
    transport._send_message(message)

    assert liar.replies.get(timeout=10) == "failure"
    with pytest.raises(paramiko.ChannelException):
        transport.open_session(timeout=10)
    transport.close()


def test_a_connection_ends_after_too_many_refused_keys(open_house: Open) -> None:
    house = open_house(login_attempts=3)
    alice = house.key("alice")
    strangers = [house.key(f"stranger{number}", known=False) for number in range(3)]
    transport = house.transport()
    liar = Liar(transport)

    assert [liar.offer(stranger) for stranger in strangers] == ["failure"] * 3
    assert wait_until(lambda: not transport.is_active())

    assert house.ssh(alice, "git-upload-pack '/v1/repos/web'").returncode == 0
    assert wait_until(lambda: house.failed == [("127.0.0.1", "ssh-key", "git")])


def test_a_stranger_cannot_make_the_server_exchange_keys_again(open_house: Open) -> None:
    house = open_house()
    transport = house.transport()

    with pytest.raises((paramiko.SSHException, OSError, EOFError)):
        transport.renegotiate_keys()

    transport.close()
    alice = house.client(house.key("alice"))
    assert run(alice, "git-upload-pack '/v1/repos/web'")[0] == 0
    alice.close()


def test_a_key_exchange_that_costs_the_server_more_than_the_stranger_is_not_spoken(open_house: Open) -> None:
    transport = paramiko.Transport(("127.0.0.1", open_house().port))
    transport._preferred_kex = ("diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256")

    with pytest.raises(paramiko.SSHException, match="no acceptable kex"):
        transport.start_client(timeout=10)

    transport.close()


def test_nobody_may_ask_about_known_keys_for_ever(open_house: Open) -> None:
    house = open_house(login_attempts=3)
    admin = house.key("admin")
    transport = house.transport()
    liar = Liar(transport)

    assert [liar.offer(admin) for _ in range(8)] == ["known"] * 8
    transport._send_message(liar._request(admin, "git", signed=False))

    assert wait_until(lambda: not transport.is_active())
    assert liar.replies.empty()


def test_a_client_that_says_nothing_is_closed(open_house: Open) -> None:
    house = open_house(login_s=0.5)

    with socket.create_connection(("127.0.0.1", house.port)) as sock:
        sock.settimeout(5)
        began = time.monotonic()
        heard = b"".join(iter(lambda: sock.recv(4096), b""))

    assert heard.startswith(b"SSH-2.0-gitserver\r\n")
    assert time.monotonic() - began < 3


def test_a_client_that_dribbles_its_version_is_closed(open_house: Open) -> None:
    house = open_house(login_s=0.5)

    with socket.create_connection(("127.0.0.1", house.port)) as sock:
        began = time.monotonic()
        sock.sendall(b"SSH-2.0-")
        while takes(sock, b"a") and time.monotonic() - began < 10:
            time.sleep(0.1)

    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-" + b"a" * 300,
        b"SSH-2.0-x\r\n\xff\xff\xff\xff" + b"a" * 64,
        b"SSH-2.0-x\r\n\x00\x00\x00\x00" + b"a" * 64,
        b"SSH-2.0-x\r\n\x00\x04\x00\x01" + b"a" * 64,
        b"SSH-1.5-x\r\n",
    ],
    ids=["http", "long version", "4 GiB packet", "empty packet", "256 KiB packet", "version 1"],
)
def test_what_is_not_ssh_is_closed_at_once(open_house: Open, noise: bytes) -> None:
    house = open_house(login_s=60)

    with socket.create_connection(("127.0.0.1", house.port)) as sock:
        sock.settimeout(5)
        sock.sendall(noise)
        began = time.monotonic()
        while True:
            try:
                if not sock.recv(4096):
                    break
            except ConnectionResetError:
                break

    assert time.monotonic() - began < 3
    assert house.failed == []


def test_a_flood_from_one_address_does_not_lock_out_the_others(open_house: Open) -> None:
    house = open_house(max_unauthenticated=6, max_unauthenticated_per_address=4, login_s=20)
    alice = house.key("alice")

    flood = [socket.create_connection(("127.0.0.1", house.port), source_address=("127.0.0.9", 0)) for _ in range(60)]
    began = time.monotonic()
    done = house.ssh(alice, "git-upload-pack '/v1/repos/web'")

    assert done.returncode == 0
    assert time.monotonic() - began < 3
    for sock in flood:
        sock.close()


def test_who_shares_the_floods_address_waits_no_longer_than_a_login_takes(open_house: Open) -> None:
    house = open_house(max_unauthenticated=6, max_unauthenticated_per_address=4, login_s=1)
    alice = house.key("alice")

    flood = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(4)]
    began = time.monotonic()
    done = house.ssh(alice, "git-upload-pack '/v1/repos/web'")

    assert done.returncode == 0
    assert time.monotonic() - began < 4
    for sock in flood:
        sock.close()


def test_who_sends_more_than_the_window_is_cut_off(open_house: Open) -> None:
    house = open_house()
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)
    channel.exec_command("git-receive-pack '/v1/repos/wait'")

    for _ in range(3 * 64):  # 6 MiB, where 2 were allowed
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_DATA)
        message.add_int(channel.remote_chanid)
        message.add_string(bytes(32768))
        try:
            transport._send_message(message)
        except EOFError:
            break

    assert wait_until(lambda: not transport.is_active())


def test_who_writes_to_our_standard_error_is_cut_off(open_house: Open) -> None:
    house = open_house()
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)

    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_EXTENDED_DATA)
    message.add_int(channel.remote_chanid)
    message.add_int(1)
    message.add_string(b"x")
    transport._send_message(message)

    assert wait_until(lambda: not transport.is_active())


def test_a_client_that_vanishes_midway_is_no_end_of_the_stream(open_house: Open) -> None:
    house = open_house()
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)
    channel.exec_command("git-receive-pack '/v1/repos/up'")
    channel.sendall(b"x" * 100_000)

    transport.sock.shutdown(socket.SHUT_RDWR)

    assert house.one_closed.wait(5)
    assert house.closed == ["up"]
    assert isinstance(house.failures[0], ConnectionLost)
    transport.close()


def test_a_channel_closed_midway_is_no_end_of_the_stream(open_house: Open) -> None:
    house = open_house()
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)
    channel.exec_command("git-receive-pack '/v1/repos/up'")
    channel.sendall(b"x" * 100_000)

    channel.eof_sent = True  # so that close() sends no end of the stream
    channel.close()

    assert house.one_closed.wait(5)
    assert isinstance(house.failures[0], ConnectionLost)
    transport.close()


def test_a_client_that_falls_silent_in_a_push_is_closed(open_house: Open) -> None:
    house = open_house(idle_s=0.5)
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)
    channel.exec_command("git-receive-pack '/v1/repos/up'")
    channel.sendall(b"x" * 100)

    assert house.one_closed.wait(5)
    assert isinstance(house.failures[0], ClientSilent)
    assert wait_until(lambda: not transport.is_active())


@pytest.mark.parametrize("window", [2**15, 2**30], ids=["full window", "full socket"])
def test_a_client_that_does_not_read_is_closed(open_house: Open, window: int) -> None:
    house = open_house(idle_s=0.5)

    def deaf(*_words: object, **_more: object) -> bytes:
        house.release.wait(20)  # this client's thread reads no more
        raise EOFError

    transport = house.client(house.key("alice"))
    channel = transport.open_session(window_size=window, timeout=10)
    channel.exec_command("git-upload-pack '/v1/repos/down-1000000000'")
    if window > 2**20:
        transport.packetizer.read_all = deaf

    assert house.one_closed.wait(8)
    house.release.set()
    transport.close()


def test_an_idle_connection_is_closed(open_house: Open) -> None:
    house = open_house(idle_s=0.5)
    transport = house.client(house.key("alice"))

    assert run(transport, "git-upload-pack '/v1/repos/web'")[0] == 0

    assert wait_until(lambda: not transport.is_active())


def test_one_connection_runs_so_many_commands_at_once(open_house: Open) -> None:
    house = open_house(max_sessions=2)
    transport = house.client(house.key("alice"))
    channels = [transport.open_session(timeout=10) for _ in range(2)]

    with pytest.raises(paramiko.ChannelException):
        transport.open_session(timeout=10)
    channels[0].close()

    assert run(transport, "git-upload-pack '/v1/repos/web'")[0] == 0
    transport.close()


def test_stopping_lets_a_running_command_finish_and_begins_no_other(open_house: Open) -> None:
    house = open_house(stop_s=10)
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)
    channel.exec_command("git-upload-pack '/v1/repos/wait'")
    assert channel.recv(100) == b"waiting"

    house._stop.set()
    assert wait_until(lambda: not accepts(house.port))
    assert wait_until(lambda: refuses(transport))
    house.release.set()

    assert channel.recv(100) == b"done"
    assert channel.recv_exit_status() == 0
    house.stop()


def test_a_failed_login_is_told_though_the_server_stops(open_house: Open) -> None:
    house = open_house()
    transport = house.transport()
    assert Liar(transport).offer(house.key("stranger", known=False)) == "failure"

    house.stop()

    assert house.failed == [("127.0.0.1", "ssh-key", "git")]
    transport.close()


def test_stopping_cuts_what_takes_too_long(open_house: Open) -> None:
    house = open_house(stop_s=0.5)
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)
    channel.exec_command("git-receive-pack '/v1/repos/up'")

    began = time.monotonic()
    house.stop()

    assert time.monotonic() - began < 3
    assert house.one_closed.wait(2)
    transport.close()


def takes(sock: socket.socket, data: bytes) -> bool:
    try:
        sock.sendall(data)
    except OSError:
        return False
    return True


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def refuses(transport: paramiko.Transport) -> bool:
    try:
        transport.open_session(timeout=5).close()
    except paramiko.ChannelException:
        return True
    return False
