"""Attacks on a whole server that we have heard of, each told as a story."""

import json
import os
import re
import shutil
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha1
from http.client import HTTPSConnection
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from time import monotonic, sleep
from typing import Any

import pytest

from gitserver.core.errors import Failure
from gitserver.git.protocol import pkt
from gitserver.operations.backup import InsideItself, backup, restore
from tests.house import Credential, House


@pytest.fixture(scope="module")
def copy(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good backup of the shared server."""
    where = tmp_path_factory.mktemp("backup") / "good"
    backup(house.config, house.services, where, print)
    return where


# Users who may not, and strangers


def _asked(connection: HTTPSConnection, repository: str, credential: Credential | None) -> tuple[int, str]:
    """Ask for a repository's refs over a connection that stays open: the status, and what was said."""
    who = b64encode(f"{credential.user_name}:{credential.password}".encode()).decode() if credential else ""
    headers = {"Authorization": f"Basic {who}"} if who else {}
    connection.request("GET", f"/v1/repos/{repository}/info/refs?service=git-upload-pack", headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace")


@pytest.fixture
def connection(house: House) -> Iterator[HTTPSConnection]:
    """A connection that is kept open from one request to the next."""
    tls = ssl.create_default_context(cafile=str(house.ca_file))
    made = HTTPSConnection("localhost", house.https_port, context=tls, timeout=20)
    yield made
    made.close()


def test_a_user_who_may_not_cannot_tell_a_repository_from_nothing(house: House, connection: HTTPSConnection) -> None:
    there, nothing = house.repository(), f"repository-{token_hex(6)}"
    mallory = house.user(administrator=False)
    credential, key = house.git_credential(mallory), house.ssh_key(mallory)

    https = [_asked(connection, name, credential) for name in (there, nothing)]
    ssh = [house.git("ls-remote", house.ssh_url(name), key=key, check=False) for name in (there, nothing)]

    said = [text.replace(name, "NAME") for (_, text), name in zip(https, (there, nothing), strict=True)]
    said += [done.stderr.replace(name, "NAME") for done, name in zip(ssh, (there, nothing), strict=True)]
    without_ids = [re.sub(r"request id \w+", "", text) for text in said]
    assert [status for status, _ in https] == [403, 403]
    assert without_ids[0] == without_ids[1]
    assert without_ids[2] == without_ids[3]
    assert "is not authorized to perform: codecommit:GitPull" in without_ids[2]


def test_each_request_of_one_connection_is_its_own_callers(house: House, connection: HTTPSConnection) -> None:
    name, mallory = house.repository(), house.git_credential(house.user(administrator=False))
    callers = [house.git_credential(), None, mallory, house.git_credential(), None]

    statuses = [_asked(connection, name, caller)[0] for caller in callers]

    assert statuses == [200, 401, 403, 200, 401]


def test_a_revoked_credential_ends_in_the_middle_of_a_connection(house: House, connection: HTTPSConnection) -> None:
    name, user = house.repository(), house.user()
    credential = house.git_credential(user)
    before, _ = _asked(connection, name, credential)

    house.services.credentials.revoke_git_credential(house.caller, user, credential.id)

    assert (before, _asked(connection, name, credential)[0]) == (200, 401)


def test_an_unknown_name_and_a_wrong_password_read_the_same(house: House, connection: HTTPSConnection) -> None:
    real = house.git_credential(house.user())
    strangers = [Credential("", f"{token_hex(6)}-at-123456789012", "x" * 44), Credential("", real.user_name, "x" * 44)]

    answers = [_asked(connection, "any", stranger) for stranger in strangers]

    assert answers[0] == answers[1]
    assert answers[0][0] == 401


def test_control_characters_forge_no_line_in_the_log(house: House, connection: HTTPSConnection) -> None:
    mark = token_hex(6)

    _asked(connection, f"web%0a%7b%22forged%22%3a%22{mark}%22%7d%1b%5b2J", house.git_credential())

    deadline = monotonic() + 10  # the log is written behind the answer
    while not (lines := [line for line in house.log.splitlines() if mark in line]):
        assert monotonic() < deadline
        sleep(0.05)
    assert all("gitserver.http.access" in line and "\x1b" not in line for line in lines)


# Objects behind no ref that may be seen


def test_what_no_ref_leads_to_is_not_given_to_who_knows_its_id(house: House, tmp_path: Path) -> None:
    name, other = house.repository(), house.repository()
    work = tmp_path / "work"
    house.commit(work, {"a": "public"})
    house.git("push", "-q", house.https_url(name), "main", cwd=work)
    deleted = house.commit(work, {"a": "deleted"})
    house.git("push", "-q", house.https_url(name), "main:gone", cwd=work)
    house.git("push", "-q", house.https_url(name), ":gone", cwd=work)
    elsewhere = house.commit(work, {"a": "elsewhere"})
    house.git("push", "-q", house.https_url(other), "main", cwd=work)

    house.git("init", "-q", str(tmp_path / "thief"))
    taken = [
        house.git("fetch", house.https_url(name), oid, cwd=tmp_path / "thief", check=False)
        for oid in (deleted, elsewhere)
    ]

    assert [done.returncode for done in taken] == [128, 128]
    assert all("not our ref" in done.stderr for done in taken)


def test_nobody_pushes_a_ref_to_another_repositorys_object_or_into_the_servers_own_refs(
    house: House, tmp_path: Path
) -> None:
    name, other = house.repository(), house.repository()
    secret = house.commit(tmp_path / "secret", {"a": "secret"})
    house.git("push", "-q", house.https_url(other), "main", cwd=tmp_path / "secret")
    house.commit(tmp_path / "work", {"a": "mine"})
    house.git("push", "-q", house.https_url(name), "main", cwd=tmp_path / "work")
    empty_pack = b"PACK\0\0\0\2\0\0\0\0"
    claim = pkt(f"{'0' * 40} {secret} refs/heads/stolen\0report-status".encode()) + b"0000"

    stolen = b"".join(_pushed(house, name, claim + empty_pack + sha1(empty_pack).digest()))
    internal = house.git("push", house.https_url(name), "main:refs/internal/x", cwd=tmp_path / "work", check=False)

    assert b"ng refs/heads/stolen missing necessary objects" in stolen
    assert internal.returncode == 1
    assert "refs/internal/x" not in house.git("ls-remote", house.https_url(name)).stdout


def _pushed(house: House, name: str, request: bytes) -> Iterator[bytes]:
    with closing(house.services.access.receive_pack(house.caller, name, 0)) as push:
        yield from push.answer(BytesIO(request), stateless=True)


# Somebody else on the machine


def test_no_process_of_the_server_leaves_its_memory_in_a_core_file(house: House) -> None:
    processes = [Path("/proc") / str(number) for number in house.processes()]

    limits = [
        re.findall(r"^Max core file size +(\S+)", (one / "limits").read_text(), re.MULTILINE) for one in processes
    ]
    chosen = [int((one / "coredump_filter").read_text(), 16) for one in processes]

    assert len(processes) >= 5
    assert limits == [["0"]] * len(processes)
    assert chosen == [0] * len(processes)


def test_no_secret_is_in_a_command_line_and_no_file_is_open_to_others(house: House) -> None:
    private = [path for top in (house.data, house.config.key_directory) for path in (top, *top.rglob("*"))]

    open_to_others = {path.suffix for path in private if path.stat().st_mode & 0o077}

    assert open_to_others <= {".pem", ".pub"}  # certificates and public keys, in directories that are closed
    assert not any(house.git_credential().password in words for words in house.processes().values())


# Backups that somebody else had in hand


@pytest.mark.parametrize("where", ["data/blobs/copy", "data/copy", "data.keys/copy"])
def test_a_backup_is_not_made_inside_the_server_it_copies(house: House, where: str) -> None:
    target = house.root / where

    with pytest.raises(InsideItself, match="choose a place outside it"):
        backup(house.config, house.services, target, print)

    assert not target.exists()


def _names_a_file_outside(forged: Path) -> None:
    _rewrite(forged, files={"../evil": [1, "00"]})


def _names_a_blob_outside(forged: Path) -> None:
    _rewrite(forged, blobs={"../../evil": [1, "00"]})


def _has_a_link(forged: Path) -> None:
    (forged / "tls" / "ca.pem").unlink()
    (forged / "tls" / "ca.pem").symlink_to("/etc/passwd")


def _has_a_pipe(forged: Path) -> None:
    (forged / "gitserver.db").unlink()
    os.mkfifo(forged / "gitserver.db")


def _has_a_pipe_for_a_manifest(forged: Path) -> None:
    (forged / "manifest.json").unlink()
    os.mkfifo(forged / "manifest.json")


def _has_lists_for_tables(forged: Path) -> None:
    _rewrite(forged, files=[])


def _is_nested_without_end(forged: Path) -> None:
    (forged / "manifest.json").write_text("[" * 200_000)


def _rewrite(forged: Path, **changes: Any) -> None:
    manifest = json.loads((forged / "manifest.json").read_text())
    for key, change in changes.items():
        manifest[key] = {**manifest[key], **change} if isinstance(change, dict) else change
    (forged / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "forge",
    [
        _names_a_file_outside,
        _names_a_blob_outside,
        _has_a_link,
        _has_a_pipe,
        _has_a_pipe_for_a_manifest,
        _has_lists_for_tables,
        _is_nested_without_end,
    ],
    ids=lambda forge: forge.__name__.strip("_"),
)
def test_a_forged_backup_is_refused_with_a_sentence_and_writes_nothing_outside(
    house: House, copy: Path, tmp_path: Path, forge: Callable[[Path], None]
) -> None:
    shutil.copytree(copy, tmp_path / "forged")
    forge(tmp_path / "forged")

    with pytest.raises(Failure):
        restore(tmp_path / "forged", tmp_path / "new", {}, print)

    assert {path.name for path in tmp_path.iterdir()} <= {"forged", "new"}
