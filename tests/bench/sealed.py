"""How fast sealed streams are written and read, for two sizes of segment.

    python -m tests.bench.sealed [MEBIBYTES]

Everything is in memory, so that the figures are the format's and not a disk's. One thread; CPU time.
"""

import random
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from gitserver.storage.blobs import Bytes
from gitserver.storage.sealed import SealedReader, Sealer, associated_data

ROUNDS = 5
READS = 5_000
READ_BYTES = 4_096
PIECE_BYTES = 262_144
KEY_ID, KEY, IDENTITY = bytes(16), bytes(range(32)), associated_data("blob", "bench")


class _Counter:
    """A store that forgets at once, so that only sealing is timed."""

    def write(self, data: Bytes) -> None:
        pass


class _Source:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        pass


def main(megabytes: int) -> None:
    """Print one line for each segment size."""
    plain = random.Random(1).randbytes(1 << 20) * megabytes
    sys.stdout.write(f"{megabytes} MiB, {ROUNDS} rounds, median; {READS} reads of {READ_BYTES} bytes\n")
    sys.stdout.write("segment  seal MB/s  open MB/s  read, cold  read within 1 MiB kept  overhead\n")
    for segment_bytes in (65_536, 16_384):
        sealed = _seal(plain, segment_bytes)
        seal = _megabytes_a_second(len(plain), partial(_seal_away, plain, segment_bytes))
        opened = _megabytes_a_second(len(plain), partial(_open, sealed, plain, segment_bytes))
        cold = _microseconds_a_read(sealed, plain, segment_bytes, span=len(plain), cached=1)
        near = _microseconds_a_read(sealed, plain, segment_bytes, span=1 << 20, cached=(1 << 20) // segment_bytes)
        overhead = (len(sealed) - len(plain)) / len(plain)
        sys.stdout.write(
            f"{segment_bytes:7}  {seal:9.0f}  {opened:9.0f}  {cold:7.1f} µs  {near:19.1f} µs  {overhead * 100:7.3f} %\n"
        )


def _seal(plain: bytes, segment_bytes: int) -> bytes:
    sealed = bytearray()
    _seal_to(sealed.extend, plain, segment_bytes)
    return bytes(sealed)


def _seal_away(plain: bytes, segment_bytes: int) -> None:
    _seal_to(_Counter().write, plain, segment_bytes)


def _seal_to(write: Callable[[Bytes], None], plain: bytes, segment_bytes: int) -> None:
    sealer = Sealer(write, KEY_ID, KEY, IDENTITY, segment_bytes=segment_bytes)
    view = memoryview(plain)
    for offset in range(0, len(plain), PIECE_BYTES):
        sealer.write(view[offset : offset + PIECE_BYTES])
    sealer.finish()


def _reader(sealed: bytes, plain: bytes, segment_bytes: int, cached: int) -> SealedReader:
    return SealedReader(
        "bench",
        _Source(sealed),
        key_id=KEY_ID,
        key=KEY,
        associated=IDENTITY,
        sealed_bytes=len(sealed),
        plain_bytes=len(plain),
        segment_bytes=segment_bytes,
        cached_segments=cached,
    )


def _open(sealed: bytes, plain: bytes, segment_bytes: int) -> None:
    for _ in _reader(sealed, plain, segment_bytes, 1).chunks():
        pass


def _microseconds_a_read(sealed: bytes, plain: bytes, segment_bytes: int, span: int, cached: int) -> float:
    reader = _reader(sealed, plain, segment_bytes, cached)
    dice = random.Random(2)
    places = [dice.randrange(span - READ_BYTES) for _ in range(READS)]
    started = time.process_time()
    for place in places:
        reader.read_at(place, READ_BYTES)
    return (time.process_time() - started) / READS * 1e6


def _megabytes_a_second(size: int, work: Callable[[], None]) -> float:
    taken = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return size / median(taken) / 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
