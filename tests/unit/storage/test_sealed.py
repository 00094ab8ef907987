"""The sealed stream is Tink's, byte for byte, and refuses whatever is not."""

import io
import json
from collections.abc import Iterator
from hashlib import shake_256
from pathlib import Path
from typing import Any

import pytest
import tink
from tink import secret_key_access, streaming_aead

from gitserver.storage import wrapping
from gitserver.storage.blobs import BlobDamaged
from gitserver.storage.memory import MemoryBlobSource
from gitserver.storage.sealed import (
    SEGMENT_BYTES,
    SealedReader,
    Sealer,
    associated_data,
    data_key_id,
    open_bytes,
    seal_bytes,
    sealed_size,
)
from tests.vectors.make_sealed import keyset

VECTORS = Path(__file__).parents[2] / "vectors" / "sealed"
INDEX: dict[str, Any] = json.loads((VECTORS / "index.json").read_text())
KEY = bytes.fromhex(INDEX["key"])
ASSOCIATED = bytes.fromhex(INDEX["associated"])
KEY_ID = bytes(range(16))
HEAD = b"GSB1" + KEY_ID
FIRST, NEXT = SEGMENT_BYTES - 56, SEGMENT_BYTES - 16


@pytest.fixture(params=INDEX["streams"], ids=lambda stream: stream["file"])
def golden(request: pytest.FixtureRequest) -> tuple[bytes, bytes, int]:
    """A stream that Tink made, what is in it, and its segments' size."""
    name, plain_bytes = request.param["file"], request.param["plain_bytes"]
    return (VECTORS / name).read_bytes(), shake_256(name.encode()).digest(plain_bytes), request.param["segment_bytes"]


def reader(sealed: bytes, plain_bytes: int, /, **changed: Any) -> SealedReader:
    """Open *sealed* as our blob."""
    facts: dict[str, Any] = {
        "key_id": KEY_ID,
        "key": KEY,
        "associated": ASSOCIATED,
        "sealed_bytes": len(sealed),
        "plain_bytes": plain_bytes,
    }
    return SealedReader("web/pack/1", MemoryBlobSource(sealed), **{**facts, **changed})


def test_a_stream_that_tink_sealed_opens(golden: tuple[bytes, bytes, int]) -> None:
    stream, plain, segment_bytes = golden

    opened = reader(HEAD + stream, len(plain), segment_bytes=segment_bytes)

    assert b"".join(opened.chunks()) == plain


def test_given_the_same_random_bytes_we_seal_what_tink_sealed(golden: tuple[bytes, bytes, int]) -> None:
    stream, plain, segment_bytes = golden
    random_bytes = iter([stream[1:33], stream[33:40]])
    sealed = bytearray()

    sealer = Sealer(
        sealed.extend,
        KEY_ID,
        KEY,
        ASSOCIATED,
        segment_bytes=segment_bytes,
        randomness=lambda length: next(random_bytes),
    )
    sealer.write(plain)
    sealer.finish()

    assert bytes(sealed) == HEAD + stream
    assert len(sealed) == sealer.sealed_bytes == sealed_size(len(plain), segment_bytes)


@pytest.mark.parametrize("size", [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + NEXT, FIRST + 5 * NEXT + 9])
def test_tink_opens_what_we_sealed(size: int) -> None:
    plain = shake_256(b"ours").digest(size)
    sealed = seal_bytes(plain, KEY_ID, KEY, ASSOCIATED)

    streaming_aead.register()
    handle = tink.proto_keyset_format.parse(keyset(SEGMENT_BYTES), secret_key_access.TOKEN)
    primitive = handle.primitive(streaming_aead.StreamingAead)
    with primitive.new_decrypting_stream(io.BytesIO(sealed[len(HEAD) :]), ASSOCIATED) as opened:
        found = opened.read()

    assert found == plain


def test_a_key_wrapped_by_the_published_words_unwraps() -> None:
    golden = {name: bytes.fromhex(text) for name, text in INDEX["wrapped"].items()}
    context = {"gitserver:account": "123456789012", "aws:codecommit:id": "0b3eé"}

    found = wrapping.unwrap({3: golden["wrapping"]}, "123456789012.0b3e", golden["wrapped"], context)

    assert found == golden["plain"]


@pytest.mark.parametrize("piece", [1, 1000, NEXT, 262_144, 1 << 20])
def test_it_does_not_matter_in_which_pieces_bytes_are_written_or_read(piece: int) -> None:
    plain = shake_256(b"pieces").digest(FIRST + 4 * NEXT if piece > 1 else FIRST + 5)
    sealed = bytearray()

    sealer = Sealer(sealed.extend, KEY_ID, KEY, ASSOCIATED)
    for offset in range(0, len(plain), piece):
        sealer.write(plain[offset : offset + piece])
    sealer.finish()
    pieces = list(reader(bytes(sealed), len(plain)).chunks(piece=piece))

    assert b"".join(pieces) == plain
    assert max(map(len, pieces)) <= max(piece, NEXT)


def test_the_data_keys_id_is_read_without_any_key() -> None:
    sealed = seal_bytes(b"", KEY_ID, KEY, ASSOCIATED)

    assert data_key_id(sealed) == KEY_ID
    assert data_key_id(sealed[:19]) is None
    assert data_key_id(b"PACK" + sealed[4:]) is None


def test_no_two_lists_of_words_are_bound_alike() -> None:
    spelled = {associated_data(*words) for words in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]}

    assert len(spelled) == 5


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"key": bytes(32)}, "segment 1 is not authentic"),
        ({"associated": b"another"}, "segment 1 is not authentic"),
        ({"key_id": bytes(16)}, "names data key"),
        ({"plain_bytes": FIRST + 4}, "contradict"),
        ({"plain_bytes": FIRST + 6}, "contradict"),
        ({"sealed_bytes": sealed_size(FIRST + 4), "plain_bytes": FIRST + 4}, "instead of"),
        ({"sealed_bytes": sealed_size(FIRST), "plain_bytes": FIRST}, "instead of"),
    ],
)
def test_a_blob_that_is_not_the_catalogued_one_does_not_open(changed: dict[str, Any], why: str) -> None:
    sealed = seal_bytes(bytes(FIRST + 5), KEY_ID, KEY, ASSOCIATED)

    with pytest.raises(BlobDamaged, match=f"^blob web/pack/1 is damaged .*{why}"):
        reader(sealed, FIRST + 5, **changed)


def test_a_stream_cut_at_a_segments_border_does_not_open_even_with_fitting_lengths() -> None:
    sealed = seal_bytes(bytes(FIRST + 2 * NEXT), KEY_ID, KEY, ASSOCIATED)
    cut = sealed[: 20 + SEGMENT_BYTES]

    with pytest.raises(BlobDamaged, match="segment 0 is not authentic"):
        reader(cut, FIRST)


def test_a_damaged_segment_harms_no_other() -> None:
    sealed = bytearray(seal_bytes(bytes(FIRST + 3 * NEXT), KEY_ID, KEY, ASSOCIATED))
    sealed[20 + SEGMENT_BYTES + 100] ^= 1

    opened = reader(bytes(sealed), FIRST + 3 * NEXT)

    assert opened.read_at(0, 10) == bytes(10)
    assert opened.read_at(FIRST + NEXT, 10) == bytes(10)
    with pytest.raises(BlobDamaged, match="segment 1"):
        opened.read_at(FIRST - 1, 2)
    with pytest.raises(BlobDamaged, match="segment 1"):
        list(opened.chunks())


def test_only_the_segments_that_are_touched_are_read_and_few_are_kept() -> None:
    plain = shake_256(b"kept").digest(FIRST + 9 * NEXT)
    sealed = seal_bytes(plain, KEY_ID, KEY, ASSOCIATED)
    source = Counting(sealed)
    opened = SealedReader(
        "web/pack/1",
        source,
        key_id=KEY_ID,
        key=KEY,
        associated=ASSOCIATED,
        sealed_bytes=len(sealed),
        plain_bytes=len(plain),
        cached_segments=2,
    )

    source.reads.clear()
    for _ in range(3):
        assert opened.read_at(FIRST + 5, 100) == plain[FIRST + 5 : FIRST + 105]
    assert source.reads == [(20 + SEGMENT_BYTES, SEGMENT_BYTES)]
    source.reads.clear()
    for segment in (3, 4, 1):
        opened.read_at(FIRST + (segment - 1) * NEXT, 1)
    assert len(source.reads) == 3


def test_a_sealed_value_is_whole_or_does_not_open() -> None:
    for plain in (b"", b"totp seed", bytes(FIRST + NEXT)):
        sealed = seal_bytes(plain, KEY_ID, KEY, ASSOCIATED)

        assert open_bytes("value", sealed, KEY_ID, KEY, ASSOCIATED) == plain
        for cut in (0, 19, 20, 59, 75, len(sealed) - 1, 20 + SEGMENT_BYTES):
            if cut < len(sealed):
                with pytest.raises(BlobDamaged):
                    open_bytes("value", sealed[:cut], KEY_ID, KEY, ASSOCIATED)


def test_reading_stops_early_without_opening_the_rest() -> None:
    plain = shake_256(b"early").digest(FIRST + 20 * NEXT)
    source = Counting(seal_bytes(plain, KEY_ID, KEY, ASSOCIATED))
    opened = reader(source.data, len(plain))

    pieces: Iterator[bytes] = opened.chunks(FIRST - 3, FIRST + 3)

    assert b"".join(pieces) == plain[FIRST - 3 : FIRST + 3]
    assert list(opened.chunks(len(plain))) == list(opened.chunks(5, 5)) == []
    with pytest.raises(ValueError, match="from zero"):
        opened.read_at(-1, 1)


class Counting:
    """A source that remembers what was read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def close(self) -> None:
        pass
