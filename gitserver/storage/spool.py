"""Bytes that wait while a decision about them is made: a push before it is accepted, say.

Up to a limit they lie in memory; beyond it in a file without a name, sealed under a key that never leaves the process.
Whatever happens to the process, nothing stays behind: the file goes with its last descriptor, and no one could read it.
"""

import errno
import os
import secrets
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gitserver.storage.blobs import DiskFull

_SEGMENT_BYTES = 1 << 18
_TAG_BYTES = 16
_CACHED_SEGMENTS = 16


class Spool:
    """An append-only scratch pad with random access. Not for two writers; readers may be many."""

    def __init__(self, directory: Path, memory_bytes: int) -> None:
        """Begin an empty spool.

        Args:
            directory: where the nameless file is made, if it comes to that.
            memory_bytes: how much stays in memory.
        """
        self._directory, self._memory_bytes = directory, memory_bytes
        self._tail = bytearray()  # everything, or what does not fill a segment yet
        self._sealed = 0  # plain bytes in the file
        self._file: int | None = None
        self._cipher: AESGCM | None = None
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._sealed + len(self._tail)

    def write(self, data: bytes) -> None:
        """Append *data*.

        Raises:
            DiskFull: the file cannot grow.
        """
        self._tail += data
        if self._file is None and len(self._tail) <= self._memory_bytes:
            return
        whole = len(self._tail) - len(self._tail) % _SEGMENT_BYTES
        if whole:
            view = memoryview(self._tail)[:whole]
            for at in range(0, whole, _SEGMENT_BYTES):
                self._seal(view[at : at + _SEGMENT_BYTES])
            view.release()
            del self._tail[:whole]

    def read_at(self, offset: int, length: int) -> bytes:
        """*length* bytes from *offset*; fewer only at the end."""
        end = min(offset + length, self.size)
        pieces = []
        while offset < end:
            if offset >= self._sealed:
                start = offset - self._sealed
                pieces.append(bytes(self._tail[start : start + end - offset]))
                break
            number, within = divmod(offset, _SEGMENT_BYTES)
            pieces.append(self._segment(number)[within : within + end - offset])
            offset += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from *start* up to *end*, in pieces of at most 256 KiB."""
        end = self.size if end is None else end
        while start < end:
            piece = self.read_at(start, min(_SEGMENT_BYTES - start % _SEGMENT_BYTES, end - start))
            yield piece
            start += len(piece)

    def close(self) -> None:
        """Forget everything; harmless when repeated."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = self._cipher = None
            self._tail.clear()
            self._cache.clear()
            self._sealed = 0

    def _seal(self, plain: memoryview) -> None:
        if self._file is None or self._cipher is None:
            self._file = _nameless(self._directory)
            self._cipher = AESGCM(secrets.token_bytes(32))
        number = self._sealed // _SEGMENT_BYTES
        sealed = self._cipher.encrypt(_nonce(number), plain, None)
        _write_at(self._file, sealed, number * (_SEGMENT_BYTES + _TAG_BYTES))
        self._sealed += len(plain)

    def _segment(self, number: int) -> bytes:
        with self._lock:
            known = self._cache.get(number)
            if known is not None:
                self._cache.move_to_end(number)
                return known
            if self._file is None or self._cipher is None:
                raise ValueError("the spool is closed")
            sealed = os.pread(self._file, _SEGMENT_BYTES + _TAG_BYTES, number * (_SEGMENT_BYTES + _TAG_BYTES))
            plain = self._cipher.decrypt(_nonce(number), sealed, None)
            self._cache[number] = plain
            if len(self._cache) > _CACHED_SEGMENTS:
                self._cache.popitem(last=False)
            return plain


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")  # the key is used for one spool only, and each segment is written once


def _nameless(directory: Path) -> int:
    try:
        return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as refusal:
        if refusal.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise _told(refusal) from refusal
    descriptor, name = tempfile.mkstemp(prefix=".spool-", dir=directory)
    Path(name).unlink()
    return descriptor


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        try:
            written = os.pwrite(descriptor, view, offset)
        except OSError as refusal:
            raise _told(refusal) from refusal
        view, offset = view[written:], offset + written


def _told(refusal: OSError) -> Exception:
    return DiskFull() if refusal.errno in (errno.ENOSPC, errno.EDQUOT) else refusal
