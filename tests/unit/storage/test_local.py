"""What only a store on a disk can get wrong."""

import errno
import gc
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitserver.storage.blobs import DiskFull
from gitserver.storage.files import sync
from gitserver.storage.local import INCOMING, BlobUnreadable, LocalBlobSink, LocalBlobStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the blobs are."""
    return tmp_path / "data" / "blobs"


def put(root: Path, name: str) -> None:
    """Make a blob exist."""
    sink = LocalBlobStore(root).create(name)
    sink.write(b"data")
    sink.commit()


def left(root: Path) -> list[str]:
    """Every file below *root*."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_only_its_owner_may_look_into_the_store(root: Path) -> None:
    put(root, "web/pack/1")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_dir()}
    assert modes == {0o700}
    (file,) = [path for path in root.rglob("*") if path.is_file()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_pipe_in_a_blobs_place_is_refused_instead_of_waited_for(root: Path) -> None:
    put(root, "web/pack/1")
    (file,) = [path for path in root.rglob("*") if path.is_file()]
    file.unlink()
    os.mkfifo(file)

    with pytest.raises(BlobUnreadable, match="not a regular file"):
        LocalBlobStore(root).open("web/pack/1")


def test_a_symbolic_link_in_a_blobs_place_is_refused(root: Path, tmp_path: Path) -> None:
    put(root, "web/pack/1")
    (file,) = [path for path in root.rglob("*") if path.is_file()]
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BlobUnreadable):
        LocalBlobStore(root).open("web/pack/1")


def test_no_directory_grows_with_the_number_of_blobs(root: Path) -> None:
    for number in range(300):
        put(root, f"web/pack/{number}")

    folders = list((root / "web" / "pack").iterdir())
    assert 100 < len(folders) <= 256
    assert all(folder.name.startswith("=") for folder in folders)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "mkdir"])
def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    put(root, "other/pack/1")
    sink = LocalBlobStore(root).create("web/pack/1")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, _failing(code))
        with pytest.raises(DiskFull, match="disk is full"):
            _finish(sink)
        sink.abort()

    assert [name.rsplit("/", 1)[0].split("/=")[0] for name in left(root)] == ["other/pack"]


def test_a_name_that_could_not_be_made_durable_is_taken_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "other/pack/1")
    put(root, "web/pack/1")
    sink = LocalBlobStore(root).create("web/pack/8b")

    def fail_on_folders(path: Path) -> None:
        if path.name.startswith("="):
            raise OSError(errno.EIO, "Input/output error")
        sync(path)

    monkeypatch.setattr("gitserver.storage.local.sync", fail_on_folders)
    with pytest.raises(BlobUnreadable):
        _finish(sink)

    assert len(left(root)) == 2


def test_a_disk_that_fails_is_told_with_the_blobs_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "web/pack/1")
    source = LocalBlobStore(root).open("web/pack/1")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", _failing(errno.EIO))
        with pytest.raises(BlobUnreadable, match="blob web/pack/1 cannot be used: Input/output error"):
            source.read_at(0, 4)
    source.close()


def test_a_system_that_writes_and_reads_less_than_it_is_asked_is_asked_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pread = os.write, os.pread
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:3]))
        patched.setattr(os, "pread", lambda file, length, offset: pread(file, min(length, 2), offset))
        sink = LocalBlobStore(root).create("web/pack/1")
        sink.write(b"0123456789")
        sink.commit()
        source = LocalBlobStore(root).open("web/pack/1")
        found = source.read_at(1, 100)
    source.close()

    assert found == b"123456789"


def test_file_directory_and_every_new_directory_above_are_flushed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def remember(file: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        fsync(file)

    monkeypatch.setattr(os, "fsync", remember)
    put(root, "web/pack/1")

    folder = next(path.parent for path in root.rglob("1") if path.is_file())
    made = [root.parent.parent, root.parent, root, root / "web", root / "web" / "pack", folder]
    assert {str(path) for path in made} <= set(flushed)
    assert any(f"/{INCOMING}/" in name for name in flushed)
    assert flushed[-1] == str(folder)


def test_a_writer_who_forgets_leaves_nothing(root: Path) -> None:
    sink = LocalBlobStore(root).create("web/pack/1")
    sink.write(b"data")

    del sink
    gc.collect()

    assert left(root) == []


def test_files_that_are_not_blobs_are_not_listed(root: Path) -> None:
    put(root, "web/pack/1")
    (root / "README").write_text("somebody's")
    (root / "web" / "stray").write_text("somebody's")
    (root / "web" / "pack" / "=00").mkdir(exist_ok=True)
    (root / "web" / "pack" / "=00" / "link").symlink_to("/etc/passwd")

    assert [info.name for info in LocalBlobStore(root).list()] == ["web/pack/1"]


def _finish(sink: LocalBlobSink) -> None:
    sink.write(b"data")
    sink.commit()


def _failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail
