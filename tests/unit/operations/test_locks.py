"""Who may use a data directory at the same time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gitserver.operations import locks
from gitserver.operations.locks import InUse


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.05)


def test_a_second_server_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with locks.holding(tmp_path), pytest.raises(InUse, match="stop it first"), locks.holding(tmp_path):
        pass


def test_servers_of_one_role_share_a_directory(tmp_path: Path) -> None:
    with locks.holding(tmp_path, shared=True), locks.holding(tmp_path, shared=True):
        pass


@pytest.mark.parametrize("first_shares", [True, False])
def test_a_full_server_and_one_of_a_single_role_exclude_each_other(tmp_path: Path, first_shares: bool) -> None:
    with (
        locks.holding(tmp_path, shared=first_shares),
        pytest.raises(InUse),
        locks.holding(tmp_path, shared=not first_shares),
    ):
        pass


def test_a_lock_ends_with_the_last_process_that_inherited_it(tmp_path: Path) -> None:
    with locks.holding(tmp_path) as descriptor:
        heir = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=(descriptor,), stdin=subprocess.PIPE)
    with pytest.raises(InUse), locks.holding(tmp_path):
        pass

    heir.communicate(b"\n")

    with locks.holding(tmp_path):
        pass


def test_the_lock_file_is_closed_to_others(tmp_path: Path) -> None:
    with locks.holding(tmp_path) as descriptor:
        assert os.fstat(descriptor).st_mode & 0o077 == 0
