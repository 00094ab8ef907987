"""The SSH door of a whole server: real git, real keys, real engine."""

import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.house import ADMINISTRATOR, House, Key
from tests.unit.transports.ssh.ssh_house import wait_until


@pytest.fixture(scope="module")
def key(house: House) -> Iterator[Key]:
    """A key of the administrator's, who may have five."""
    made = house.ssh_key()
    yield made
    house.services.credentials.revoke_ssh_key(house.caller, ADMINISTRATOR, made.id)


def ssh(house: House, key: Key, *command: str) -> subprocess.CompletedProcess[str]:
    """OpenSSH's client, as a person runs it."""
    words = ["ssh", *house.ssh_options(key), "-T", "-p", str(house.ssh_port), "git@localhost", *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_ssh_audit_finds_nothing_to_fail_in_a_whole_server(house: House) -> None:
    command = ["ssh-audit", "-n", "-l", "fail", "-p", str(house.ssh_port), "localhost"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert "[fail]" not in done.stdout
    assert done.returncode in (0, 2)  # 2: warnings; Debian's ssh-audit does not know today's names


def test_ssh_without_a_command_says_who_one_is(house: House, key: Key) -> None:
    done = ssh(house, key)

    assert done.returncode == 0
    assert "does not offer a shell" in done.stdout
    assert key.id in done.stdout


def test_a_push_and_a_clone_go_through_with_a_key_id_as_the_user(house: House, key: Key, tmp_path: Path) -> None:
    name = house.repository()
    tip = house.commit(tmp_path / "work", {"big": random.Random(1).randbytes(3_000_000)})
    house.git("push", "-q", house.ssh_url(name, key), "HEAD:refs/heads/main", cwd=tmp_path / "work", key=key)

    house.git("clone", "-q", house.ssh_url(name, key), str(tmp_path / "clone"), key=key)

    assert house.git("rev-parse", "HEAD", cwd=tmp_path / "clone").stdout.strip() == tip
    assert house.git("fsck", "--full", "--strict", cwd=tmp_path / "clone").returncode == 0


def test_an_archive_comes_through(house: House, key: Key, tmp_path: Path) -> None:
    name = house.repository()
    house.commit(tmp_path / "work", {"words": "hello"})
    house.git("push", "-q", house.ssh_url(name), "HEAD:refs/heads/main", cwd=tmp_path / "work", key=key)

    house.git("archive", "--remote", house.ssh_url(name), "-o", str(tmp_path / "out.tar"), "main", key=key)

    listed = subprocess.run(["tar", "tf", tmp_path / "out.tar"], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["words"]


def test_an_absent_repository_is_named_in_a_sentence(house: House, key: Key) -> None:
    done = house.git("ls-remote", house.ssh_url("nowhere"), key=key, check=False)

    assert done.returncode == 128
    assert "remote: " in done.stderr
    assert "nowhere" in done.stderr


def test_fifty_clients_at_once_are_all_served(house: House, key: Key, tmp_path: Path) -> None:
    name = house.repository()
    tip = house.commit(tmp_path / "work")
    house.git("push", "-q", house.ssh_url(name), "HEAD:refs/heads/main", cwd=tmp_path / "work", key=key)

    with ThreadPoolExecutor(50) as pool:
        seen = list(pool.map(lambda _: house.git("ls-remote", house.ssh_url(name), "main", key=key).stdout, range(50)))

    assert {line.split()[0] for line in seen} == {tip}


def test_a_revoked_key_opens_nothing_more_and_the_journal_knows(house: House) -> None:
    key, name = house.ssh_key(), house.repository()
    assert ssh(house, key).returncode == 0

    house.services.credentials.revoke_ssh_key(house.caller, ADMINISTRATOR, key.id)

    assert ssh(house, key).returncode == 255
    assert house.git("ls-remote", house.ssh_url(name), key=key, check=False).returncode == 128
    assert wait_until(lambda: any(house.services.journal.entries(event="AuthenticationFailed")))
