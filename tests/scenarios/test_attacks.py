"""Attacks on a whole server that we have heard of, each told as a story."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitserver.core.errors import Failure
from gitserver.operations.backup import InsideItself, backup, restore
from tests.house import House


@pytest.fixture(scope="module")
def copy(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good backup of the shared server."""
    where = tmp_path_factory.mktemp("backup") / "good"
    backup(house.config, house.services, where, print)
    return where


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
