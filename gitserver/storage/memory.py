"""Blobs and keys in memory: the whole promise, for as long as the process lives."""

import secrets
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from gitserver.core.clock import Clock, SystemClock
from gitserver.storage import wrapping
from gitserver.storage.blobs import BlobExists, BlobInfo, BlobMissing, Bytes, check_name, check_prefix
from gitserver.storage.keys import KEY_BYTES, KeyExists, KeyMissing, check_key_id


class MemoryBlobStore:
    """A BlobStore without a disk."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._blobs: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    def create(self, name: str) -> "MemoryBlobSink":
        """See BlobStore."""
        with self._lock:
            if check_name(name) in self._blobs:
                raise BlobExists(name)
        return MemoryBlobSink(self, name)

    def open(self, name: str) -> "MemoryBlobSource":
        """See BlobStore."""
        with self._lock:
            held = self._blobs.get(check_name(name))
        if held is None:
            raise BlobMissing(name)
        return MemoryBlobSource(held[0])

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """See BlobStore."""
        check_prefix(prefix)
        with self._lock:
            held = sorted(self._blobs.items())
        for name, (data, modified) in held:
            if name.startswith(prefix):
                yield BlobInfo(name, len(data), modified)

    def delete(self, name: str) -> None:
        """See BlobStore."""
        with self._lock:
            self._blobs.pop(check_name(name), None)

    def discard_unfinished(self, older_than: timedelta) -> int:  # noqa: ARG002
        """See BlobStore; a sink that is dropped leaves nothing here."""
        return 0

    def add(self, name: str, data: bytes) -> None:
        """Make a blob exist at once; for sinks.

        Raises:
            BlobExists: the name is taken.
        """
        with self._lock:
            if name in self._blobs:
                raise BlobExists(name)
            self._blobs[name] = (data, self._clock.now())


class MemoryBlobSink:
    """A blob being written to memory."""

    def __init__(self, store: MemoryBlobStore, name: str) -> None:
        self._store, self._name = store, name
        self._data = bytearray()
        self._done = False

    def write(self, data: Bytes) -> None:
        """See BlobSink."""
        if self._done:
            raise ValueError("the sink is closed")
        self._data += data

    def commit(self) -> None:
        """See BlobSink."""
        if self._done:
            raise ValueError("the sink is closed")
        self._done = True
        self._store.add(self._name, bytes(self._data))
        self._data = bytearray()

    def abort(self) -> None:
        """See BlobSink."""
        self._done = True
        self._data = bytearray()


class MemoryBlobSource:
    """A blob in memory, being read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """See BlobSource."""
        return self._data[offset : offset + length]

    def close(self) -> None:
        """See BlobSource."""


class MemoryKeyring:
    """A KeyProvider without a file."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[int, bytes]] = {}
        self._lock = threading.Lock()

    def create(self, key_id: str) -> None:
        """See KeyProvider."""
        with self._lock:
            if check_key_id(key_id) in self._keys:
                raise KeyExists(key_id)
            self._keys[key_id] = {1: secrets.token_bytes(KEY_BYTES)}

    def exists(self, key_id: str) -> bool:
        """See KeyProvider."""
        return key_id in self._keys

    def key_ids(self) -> Iterator[str]:
        """See KeyProvider."""
        with self._lock:
            return iter(sorted(self._keys))

    def wrap(self, key_id: str, plain: bytes, context: Mapping[str, str]) -> bytes:
        """See KeyProvider."""
        return wrapping.wrap(self._versions(key_id), key_id, plain, context)

    def unwrap(self, key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See KeyProvider."""
        return wrapping.unwrap(self._versions(key_id), key_id, wrapped, context)

    def rotate(self, key_id: str) -> None:
        """See KeyProvider."""
        with self._lock:
            versions = self._versions(key_id)
            self._keys[key_id] = {**versions, max(versions) + 1: secrets.token_bytes(KEY_BYTES)}

    def destroy(self, key_id: str) -> None:
        """See KeyProvider."""
        with self._lock:
            self._keys.pop(check_key_id(key_id), None)

    def _versions(self, key_id: str) -> dict[int, bytes]:
        versions = self._keys.get(check_key_id(key_id))
        if versions is None:
            raise KeyMissing(key_id)
        return versions
