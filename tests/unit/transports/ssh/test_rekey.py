"""New keys in the middle of a stream, asked for by either side."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitserver.transports.ssh.transport import LimitedPacketizer
from tests.unit.transports.ssh.ssh_house import PIECE, House, run

SIZE = 50 * 10**6
SENT = (PIECE * (SIZE // len(PIECE) + 1))[:SIZE]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path, tmp_path / "host") as house:
        yield house


@pytest.fixture
def impatient_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedPacketizer, "REKEY_BYTES", 4 * 2**20)


def test_streams_survive_a_client_that_asks_for_new_keys(house: House) -> None:
    alice = house.key("alice")

    down = house.ssh(alice, f"git-upload-pack '/v1/repos/down-{SIZE}'", "git", "RekeyLimit=4M")
    up = house.ssh(alice, "git-receive-pack '/v1/repos/up'", "git", "RekeyLimit=4M", feed=SENT)

    assert (down.returncode, up.returncode) == (0, 0)
    assert hashlib.sha256(down.stdout).digest() == hashlib.sha256(SENT).digest()
    assert up.stdout.decode() == hashlib.sha256(SENT).hexdigest()


@pytest.mark.usefixtures("impatient_server")
def test_streams_survive_a_server_that_asks_for_new_keys(house: House) -> None:
    alice = house.key("alice")

    down = house.ssh(alice, f"git-upload-pack '/v1/repos/down-{SIZE}'")
    up = house.ssh(alice, "git-receive-pack '/v1/repos/up'", feed=SENT)

    assert (down.returncode, up.returncode) == (0, 0)
    assert hashlib.sha256(down.stdout).digest() == hashlib.sha256(SENT).digest()
    assert up.stdout.decode() == hashlib.sha256(SENT).hexdigest()


@pytest.mark.usefixtures("impatient_server")
def test_commands_that_follow_one_another_survive_new_keys(house: House) -> None:
    transport = house.client(house.key("alice"))

    statuses = [run(transport, f"git-upload-pack '/v1/repos/down-{2**20}'")[0] for _ in range(12)]

    assert statuses == [0] * 12
    transport.close()
