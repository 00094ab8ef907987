"""Small files that change all at once, durably, and leave nothing behind that was secret.

Source: open(2), rename(2), link(2), fsync(2).
"""

import errno
import os
import secrets
from contextlib import suppress
from pathlib import Path

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system answers when a disk, or a user's share of it, is full."""

_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_WIPE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


def create_file(path: Path, data: bytes) -> None:
    """Make *path* hold *data*, with mode 0600; durable on return.

    Raises:
        FileExistsError: there is something at *path*.
    """
    temporary = _write_beside(path, data)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    sync(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Make *path* hold *data* instead of what it held, which is overwritten; durable on return.

    Whoever reads *path* meanwhile finds the old content or the new, or, where it was opened before, zeros.
    """
    temporary = _write_beside(path, data)
    old = -1
    try:
        with suppress(FileNotFoundError):
            old = os.open(path, _WIPE)
        temporary.rename(path)
        sync(path.parent)
        if old >= 0 and os.fstat(old).st_nlink == 0:  # a hard link to it is somebody's backup
            _overwrite(old)
    finally:
        if old >= 0:
            os.close(old)
        temporary.unlink(missing_ok=True)


def wipe_file(path: Path) -> None:
    """Overwrite *path* with zeros, then remove it; that there is none is fine. Durable on return.

    A disk that writes elsewhere than it is told (flash, copy-on-write file systems) may keep the old bytes.
    """
    try:
        file = os.open(path, _WIPE)
    except FileNotFoundError:
        return
    try:
        _overwrite(file)
    finally:
        os.close(file)
    path.unlink(missing_ok=True)
    sync(path.parent)


def make_directory(path: Path) -> None:
    """Make *path* and what is missing above it, each with mode 0700 and durable."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file, or a directory's list of names, to the disk."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _write_beside(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(temporary, _CREATE, 0o600)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(file)
    except BaseException:
        temporary.unlink()
        raise
    return temporary


def _overwrite(file: int) -> None:
    os.pwrite(file, bytes(os.fstat(file).st_size), 0)
    os.fsync(file)
