"""The sealed stream: encryption that can be read at any place and cannot be changed at any.

A sealed blob is ``GSB1``, the 16-byte id of its data key, and then one stream of Tink's AES-GCM-HKDF streaming
AEAD (AES-256, HKDF with SHA-256, ciphertext segments of 64 KiB), which Tink's own libraries open when they are
given the key. `docs/sealed-format.md` has every byte of it.

- A key and a nonce must never meet twice: each stream derives a key of its own from 32 random bytes.
- A reader must know both lengths from elsewhere: a stream cut at a segment's border still opens, segment by
  segment. It must authenticate the last segment before it gives out a byte.
- What is not authentic must never be given out, not even in part.

Source: Tink, "AES-GCM-HKDF Streaming AEAD"; RFC 5869 (HKDF); NIST SP 800-38D (GCM).
"""

import secrets
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gitserver.storage.blobs import BlobDamaged, BlobSource, Bytes
from gitserver.storage.keys import KEY_BYTES

MAGIC = b"GSB1"
KEY_ID_BYTES = 16
SEGMENT_BYTES = 65_536
"""One ciphertext segment, its tag included; the first one's bytes include the stream's header."""

_PREFIX_BYTES = len(MAGIC) + KEY_ID_BYTES
_SALT_BYTES = 32
_NONCE_PREFIX_BYTES = 7
_HEADER_BYTES = 1 + _SALT_BYTES + _NONCE_PREFIX_BYTES
_TAG_BYTES = 16
_BATCH = 4  # segments handed over, or read, at once
_CACHED_SEGMENTS = 16
_NONCE = struct.Struct(">7sIB")


def associated_data(*words: str) -> bytes:
    """Spell *words* so that no two different lists are spelled alike: each behind its length in UTF-8 bytes."""
    parts = [word.encode() for word in words]
    return MAGIC + b"".join(struct.pack(">H", len(part)) + part for part in parts)


def sealed_size(plain_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> int:
    """How many bytes *plain_bytes* take when they are sealed."""
    return _PREFIX_BYTES + _HEADER_BYTES + plain_bytes + _TAG_BYTES * _segments(plain_bytes, segment_bytes)


def data_key_id(head: bytes) -> bytes | None:
    """The data key's id in a sealed blob's first 20 bytes; None if this is no sealed blob."""
    if len(head) < _PREFIX_BYTES or not head.startswith(MAGIC):
        return None
    return head[len(MAGIC) : _PREFIX_BYTES]


class Sealer:
    """Seals bytes as they come; memory use is constant. For one thread."""

    def __init__(
        self,
        write: Callable[[Bytes], None],
        key_id: bytes,
        key: bytes,
        associated: bytes,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Start a stream.

        Args:
            write: takes the sealed bytes; it must be done with them when it returns.
            key_id: 16 bytes, stored in the clear.
            key: 32 bytes.
            associated: what the stream is; it opens only when the same is given again.
            segment_bytes: for measurements; what is stored has SEGMENT_BYTES.
            randomness: gives that many random bytes.
        """
        salt, self._nonce_prefix = randomness(_SALT_BYTES), randomness(_NONCE_PREFIX_BYTES)
        self._write = write
        self._gcm = _segment_cipher(key, salt, associated)
        self._out = memoryview(bytearray(_BATCH * segment_bytes + _PREFIX_BYTES))
        self._held = memoryview(bytearray(segment_bytes - _TAG_BYTES))
        self._filled = 0
        self._room = segment_bytes - _TAG_BYTES - _HEADER_BYTES
        self._full_room = segment_bytes - _TAG_BYTES
        self._number = 0
        head = MAGIC + key_id + bytes([_HEADER_BYTES]) + salt + self._nonce_prefix
        self._used = len(head)
        self._out[: self._used] = head
        self.plain_bytes = 0
        self.sealed_bytes = self._used

    def write(self, data: Bytes) -> None:
        """Append *data*. The last segment is held back, since it must be marked as the last."""
        rest = memoryview(data)
        self.plain_bytes += len(rest)
        if self._filled:
            taken = min(self._room - self._filled, len(rest))
            self._hold(rest[:taken])
            rest = rest[taken:]
            if not rest:
                return
            self._seal(self._held[: self._filled], last=False)
            self._filled = 0
        while len(rest) > self._room:
            segment, rest = rest[: self._room], rest[self._room :]
            self._seal(segment, last=False)
        self._hold(rest)

    def finish(self) -> None:
        """Seal the last segment and hand over everything. Nothing may be written afterwards."""
        self._seal(self._held[: self._filled], last=True)
        self._flush()

    def _hold(self, data: memoryview) -> None:
        self._held[self._filled : self._filled + len(data)] = data
        self._filled += len(data)

    def _seal(self, plain: memoryview, *, last: bool) -> None:
        length = len(plain) + _TAG_BYTES
        if self._used + length > len(self._out):
            self._flush()
        nonce = _NONCE.pack(self._nonce_prefix, self._number, last)
        self._gcm.encrypt_into(nonce, plain, None, self._out[self._used : self._used + length])
        self._used += length
        self.sealed_bytes += length
        self._number += 1
        self._room = self._full_room

    def _flush(self) -> None:
        self._write(self._out[: self._used])
        self._used = 0


class SealedReader:
    """A sealed blob being read; any number of threads may read from one."""

    def __init__(
        self,
        name: str,
        source: BlobSource,
        *,
        key_id: bytes,
        key: bytes,
        associated: bytes,
        sealed_bytes: int,
        plain_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        cached_segments: int = _CACHED_SEGMENTS,
    ) -> None:
        """Check the blob's lengths, header and last segment.

        Args:
            name: what errors call the blob.
            source: its sealed bytes; closed with the reader, and when this raises.
            key_id: the data key that the catalogue says it is sealed with.
            key: that key.
            associated: what the catalogue says it is.
            sealed_bytes: its length, from the catalogue.
            plain_bytes: the length of what is in it, from the catalogue.
            segment_bytes: for measurements.
            cached_segments: how many opened segments :meth:`read_at` keeps, of 64 KiB each.

        Raises:
            BlobDamaged: it is not the blob that was sealed under this name.
        """
        self.name, self.size = name, plain_bytes
        self._source = source
        self._segment_bytes, self._room = segment_bytes, segment_bytes - _TAG_BYTES
        self._sealed_bytes = sealed_bytes
        self._count = _segments(plain_bytes, segment_bytes)
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached_segments = max(1, cached_segments)
        self._lock = threading.Lock()
        try:
            self._gcm, self._nonce_prefix = self._check_head(key_id, key, associated)
            self._segment(self._count - 1)
        except BaseException:
            source.close()
            raise

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly *length* bytes from *offset* on; fewer only where the blob ends.

        Raises:
            BlobDamaged: a segment that was touched is not authentic.
        """
        if offset < 0 or length < 0:
            raise ValueError("offset and length count from zero")
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        first, start = self._place(offset)
        last, stop = self._place(end - 1)
        if first == last:
            return self._segment(first)[start : stop + 1]
        if last == first + 1:
            return self._segment(first)[start:] + self._segment(last)[: stop + 1]
        return b"".join(self.chunks(offset, end))

    def chunks(self, offset: int = 0, end: int | None = None, piece: int = 262_144) -> Iterator[bytes]:
        """The bytes from *offset* to *end*, in order, in pieces of at most *piece* bytes (or one segment).

        Nothing is cached, and memory use is that of two pieces.

        Raises:
            BlobDamaged: a segment is not authentic; what was given out before it was.
        """
        end = self.size if end is None else min(end, self.size)
        if offset < 0:
            raise ValueError("the offset counts from zero")
        if offset >= end:
            return
        run = max(1, piece // self._segment_bytes)
        first, start = self._place(offset)
        last, stop = self._place(end - 1)
        for number in range(first, last + 1, run):
            following = min(number + run, last + 1)
            opened = self._open(number, following)
            if following == last + 1:
                opened[-1] = opened[-1][: stop + 1]
            if number == first:
                opened[0] = opened[0][start:]
            yield opened[0] if len(opened) == 1 else b"".join(opened)

    def close(self) -> None:
        """Release the source and what was opened. May be called more than once."""
        with self._lock:
            self._cache.clear()
        self._source.close()

    def __enter__(self) -> "SealedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_head(self, key_id: bytes, key: bytes, associated: bytes) -> tuple[AESGCM, bytes]:
        if self._sealed_bytes != sealed_size(self.size, self._segment_bytes):
            raise BlobDamaged(self.name, "its catalogued lengths contradict each other")
        if self._source.size != self._sealed_bytes:
            raise BlobDamaged(self.name, f"it has {self._source.size} bytes instead of {self._sealed_bytes}")
        head = self._source.read_at(0, _PREFIX_BYTES + _HEADER_BYTES)
        found = data_key_id(head)
        if found is None:
            raise BlobDamaged(self.name, "it does not start like a sealed blob")
        if found != key_id:
            raise BlobDamaged(self.name, f"it names data key {found.hex()} instead of {key_id.hex()}")
        if len(head) < _PREFIX_BYTES + _HEADER_BYTES or head[_PREFIX_BYTES] != _HEADER_BYTES:
            raise BlobDamaged(self.name, "its header is not one of a sealed stream")
        salt = head[_PREFIX_BYTES + 1 : _PREFIX_BYTES + 1 + _SALT_BYTES]
        return _segment_cipher(key, salt, associated), head[-_NONCE_PREFIX_BYTES:]

    def _place(self, offset: int) -> tuple[int, int]:
        """The segment that holds plain byte *offset*, and where in it that byte is."""
        number, within = divmod(offset + _HEADER_BYTES, self._room)
        return number, within if number else offset

    def _segment(self, number: int) -> bytes:
        with self._lock:
            opened = self._cache.get(number)
            if opened is not None:
                self._cache.move_to_end(number)
                return opened
        opened = self._open(number, number + 1)[0]
        with self._lock:
            self._cache[number] = opened
            while len(self._cache) > self._cached_segments:
                self._cache.popitem(last=False)
        return opened

    def _open(self, number: int, following: int) -> list[bytes]:
        """Open the segments from *number* up to *following*, which are read at once."""
        borders = [self._border(each) for each in range(number, following + 1)]
        sealed = memoryview(self._source.read_at(borders[0], borders[-1] - borders[0]))
        if len(sealed) != borders[-1] - borders[0]:
            raise BlobDamaged(self.name, "it became shorter while it was read")
        opened = []
        for start, stop in pairwise(borders):
            nonce = _NONCE.pack(self._nonce_prefix, number, number == self._count - 1)
            try:
                opened.append(self._gcm.decrypt(nonce, sealed[start - borders[0] : stop - borders[0]], None))
            except InvalidTag as forged:
                raise BlobDamaged(self.name, f"segment {number} is not authentic") from forged
            number += 1
        return opened

    def _border(self, number: int) -> int:
        """Where segment *number* starts in the sealed blob."""
        if number == 0:
            return _PREFIX_BYTES + _HEADER_BYTES
        return min(_PREFIX_BYTES + number * self._segment_bytes, self._sealed_bytes)


def seal_bytes(plain: Bytes, key_id: bytes, key: bytes, associated: bytes) -> bytes:
    """Seal something small in one go."""
    sealed = bytearray()
    sealer = Sealer(sealed.extend, key_id, key, associated)
    sealer.write(plain)
    sealer.finish()
    return bytes(sealed)


def open_bytes(name: str, sealed: bytes, key_id: bytes, key: bytes, associated: bytes) -> bytes:
    """Open something small in one go. A whole stream, read to its end, shows by itself that it is whole.

    Raises:
        BlobDamaged: it is not what was sealed with this key and associated data.
    """
    count = max(1, -(-(len(sealed) - _PREFIX_BYTES) // SEGMENT_BYTES))
    plain_bytes = len(sealed) - _PREFIX_BYTES - _HEADER_BYTES - _TAG_BYTES * count
    if plain_bytes < 0:
        raise BlobDamaged(name, f"its {len(sealed)} bytes are too few")
    reader = SealedReader(
        name,
        _Bytes(sealed),
        key_id=key_id,
        key=key,
        associated=associated,
        sealed_bytes=len(sealed),
        plain_bytes=plain_bytes,
    )
    return b"".join(reader.chunks())


class _Bytes:
    """A source of bytes that are in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        pass


def _segments(plain_bytes: int, segment_bytes: int) -> int:
    return max(1, -(-(plain_bytes + _HEADER_BYTES) // (segment_bytes - _TAG_BYTES)))


def _segment_cipher(key: bytes, salt: bytes, associated: bytes) -> AESGCM:
    """The cipher of one stream's segments: a key of its own, which also binds what the stream is."""
    if len(key) != KEY_BYTES:
        raise ValueError("a data key has 32 bytes")
    return AESGCM(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=associated).derive(key))
