"""Settings: what wins, and what is refused with which sentence."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest

from gitserver import config
from gitserver.config import Address, InvalidSetting, NotADataDirectory, combine, load, parse_address

DATA = Path("/srv/git/data")


def test_without_a_word_every_setting_has_its_packaged_default() -> None:
    found = combine(DATA, b"", {})

    assert found.https.listen == "127.0.0.1:8443"
    assert found.database_url == "sqlite:////srv/git/data/gitserver.db"
    assert found.key_directory == Path("/srv/git/data.keys")


def test_the_file_wins_over_the_defaults_and_the_environment_over_the_file() -> None:
    text = b"[https]\nworkers = 3\nconnections_per_worker = 7\n"

    found = combine(DATA, text, {"GITSERVER_HTTPS_WORKERS": "5"})

    assert (found.https.workers, found.https.connections_per_worker) == (5, 7)


def test_a_list_in_the_environment_is_parted_by_commas() -> None:
    found = combine(DATA, b"", {"GITSERVER_SSH_TRUSTED_PROXIES": "10.0.0.0/8, 192.168.1.1"})

    assert found.ssh.trusted_proxies == ("10.0.0.0/8", "192.168.1.1")


def test_other_variables_of_ours_are_no_settings() -> None:
    environ = {"GITSERVER_DATA": "/x", "GITSERVER_DEBUG": "1", "GITSERVER_TORTURE": "1"}

    assert combine(DATA, b"", environ) == combine(DATA, b"", {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"[htps]\n", "/srv/git/data/gitserver.toml: there is no section [htps]; did you mean https?"),
        (b"[https]\nworker = 1\n", "https.worker: there is no such setting in [https]; did you mean workers?"),
        (b"[https]\nworkers = '2'\n", "https.workers: expected a whole number, found '2'"),
        (b"[https]\nworkers = true\n", "https.workers: expected a whole number, found True"),
        (b"[https]\nworkers = 0\n", "https.workers: must be between 1 and 64, and is 0"),
        (b"[https]\nlisten = '8443'\n", "https.listen: expected HOST:PORT"),
        (b"[ssh]\ntrusted_proxies = '10.0.0.0/8'\n", "ssh.trusted_proxies: expected a list"),
        (b"[ssh]\ntrusted_proxies = ['ten']\n", "ssh.trusted_proxies: 'ten' does not appear to be"),
        (b"[server]\naccount = '12'\n", "server.account: expected twelve digits, found '12'"),
        (b"[server]\npublic_url = 'http://x'\n", "server.public_url: expected https://HOST"),
        (b"[server]\npublic_url = 'https://x/path'\n", "server.public_url: expected https://HOST"),
        (b"[database]\nurl = 'mysql://x'\n", "database.url: expected sqlite:"),
        (b"workers = 2\n", "there is no section [workers]"),
        (b"https = 2\n", "https is a section"),
        (b"[https\n", "is not TOML"),
        (b"\xff", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place_and_what_to_do(text: bytes, sentence: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        combine(DATA, text, {})

    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("GITSERVER_HTTPS_WORKER", "1", "environment variable GITSERVER_HTTPS_WORKER: there is no such setting"),
        ("GITSERVER_HTTPS_WORKERS", "many", "environment variable GITSERVER_HTTPS_WORKERS: expected a whole number"),
        ("GITSERVER_LOG_LEVEL", "loud", "environment variable GITSERVER_LOG_LEVEL: expected"),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name(name: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidSetting, match=re.escape(sentence)):
        combine(DATA, b"", {name: value})


def test_a_wrong_database_password_is_not_repeated() -> None:
    found = combine(DATA, b"", {"GITSERVER_DATABASE_URL": "postgresql+psycopg://git:hunter2@db/git"})

    assert "hunter2" not in repr(found)


def test_a_directory_without_settings_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(NotADataDirectory, match=f"gitserver init --data {tmp_path}"):
        load(tmp_path, {})


def test_relative_paths_start_at_the_data_directory() -> None:
    text = b"[storage]\nblobs = '../blobs'\n[keys]\ndirectory = '/etc/gitserver/keys'\n"

    found = combine(DATA, text, {})

    assert found.blobs == Path("/srv/git/data/../blobs")
    assert found.private_key == Path("/etc/gitserver/keys/tls/server.key")


def test_one_public_url_makes_every_clone_url() -> None:
    found = combine(DATA, b"[server]\npublic_url = 'https://git.example.com/'\n", {})

    assert found.https_clone_url("web") == "https://git.example.com/v1/repos/web"
    assert found.ssh_clone_url("web") == "ssh://git@git.example.com:2222/v1/repos/web"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:8443", Address("::1", 8443)),
        ("git.example.com:443", Address("git.example.com", 443)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["8443", ":8443", "host:", "host:65536", "::1:8443", "host:-1", "host:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected HOST:PORT|goes in brackets"):
        parse_address(text)


def test_every_setting_of_the_packaged_file_has_its_sentence() -> None:
    lines = config.packaged_defaults().decode().splitlines()

    bare = [line for before, line in itertools.pairwise(lines) if " = " in line and not before.startswith("# ")]

    assert [line for line in bare if not line.startswith("#")] == []


def test_the_packaged_file_and_the_code_know_the_same_settings() -> None:
    packaged = tomllib.loads(config.packaged_defaults().decode())

    found = combine(DATA, b"", {})

    for section, table in packaged.items():
        assert set(vars(getattr(found, section))) == set(table)
    assert set(packaged) == set(vars(found)) - {"data"}
