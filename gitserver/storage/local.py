"""Blobs in a directory of this machine.

A blob is written to ``.incoming``, flushed to the disk, and then linked to its name, which fails if the name is
taken; the directory is flushed before ``commit`` returns. The last word of a name is kept one directory deeper
than it reads, in one of 256, so that no directory grows large: ``web/pack/abc`` is the file ``web/pack/=ba/abc``.
``=`` cannot occur in a name.

Source: open(2), link(2), fsync(2), flock(2).
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from gitserver.core.clock import Clock, SystemClock
from gitserver.core.errors import Unavailable
from gitserver.storage.blobs import (
    BlobExists,
    BlobInfo,
    BlobMissing,
    Bytes,
    DiskFull,
    check_name,
    check_prefix,
)
from gitserver.storage.files import NO_ROOM, make_directory, sync

INCOMING = ".incoming"


class BlobUnreadable(Unavailable):
    """The operating system refused to read or write a blob."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"blob {name} cannot be used: {reason}; look at the disk and at the data directory's owner")
        self.name = name


class LocalBlobStore:
    """A BlobStore in a directory."""

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        """Keep blobs under *root*, which is made, with mode 0700, when the first blob is.

        Args:
            root: a directory on one file system, of which this store is the only user.
            clock: tells how old leftovers are; files carry the machine's time.
        """
        self._root = root
        self._incoming = root / INCOMING
        self._clock = clock or SystemClock()

    def create(self, name: str) -> "LocalBlobSink":
        """See BlobStore."""
        path = self._path(name)
        with _in_sentences(name):
            if path.exists():
                raise BlobExists(name)
            return LocalBlobSink(name, path, self._incoming)

    def open(self, name: str) -> "LocalBlobSource":
        """See BlobStore."""
        return LocalBlobSource(name, self._path(name))

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """See BlobStore."""
        start = self._root.joinpath(*check_prefix(prefix).split("/")[:-1])
        for folder, word, status in _files(str(start)):
            parts = Path(folder).relative_to(self._root).parts
            name = "/".join((*parts[:-1], word))
            if parts and parts[-1].startswith("=") and name.startswith(prefix):
                yield BlobInfo(name, status.st_size, _moment(status))

    def delete(self, name: str) -> None:
        """See BlobStore."""
        path = self._path(name)
        with _in_sentences(name):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            sync(path.parent)

    def discard_unfinished(self, older_than: timedelta) -> int:
        """See BlobStore. A living writer holds a lock on its file, on this machine."""
        before = self._clock.now() - older_than
        removed = 0
        with _in_sentences(INCOMING):
            for folder, word, status in _files(str(self._incoming), hidden=True):
                if _moment(status) <= before and _remove_if_abandoned(f"{folder}/{word}"):
                    removed += 1
        return removed

    def _path(self, name: str) -> Path:
        *folders, last = check_name(name).split("/")
        return self._root.joinpath(*folders, "=" + sha256(last.encode()).hexdigest()[:2], last)


class LocalBlobSink:
    """A blob being written to a file that has no name in the store yet."""

    def __init__(self, name: str, path: Path, incoming: Path) -> None:
        self._name, self._path = name, path
        self._temporary = incoming / secrets.token_hex(16)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            self._file = os.open(self._temporary, flags, 0o600)
        except FileNotFoundError:
            make_directory(incoming)
            self._file = os.open(self._temporary, flags, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: Bytes) -> None:
        """See BlobSink."""
        self._require_open()
        rest = memoryview(data)
        with _in_sentences(self._name):
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def commit(self) -> None:
        """See BlobSink."""
        self._require_open()
        try:
            with _in_sentences(self._name):
                os.fsync(self._file)
                self._link()
                self._sync_name()
        finally:
            self.abort()

    def abort(self) -> None:
        """See BlobSink."""
        if self._file < 0:
            return
        with _in_sentences(self._name):
            try:
                self._temporary.unlink(missing_ok=True)
            finally:
                os.close(self._file)
                self._file = -1

    def __del__(self) -> None:
        """Leave nothing behind when a writer forgets."""
        if getattr(self, "_file", -1) >= 0:
            with suppress(Unavailable):
                self.abort()

    def _require_open(self) -> None:
        if self._file < 0:
            raise ValueError("the sink is closed")

    def _sync_name(self) -> None:
        """Make the name durable, or take it back: a blob that may vanish must not be pointed to."""
        try:
            sync(self._path.parent)
        except BaseException:
            self._path.unlink()
            raise

    def _link(self) -> None:
        try:
            try:
                os.link(self._temporary, self._path)
            except FileNotFoundError:
                make_directory(self._path.parent)
                os.link(self._temporary, self._path)
        except FileExistsError as taken:
            raise BlobExists(self._name) from taken


class LocalBlobSource:
    """A file being read, at any place, by any thread."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        with _in_sentences(name):
            try:
                self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError as missing:
                raise BlobMissing(name) from missing
            status = os.fstat(self._file)
            self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device could wait for ever
            self.close()
            raise BlobUnreadable(name, "it is not a regular file")

    def read_at(self, offset: int, length: int) -> bytes:
        """See BlobSource."""
        with _in_sentences(self._name):
            data = os.pread(self._file, length, offset)
            if len(data) in {0, length}:
                return data
            pieces = [data]
            while data and (length := length - len(data)) > 0:
                offset += len(data)
                data = os.pread(self._file, length, offset)
                pieces.append(data)
        return b"".join(pieces)

    def close(self) -> None:
        """See BlobSource. No thread may be reading."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        """Give the descriptor back when a reader forgets."""
        if getattr(self, "_file", -1) >= 0:
            self.close()


@contextmanager
def _in_sentences(name: str) -> Iterator[None]:
    """Turn what the operating system says into what may be shown."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull from error
        raise BlobUnreadable(name, error.strerror or type(error).__name__) from error


def _files(folder: str, *, hidden: bool = False) -> Iterator[tuple[str, str, os.stat_result]]:
    """Each regular file below *folder*: its directory, its name, its status. What vanishes meanwhile is left out."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith(".") and not hidden:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, hidden=hidden)
        elif entry.is_file(follow_symlinks=False):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield folder, entry.name, status


def _moment(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _remove_if_abandoned(path: str) -> bool:
    """Remove a temporary file unless its writer lives: a writer's lock goes with its process."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(path).unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
