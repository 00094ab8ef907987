"""The server's own keys."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from gitserver.transports.ssh.host_keys import HostKeyRefused, load_host_keys, make_host_keys


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys") / "ssh"
    make_host_keys(directory)
    return directory


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "ssh"))


def test_keys_are_made_once_and_for_their_owner_alone(keys: Path) -> None:
    first = [key.public for key in load_host_keys(keys)]

    again = [key.public for key in make_host_keys(keys)]

    assert first == again
    assert [text.split()[0] for text in first] == ["ssh-ed25519", "ssh-rsa"]
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    for name in ("ssh_host_ed25519_key", "ssh_host_rsa_key"):
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600
    assert sorted(os.listdir(keys)) == [  # noqa: PTH208
        "ssh_host_ed25519_key",
        "ssh_host_ed25519_key.pub",
        "ssh_host_rsa_key",
        "ssh_host_rsa_key.pub",
    ]


def test_openssh_reads_the_keys_and_agrees_on_their_fingerprints(keys: Path) -> None:
    for key in load_host_keys(keys):
        printed = subprocess.run(["ssh-keygen", "-lf", key.path], capture_output=True, check=True).stdout.decode()

        assert printed.split()[1] == key.fingerprint
        assert key.public == (keys / f"{key.path.name}.pub").read_text().strip()


def test_a_key_that_others_may_read_is_refused(keys: Path) -> None:
    (keys / "ssh_host_ed25519_key").chmod(0o640)

    with pytest.raises(HostKeyRefused, match=r"has mode 0640.*chmod 600"):
        load_host_keys(keys)


def test_a_missing_key_is_refused_and_can_be_made_anew(keys: Path) -> None:
    (keys / "ssh_host_ed25519_key").unlink()

    with pytest.raises(HostKeyRefused, match="cannot be read"):
        load_host_keys(keys)

    assert len(make_host_keys(keys)) == 2


def test_what_is_no_key_of_that_kind_is_refused(keys: Path) -> None:
    ed25519, rsa = keys / "ssh_host_ed25519_key", keys / "ssh_host_rsa_key"

    rsa.write_bytes(ed25519.read_bytes())
    with pytest.raises(HostKeyRefused, match="another kind"):
        load_host_keys(keys)

    ed25519.write_text("rubbish")
    with pytest.raises(HostKeyRefused, match="is not an SSH private key"):
        load_host_keys(keys)


def test_a_link_in_the_place_of_a_key_is_refused(keys: Path) -> None:
    ed25519 = keys / "ssh_host_ed25519_key"
    ed25519.rename(keys / "elsewhere")
    ed25519.symlink_to(keys / "elsewhere")

    with pytest.raises(HostKeyRefused):
        load_host_keys(keys)


def test_a_key_does_not_show_itself(keys: Path) -> None:
    key = load_host_keys(keys)[0]

    assert "private" not in repr(key)
