"""Blobs: immutable, named bytes, and what every store of them promises.

A name is handed out once, made of random digits, and is never used again. A blob does not exist until its sink
is committed; from then on it is whole and durable until it is deleted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from gitserver.core.errors import Conflict, Invalid, Unavailable

Bytes = bytes | bytearray | memoryview
"""What may be written: anything whose items are single bytes."""

NAME_BYTES = 512
_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_NAME = re.compile(rf"{_PART}(?:/{_PART}){{0,15}}")
_PREFIX = re.compile(rf"(?:{_PART}/){{0,16}}(?:{_PART})?")


class BlobExists(Conflict):
    """A blob of that name is already there; a name is used once."""

    def __init__(self, name: str) -> None:
        super().__init__(f"blob {name} exists already")
        self.name = name


class BlobMissing(Unavailable):
    """There is no blob of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"blob {name} is missing; restore it from a backup")
        self.name = name


class BlobDamaged(Unavailable):
    """A blob's bytes are not the ones that were sealed under this name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"blob {name} is damaged ({why}); restore it from a backup")
        self.name, self.why = name, why


class BlobNameInvalid(Invalid):
    """The text is not the name of a blob."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} is not a blob's name; a name is words of letters, digits, '.', '_', '-' and '/'"
        )


class DiskFull(Unavailable):
    """There is no room to write."""

    def __init__(self) -> None:
        super().__init__("the server's disk is full; nothing was changed. Ask the administrator to make room")


@dataclass(frozen=True)
class BlobInfo:
    """What a listing tells of one blob."""

    name: str
    size: int  # bytes
    modified: datetime  # aware, UTC: when its last byte was written


class BlobSink(Protocol):
    """A blob being written, by one thread."""

    def write(self, data: Bytes) -> None:
        """Append *data*.

        Raises:
            DiskFull: there is no room; abort the sink.
        """
        ...

    def commit(self) -> None:
        """Make the blob exist, whole. It is durable on return.

        Raises:
            BlobExists: the name is taken; the blob that has it is untouched, and nothing of this one remains.
            DiskFull: there is no room; nothing remains.
        """
        ...

    def abort(self) -> None:
        """Leave nothing behind. May be called at any time and more than once; after a commit it does nothing."""
        ...


class BlobSource(Protocol):
    """A blob being read; any number of threads may read from one. It stays readable after a delete."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly *length* bytes from *offset* on; fewer only where the blob ends.

        Raises:
            Unavailable: the bytes cannot be read.
        """
        ...

    def close(self) -> None:
        """Release what is held open. May be called more than once."""
        ...


class BlobStore(Protocol):
    """Where blobs are kept; safe to share between threads and processes."""

    def create(self, name: str) -> BlobSink:
        """Start a blob.

        Raises:
            BlobNameInvalid: *name* is not a blob's name.
            BlobExists: the name is taken. It may also turn out at the commit.
        """
        ...

    def open(self, name: str) -> BlobSource:
        """Open a blob for reading.

        Raises:
            BlobMissing: there is none, or it is not committed.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Every committed blob whose name starts with *prefix*, in no order.

        Blobs that come or go during the listing may or may not be in it.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a blob; that there is none is fine."""
        ...

    def discard_unfinished(self, older_than: timedelta) -> int:
        """Remove what writers that died left behind and did not touch for *older_than*; the number removed.

        What a living writer of this machine still holds is left alone.
        """
        ...


def check_name(name: str) -> str:
    """Give *name* back if it may name a blob.

    Raises:
        BlobNameInvalid: it is empty, too long, or holds anything but words joined by ``/``; a word does not start
            with a dot.
    """
    if len(name) > NAME_BYTES or not _NAME.fullmatch(name):
        raise BlobNameInvalid(name)
    return name


def check_prefix(prefix: str) -> str:
    """Give *prefix* back if a blob's name may start with it."""
    if len(prefix) > NAME_BYTES or not _PREFIX.fullmatch(prefix):
        raise BlobNameInvalid(prefix)
    return prefix
