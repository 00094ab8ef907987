"""A request body cannot end early unnoticed, and cannot grow without bound."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitserver.transports.http.body import (
    BodyCutShort,
    BodyTooLarge,
    ChunkedBody,
    GzipBody,
    LengthBody,
    LimitedBody,
    Source,
    UnsupportedEncoding,
    decoded,
)


class Script:
    """Bytes as they arrive, in these pieces; then the peer closes."""

    def __init__(self, *pieces: bytes) -> None:
        self._left = b"".join(pieces)
        self._cuts = [len(piece) for piece in pieces]

    def take(self, limit: int) -> bytes:
        size = min(limit, self._cuts.pop(0)) if self._cuts else limit
        data, self._left = self._left[:size], self._left[size:]
        return data

    read = take


def everything(source: Source, size: int = 7) -> bytes:
    """All of *source*, *size* bytes at a time."""
    return b"".join(iter(lambda: source.read(size), b""))


def test_a_body_of_known_length_ends_where_it_was_said_to() -> None:
    body = LengthBody(Script(b"hello ", b"world", b"GET /"), 11)

    assert everything(body) == b"hello world"
    assert body.finished


def test_a_body_of_known_length_that_stops_short_raises_every_time() -> None:
    body = LengthBody(Script(b"hello"), 6)
    body.read(10)

    for _ in range(2):
        with pytest.raises(BodyCutShort, match="ended early"):
            body.read(10)
    assert not body.finished


def test_a_chunked_body_is_its_chunks() -> None:
    body = ChunkedBody(iter([b"hello ", b"world"]))

    assert everything(body) == b"hello world"
    assert body.finished


def test_a_chunked_body_that_stops_short_raises_every_time() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"hello"
        raise BodyCutShort

    body = ChunkedBody(pieces())
    body.read(10)

    for _ in range(2):
        with pytest.raises(BodyCutShort):
            body.read(10)
    assert not body.finished


@given(st.binary(max_size=3000), st.integers(1, 500), st.lists(st.integers(1, 50)))
def test_gzip_inflates_to_what_was_compressed(data: bytes, size: int, cuts: list[int]) -> None:
    packed = gzip.compress(data)
    pieces = []
    for cut in cuts:
        pieces.append(packed[:cut])
        packed = packed[cut:]

    assert everything(GzipBody(Script(*[piece for piece in pieces if piece], packed)), size) == data


def test_gzip_members_one_after_the_other_are_one_body() -> None:
    assert everything(GzipBody(Script(gzip.compress(b"hello ") + gzip.compress(b"world")))) == b"hello world"


@pytest.mark.parametrize(
    "broken",
    [gzip.compress(b"hello" * 99)[:-1], gzip.compress(b"hello")[:5], gzip.compress(b"a") + b"rubbish", b"no gzip"],
)
def test_gzip_that_is_not_whole_raises_every_time(broken: bytes) -> None:
    body = GzipBody(Script(broken))

    for _ in range(2):
        with pytest.raises(BodyCutShort):
            everything(body)


def test_gzip_with_a_wrong_checksum_is_refused() -> None:
    packed = bytearray(gzip.compress(b"hello"))
    packed[-5] ^= 1

    with pytest.raises(BodyCutShort, match="not valid gzip"):
        everything(GzipBody(Script(bytes(packed))))


def test_a_gzip_bomb_costs_no_memory() -> None:
    squeeze = zlib.compressobj(wbits=31)
    bomb = b"".join([squeeze.compress(bytes(10**6)) for _ in range(200)] + [squeeze.flush()])
    body = decoded(Script(bomb), "gzip", 10**7)
    tracemalloc.start()

    with pytest.raises(BodyTooLarge):
        everything(body, 65536 * 4)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 10**7  # the ten million bytes this test itself collects, and little else


def test_a_body_longer_than_its_limit_is_refused() -> None:
    exact, longer = LimitedBody(Script(b"12345"), 5), LimitedBody(Script(b"123456"), 5)

    assert everything(exact) == b"12345"
    with pytest.raises(BodyTooLarge, match="5 bytes"):
        everything(longer)


@pytest.mark.parametrize("coding", ["", "identity", "Identity "])
def test_a_plain_body_passes(coding: str) -> None:
    assert everything(decoded(Script(b"hello"), coding, 100)) == b"hello"


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "deflate"])
def test_other_codings_are_refused(coding: str) -> None:
    with pytest.raises(UnsupportedEncoding):
        decoded(Script(b""), coding, 100)


@pytest.mark.parametrize("make", [lambda: GzipBody(Script()), lambda: LengthBody(Script(), 0)])
def test_no_bytes_are_an_empty_body(make: Callable[[], Source]) -> None:
    assert make().read(10) == b""
