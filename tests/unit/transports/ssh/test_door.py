"""The SSH door, as OpenSSH and paramiko clients find it."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from tests.unit.transports.ssh.ssh_house import PIECE, House, run, wait_until


@pytest.fixture(scope="session")
def host_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("host_keys")


@pytest.fixture
def house(tmp_path: Path, host_keys: Path) -> Iterator[House]:
    with House(tmp_path, host_keys) as house:
        yield house


def test_a_key_is_found_by_its_fingerprint_under_the_user_git(house: House) -> None:
    alice = house.key("alice")

    done = house.ssh(alice, "git-upload-pack '/v1/repos/web'")

    assert (done.returncode, done.stdout) == (0, b"fetch web v0 for alice")
    assert done.stderr == b""


def test_a_key_is_found_by_its_id(house: House) -> None:
    alice = house.key("alice")

    done = house.ssh(alice, "git-receive-pack 'v1/repos/web.git'", "APKAALICE")

    assert (done.returncode, done.stdout) == (0, b"push web v0 for alice")
    assert house.callers[0].proof.credential_id == "APKAALICE"
    assert house.callers[0].address == "127.0.0.1"


def test_a_key_under_somebody_elses_id_is_nobody(house: House) -> None:
    house.key("alice")
    bob = house.key("bob")

    done = house.ssh(bob, "git-upload-pack '/v1/repos/web'", "APKAALICE")

    assert done.returncode == 255
    assert b"Permission denied (publickey)" in done.stderr
    assert house.callers == []


def test_an_unknown_key_is_refused_and_told_to_the_journal_once(house: House) -> None:
    stranger = house.key("stranger", known=False)

    done = house.ssh(stranger, "git-upload-pack '/v1/repos/web'")

    assert done.returncode == 255
    assert wait_until(lambda: house.failed == [("127.0.0.1", "ssh-key", "git")])


def test_the_right_key_may_come_after_wrong_ones(house: House) -> None:
    wrong = [house.key(f"wrong{number}", known=False) for number in range(8)]
    alice = house.key("alice")

    words = house.ssh_command(alice)
    for key in reversed(wrong):
        words[5:5] = ["-i", str(key.path)]
    done = subprocess.run([*words, "git-upload-pack '/v1/repos/web'"], capture_output=True, check=False)

    assert done.stdout == b"fetch web v0 for alice"
    assert wait_until(lambda: house.closed == ["web"])
    assert house.failed == []


def test_a_key_of_a_kind_that_is_not_accepted_does_not_end_the_connection(house: House) -> None:
    alice = house.key("alice")
    transport = house.transport()
    odd = paramiko.ECDSAKey.generate()
    odd.get_name = lambda: "sk-ssh-ed25519@openssh.com"

    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey("git", odd)
    transport.auth_publickey("git", alice.pkey)

    assert run(transport, "git-upload-pack '/v1/repos/web'")[1] == b"fetch web v0 for alice"
    transport.close()


def test_rsa_and_ecdsa_keys_are_accepted(house: House) -> None:
    for kind, bits in (("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "521")):
        alice = house.key("alice")
        alice.path.unlink()
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", alice.path], check=True)
        printed = subprocess.run(["ssh-keygen", "-lf", alice.path], capture_output=True, check=True).stdout
        house.keys.offers[printed.decode().split()[1]] = house.keys.offers.popitem()[1]

        assert house.ssh(alice, "git-upload-pack '/v1/repos/web'").stdout == b"fetch web v0 for alice"


def test_an_rsa_signature_with_sha1_is_refused(house: House) -> None:
    alice = house.key("alice")
    alice.path.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", alice.path], check=True)
    printed = subprocess.run(["ssh-keygen", "-lf", alice.path], capture_output=True, check=True).stdout
    house.keys.offers[printed.decode().split()[1]] = house.keys.offers.popitem()[1]

    done = house.ssh(alice, "git-upload-pack '/v1/repos/web'", "git", "PubkeyAcceptedAlgorithms=ssh-rsa")

    assert done.returncode == 255
    assert house.callers == []


def test_a_key_revoked_while_connected_runs_nothing_more(house: House) -> None:
    alice = house.key("alice")
    transport = house.client(alice)
    before = run(transport, "git-upload-pack '/v1/repos/web'")

    house.keys.revoke("alice")
    after = run(transport, "git-upload-pack '/v1/repos/web'")
    again = house.ssh(alice, "git-upload-pack '/v1/repos/web'")

    assert before[0] == 0
    assert after == (128, b"", b"remote: the SSH key was deleted\n")
    assert again.returncode == 255
    transport.close()


def test_a_shell_is_answered_with_a_greeting(house: House) -> None:
    alice = house.key("alice")

    done = house.ssh(alice, None)

    assert done.returncode == 0
    assert b"Hello alice, you are arn:aws:iam::123456789012:user/alice" in done.stdout
    assert b"does not offer a shell" in done.stdout


def test_somebody_at_a_terminal_gets_the_greeting_too(house: House) -> None:
    alice = house.key("alice")
    ours, theirs = os.openpty()

    done = subprocess.run(house.ssh_command(alice), stdin=theirs, capture_output=True, timeout=20, check=False)

    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    assert b"Hello alice" in done.stdout
    assert b"PTY allocation request failed" in done.stderr


def test_what_is_not_git_is_refused_with_a_sentence(house: House) -> None:
    alice = house.key("alice")
    transport = house.client(alice)

    for command in ("id", "git-upload-pack '/v1/repos/web'; id", "git-upload-pack", "git-shell", "x" * 2000):
        status, output, error = run(transport, command)

        assert (status, output) == (128, b"")
        assert error.startswith(b"remote: ")
    assert house.callers == []
    transport.close()


def test_subsystems_and_terminals_are_refused(house: House) -> None:
    transport = house.client(house.key("alice"))

    asks: list[Callable[[paramiko.Channel], object]] = [
        lambda channel: channel.invoke_subsystem("sftp"),
        lambda channel: channel.get_pty(),
        lambda channel: channel.request_x11(),
        lambda channel: channel.set_environment_variable("LD_PRELOAD", "x.so") or channel.invoke_subsystem("x"),
    ]
    for ask in asks:
        channel = transport.open_session(timeout=10)
        with pytest.raises(paramiko.SSHException):
            ask(channel)
        channel.close()
    assert run(transport, "git-upload-pack '/v1/repos/web'")[0] == 0
    transport.close()


def test_nothing_is_forwarded(house: House) -> None:
    transport = house.client(house.key("alice"))

    with pytest.raises(paramiko.ChannelException):
        transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1), timeout=10)
    with pytest.raises(paramiko.ChannelException):
        transport.open_channel("direct-streamlocal@openssh.com", timeout=10)
    with pytest.raises(paramiko.SSHException):
        transport.request_port_forward("127.0.0.1", 0)
    transport.close()


def test_passwords_and_the_like_are_refused(house: House) -> None:
    house.key("alice")

    attempts: list[Callable[[paramiko.Transport], object]] = [
        lambda transport: transport.auth_none("git"),
        lambda transport: transport.auth_password("git", "hunter2", fallback=False),
        lambda transport: transport.auth_interactive("git", lambda *_: ["hunter2"]),
    ]
    for attempt in attempts:
        transport = house.transport()
        with pytest.raises(paramiko.BadAuthenticationType) as refusal:
            attempt(transport)
        assert refusal.value.allowed_types == ["publickey"]
        transport.close()


def test_the_protocol_version_comes_through_the_environment(house: House) -> None:
    alice = house.key("alice")

    done = house.ssh(alice, "git-upload-pack '/v1/repos/web'", "git", "SetEnv=GIT_PROTOCOL=version=2 OTHER=x")

    assert done.stdout == b"fetch web v2 for alice"


def test_a_channel_runs_one_command(house: House) -> None:
    transport = house.client(house.key("alice"))
    channel = transport.open_session(timeout=10)
    channel.exec_command("git-upload-pack '/v1/repos/up'")

    with pytest.raises(paramiko.SSHException):
        channel.exec_command("git-upload-pack '/v1/repos/web'")

    transport.close()
    assert wait_until(lambda: house.closed == ["up"])
    assert len(house.callers) == 1


def test_failures_reach_the_client_as_sentences(house: House) -> None:
    transport = house.client(house.key("alice"))

    absent = run(transport, "git-upload-pack '/v1/repos/absent'")
    denied = run(transport, "git-upload-pack '/v1/repos/denied'")
    late = run(transport, "git-upload-pack '/v1/repos/late'")

    assert absent == (128, b"", b"remote: absent does not exist\n")
    assert denied[2].splitlines()[1] == b"remote: ask your administrator"
    assert late == (128, b"half", b"remote: an object went missing\n")
    assert house.closed == ["late"]
    transport.close()


def test_a_bug_shows_a_request_id_and_nothing_else(house: House, caplog: pytest.LogCaptureFixture) -> None:
    transport = house.client(house.key("alice"))

    status, output, error = run(transport, "git-upload-pack '/v1/repos/broken'")

    assert (status, output) == (128, b"half")
    assert error.startswith(b"remote: internal error, request id ")
    assert b"secret" not in error
    assert error.split()[-1].decode() in caplog.text
    assert "RuntimeError: the engine fell over a secret" in caplog.text
    assert house.closed == ["broken"]
    transport.close()


def test_streams_arrive_whole_in_both_directions(house: House) -> None:
    alice = house.key("alice")
    size = 20 * 2**20 + 12345
    sent = (PIECE * 100)[:size]

    down = house.ssh(alice, f"git-upload-pack '/v1/repos/down-{size}'")
    up = house.ssh(alice, "git-receive-pack '/v1/repos/up'", feed=sent)

    assert down.returncode == up.returncode == 0
    assert hashlib.sha256(down.stdout).digest() == hashlib.sha256(sent).digest()
    assert up.stdout.decode() == hashlib.sha256(sent).hexdigest()


def test_twenty_sessions_run_at_once(house: House) -> None:
    alice = house.key("alice")
    sent = PIECE * 4

    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda _: house.ssh(alice, "git-receive-pack '/v1/repos/up'", feed=sent), range(20)))

    assert {one.stdout.decode() for one in done} == {hashlib.sha256(sent).hexdigest()}


def test_ssh_audit_finds_nothing_to_fail(house: House) -> None:
    done = subprocess.run(
        ["ssh-audit", "-j", "-p", str(house.port), "127.0.0.1"], capture_output=True, check=False, timeout=60
    )
    level = subprocess.run(
        ["ssh-audit", "-l", "fail", "-n", "-p", str(house.port), "127.0.0.1"],
        capture_output=True,
        check=False,
        timeout=60,
    )

    offered = json.loads(done.stdout)
    assert b"[fail]" not in level.stdout
    assert level.returncode in (0, 2)  # 2: warnings
    assert {entry["algorithm"] for entry in offered["key"]} == {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"}
    assert set(offered["enc"]) == {"aes256-gcm@openssh.com", "aes128-gcm@openssh.com"}
    assert "kex-strict-s-v00@openssh.com" in {entry["algorithm"] for entry in offered["kex"]}
