"""Whatever is sealed, every window of it reads as the same window of the plain bytes, and no change goes unseen."""

from hashlib import shake_256
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitserver.storage.blobs import BlobDamaged
from gitserver.storage.memory import MemoryBlobSource
from gitserver.storage.sealed import SealedReader, Sealer, sealed_size

SEGMENT = 256  # small, so that many segments are cheap; the code has no other path for large ones
FIRST, NEXT = SEGMENT - 56, SEGMENT - 16
KEY, KEY_ID, ASSOCIATED = bytes(range(32)), bytes(range(16)), b"what it is"

BORDERS = [FIRST + count * NEXT + around for count in range(5) for around in (-1, 0, 1)]
LENGTHS = st.one_of(st.integers(0, 6 * SEGMENT), st.sampled_from(BORDERS))


class Sealed(NamedTuple):
    """Some plain bytes, and those bytes sealed."""

    plain: bytes
    sealed: bytes

    def open(self, sealed: bytes, *, cached: int = 2) -> SealedReader:
        return SealedReader(
            "blob",
            MemoryBlobSource(sealed),
            key_id=KEY_ID,
            key=KEY,
            associated=ASSOCIATED,
            sealed_bytes=len(self.sealed),
            plain_bytes=len(self.plain),
            segment_bytes=SEGMENT,
            cached_segments=cached,
        )

    def refuses(self, sealed: bytes) -> bool:
        """Whether reading *sealed* in place of ours fails before anything but our bytes was given out."""
        given_out = b""
        try:
            for piece in self.open(sealed).chunks(piece=SEGMENT):
                given_out += piece
        except BlobDamaged:
            return self.plain.startswith(given_out)
        return False


@st.composite
def sealed_bytes(draw: st.DrawFn) -> Sealed:
    """Plain bytes of any length, written in any pieces."""
    plain = shake_256(b"property").digest(draw(LENGTHS))
    cuts = sorted(draw(st.lists(st.integers(0, len(plain)), max_size=6)))
    sealed = bytearray()
    sealer = Sealer(sealed.extend, KEY_ID, KEY, ASSOCIATED, segment_bytes=SEGMENT)
    for start, end in zip([0, *cuts], [*cuts, len(plain)], strict=True):
        sealer.write(plain[start:end])
    sealer.finish()
    return Sealed(plain, bytes(sealed))


@given(sealed_bytes(), st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=8), st.integers(1, 4))
def test_every_window_reads_as_the_same_window_of_the_plain_bytes(
    kept: Sealed, windows: list[tuple[int, int]], cached: int
) -> None:
    opened = kept.open(kept.sealed, cached=cached)

    for offset, length in windows:
        assert opened.read_at(offset, length) == kept.plain[offset : offset + length]
        assert b"".join(opened.chunks(offset, offset + length)) == kept.plain[offset : offset + length]
    assert len(kept.sealed) == sealed_size(len(kept.plain), SEGMENT)


@given(sealed_bytes(), st.data())
def test_no_flipped_bit_goes_unseen(kept: Sealed, data: st.DataObject) -> None:
    place, bit = data.draw(st.integers(0, len(kept.sealed) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(kept.sealed)
    changed[place] ^= 1 << bit

    assert kept.refuses(bytes(changed))


@given(sealed_bytes(), st.data())
def test_no_truncation_or_extension_goes_unseen(kept: Sealed, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(kept.sealed) - 1))
    more = data.draw(st.binary(min_size=1, max_size=2 * SEGMENT))

    assert kept.refuses(kept.sealed[:cut])
    assert kept.refuses(kept.sealed + more)
    assert kept.refuses(kept.sealed[:cut] + bytes(len(kept.sealed) - cut)) or not any(kept.sealed[cut:])


@given(sealed_bytes(), st.data())
def test_no_two_segments_change_places_unseen(kept: Sealed, data: st.DataObject) -> None:
    head, body = kept.sealed[: 20 + SEGMENT], kept.sealed[20 + SEGMENT :]
    segments = [body[start : start + SEGMENT] for start in range(0, len(body), SEGMENT)]
    shuffled = data.draw(st.permutations(segments))

    assert shuffled == segments or kept.refuses(head + b"".join(shuffled))


def test_a_segment_of_another_stream_of_the_same_key_is_seen() -> None:
    streams = []
    for _ in range(2):
        sealed = bytearray()
        sealer = Sealer(sealed.extend, KEY_ID, KEY, ASSOCIATED, segment_bytes=SEGMENT)
        sealer.write(bytes(FIRST + 2 * NEXT))
        sealer.finish()
        streams.append(bytes(sealed))
    middle = slice(20 + SEGMENT, 20 + 2 * SEGMENT)
    mixed = streams[0][: middle.start] + streams[1][middle] + streams[0][middle.stop :]

    with pytest.raises(BlobDamaged, match="segment 1"):
        list(Sealed(bytes(FIRST + 2 * NEXT), streams[0]).open(mixed).chunks())
