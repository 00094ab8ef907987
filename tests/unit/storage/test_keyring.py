"""The keyring in a directory: what it refuses, and what survives."""

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitserver.storage.keyring import MASTER_FILE, FileKeyring, KeyringUnusable
from gitserver.storage.keys import KeyMissing, UnwrapRefused

CONTEXT = {"aws:codecommit:id": "web"}
PLAIN = bytes(range(32))


class Crash(BaseException):
    """The process died here."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A keyring with two keys."""
    keys = FileKeyring.create_at(tmp_path / "var.keys")
    keys.create("web")
    keys.create("api")
    return tmp_path / "var.keys"


def test_a_keyring_is_readable_by_its_owner_only(directory: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}

    assert modes == {
        "var.keys": 0o700,
        "owners": 0o700,
        MASTER_FILE: 0o600,
        "keyring.json": 0o600,
        "web.key": 0o600,
        "api.key": 0o600,
    }


def test_a_keyring_is_the_same_when_it_is_opened_again(directory: Path) -> None:
    wrapped = FileKeyring(directory).wrap("web", PLAIN, CONTEXT)

    assert FileKeyring(directory).unwrap("web", wrapped, CONTEXT) == PLAIN
    assert FileKeyring.create_at(directory).unwrap("web", wrapped, CONTEXT) == PLAIN
    assert FileKeyring(directory).problems() == []


@pytest.mark.parametrize("name", [".", MASTER_FILE, "keyring.json", "owners", "owners/web.key"])
@pytest.mark.parametrize("extra", [0o040, 0o004, 0o020])
def test_a_keyring_that_others_may_use_is_refused_with_the_command_that_helps(
    directory: Path, name: str, extra: int
) -> None:
    path = directory / name
    path.chmod(path.stat().st_mode | extra)

    with pytest.raises(KeyringUnusable, match=r"run: chmod 0[67]00 /"):
        FileKeyring(directory).wrap("web", PLAIN, CONTEXT)


def test_a_missing_directory_master_key_or_check_is_refused_with_what_to_do(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyringUnusable, match="is missing; restore it"):
        FileKeyring(tmp_path / "absent")
    (directory / MASTER_FILE).rename(directory / "elsewhere")

    for open_it in (FileKeyring, FileKeyring.create_at):
        with pytest.raises(KeyringUnusable, match=r"master\.key is missing; put it back"):
            open_it(directory)
    (directory / "elsewhere").rename(directory / MASTER_FILE)
    (directory / "keyring.json").unlink()
    for open_it in (FileKeyring, FileKeyring.create_at):
        with pytest.raises(KeyringUnusable, match=r"keyring\.json is missing; put it back"):
            open_it(directory)


def test_a_wrong_master_key_is_known_at_once(directory: Path, tmp_path: Path) -> None:
    FileKeyring.create_at(tmp_path / "other")
    (tmp_path / "other" / MASTER_FILE).rename(directory / MASTER_FILE)

    with pytest.raises(KeyringUnusable, match="not the master key of this keyring"):
        FileKeyring(directory)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 40, b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "keys": {"1": "!"}}']
)
@pytest.mark.parametrize("name", [MASTER_FILE, "keyring.json", "owners/web.key"])
def test_a_damaged_file_is_named(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)

    with pytest.raises(KeyringUnusable, match=f"{name} is damaged"):
        FileKeyring(directory).wrap("web", PLAIN, CONTEXT)


def test_one_owners_key_does_not_stand_in_for_anothers(directory: Path) -> None:
    web = directory / "owners" / "web.key"
    (directory / "owners" / "api.key").rename(web)
    with pytest.raises(KeyringUnusable, match=r"web\.key is damaged"):
        FileKeyring(directory).wrap("web", PLAIN, CONTEXT)

    web.write_text(json.dumps({**json.loads(web.read_text()), "key_id": "web"}))
    with pytest.raises(UnwrapRefused, match="web"):
        FileKeyring(directory).wrap("web", PLAIN, CONTEXT)
    assert "key web does not open" in FileKeyring(directory).problems()[0]


def test_no_key_is_on_the_disk_in_the_clear_but_the_master_key(directory: Path) -> None:
    master = json.loads((directory / MASTER_FILE).read_text())["keys"]["1"]
    key = base64.b64decode(master)

    for path in directory.rglob("*.*"):
        if path.name != MASTER_FILE:
            assert master not in path.read_text()
            assert key.hex() not in path.read_text()


def test_a_destroyed_keys_bytes_are_overwritten_before_they_are_removed(directory: Path) -> None:
    path = directory / "owners" / "web.key"
    (directory / "link").hardlink_to(path)
    length = path.stat().st_size

    FileKeyring(directory).destroy("web")

    assert not path.exists()
    assert (directory / "link").read_bytes() == bytes(length)


def test_the_bytes_that_a_rotation_replaces_are_overwritten_unless_they_are_somebodys_backup(directory: Path) -> None:
    path = directory / "owners" / "web.key"
    keys, before = FileKeyring(directory), path.read_bytes()
    with path.open("rb") as replaced:
        keys.rotate("web")
        assert replaced.read() == bytes(len(before))

    (directory / "backup").hardlink_to(path)
    kept = path.read_bytes()
    keys.rotate("web")
    assert (directory / "backup").read_bytes() == kept


def test_after_a_rotation_of_the_master_key_everything_opens_and_the_old_one_opens_nothing(directory: Path) -> None:
    keys, old = FileKeyring(directory), (directory / MASTER_FILE).read_bytes()
    wrapped = keys.wrap("web", PLAIN, CONTEXT)
    elsewhere = FileKeyring(directory)

    assert keys.rotate_master() == 2

    assert [each.unwrap("web", wrapped, CONTEXT) for each in (keys, elsewhere, FileKeyring(directory))] == [PLAIN] * 3
    assert FileKeyring(directory).rotate_master() == 3
    (directory / MASTER_FILE).write_bytes(old)
    with pytest.raises(KeyringUnusable, match="not the master key"):
        FileKeyring(directory)


def test_a_key_made_by_a_server_that_missed_a_rotation_opens_later(directory: Path) -> None:
    elsewhere = FileKeyring(directory)
    FileKeyring(directory).rotate_master()

    elsewhere.create("late")

    wrapped = FileKeyring(directory).wrap("late", PLAIN, CONTEXT)
    assert elsewhere.unwrap("late", wrapped, CONTEXT) == PLAIN


SYSTEM_CALLS = ["open", "fsync", "pwrite", "rename", "unlink", "link", "mkdir"]


def crash_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> list[str]:
    """Let the process die at its *moment*-th change of a disk; what was called."""
    called: list[str] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if len(called) == moment:
                raise Crash
            called.append(name)
            return real(*arguments, **options)

        return call

    for name in SYSTEM_CALLS:
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    return called


def test_wherever_a_rotation_of_the_master_key_dies_nothing_is_lost_and_the_next_completes_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = FileKeyring(directory).wrap("web", PLAIN, CONTEXT)
    for moment in range(500):
        keys = FileKeyring(directory)
        with monkeypatch.context() as dying:
            crash_at(dying, moment)
            try:
                keys.rotate_master()
            except Crash:
                pass
            else:
                break
        assert FileKeyring(directory).unwrap("web", wrapped, CONTEXT) == PLAIN
        version = FileKeyring(directory).rotate_master()
        assert FileKeyring(directory).unwrap("web", wrapped, CONTEXT) == PLAIN
        assert list(json.loads((directory / MASTER_FILE).read_text())["keys"]) == [str(version)]
        assert list(directory.rglob(".*")) == []
    assert moment > 30


def test_wherever_the_making_of_a_keyring_dies_the_next_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment in range(100):
        directory = tmp_path / f"{moment}.keys"
        with monkeypatch.context() as dying:
            crash_at(dying, moment)
            try:
                FileKeyring.create_at(directory)
            except Crash:
                pass
            else:
                break
        FileKeyring.create_at(directory).create("web")
    assert moment > 10


def test_wherever_a_destruction_dies_the_next_completes_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for moment in range(100):
        keys = FileKeyring(directory)
        keys.create(f"k{moment}")
        with monkeypatch.context() as dying:
            crash_at(dying, moment)
            try:
                keys.destroy(f"k{moment}")
            except Crash:
                pass
            else:
                break
        keys.destroy(f"k{moment}")
        with pytest.raises(KeyMissing):
            keys.wrap(f"k{moment}", PLAIN, CONTEXT)
    assert moment > 3
