"""Copies that are whole and durable when they are done, and the sums that say whether they still are."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gitserver.storage.blobs import BlobStore

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Sum:
    """What a file must be."""

    size_bytes: int
    sha256: str  # hexadecimal


def sum_file(path: Path) -> Sum:
    """What the file at *path* is now."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return Sum(size, digest.hexdigest())


def copy_file(source: Path, target: Path) -> Sum:
    """Copy to a file that does not exist yet, mode 0600; it is on disk on return.

    Raises:
        FileExistsError: there is something at *target*.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as file, new_private_file(target) as copy:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            copy.write(piece)
            size += len(piece)
        copy.flush()
        os.fsync(copy.fileno())
    return Sum(size, digest.hexdigest())


def copy_blob(name: str, source: BlobStore, target: BlobStore) -> Sum:
    """Copy a blob as it is, sealed, to a store that has none of that name; it is durable on return.

    Raises:
        BlobMissing: *source* has none.
        BlobExists: *target* has one.
        DiskFull: it does not fit; nothing remains.
    """
    digest = hashlib.sha256()
    blob = source.open(name)
    sink = target.create(name)
    try:
        offset = 0
        while offset < blob.size:
            piece = blob.read_at(offset, PIECE_BYTES)
            if not piece:
                break  # shorter than it said: the sum tells
            digest.update(piece)
            sink.write(piece)
            offset += len(piece)
        sink.commit()
    finally:
        sink.abort()
        blob.close()
    return Sum(offset, digest.hexdigest())


def new_private_file(path: Path) -> IO[bytes]:
    """Open a file that does not exist yet for writing; nobody else may ever read it."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
