"""pkt-lines: whatever was written is read, however it arrives; whatever was not is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitserver.git.protocol import (
    DELIM,
    DELIM_PACKET,
    END,
    FLUSH,
    FLUSH_PACKET,
    MAX_BAND_BYTES,
    MAX_DATA_BYTES,
    RESPONSE_END,
    RESPONSE_END_PACKET,
    Packet,
    PacketReader,
    ProtocolError,
    band,
    capabilities,
    pkt,
    printable,
    protocol_version,
)

_WRITTEN: list[tuple[Packet, bytes]] = [
    (FLUSH, FLUSH_PACKET),
    (DELIM, DELIM_PACKET),
    (RESPONSE_END, RESPONSE_END_PACKET),
]
_PACKETS = st.one_of(st.sampled_from(_WRITTEN), st.binary(max_size=200).map(lambda data: (data, pkt(data))))


class Pieces:
    """A stream that hands out its bytes in pieces of the sizes given, over and over."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._turn = data, sizes, 0

    def read(self, size: int, /) -> bytes:
        self._turn += 1
        size = min(size, self._sizes[self._turn % len(self._sizes)])
        piece, self._data = self._data[:size], self._data[size:]
        return piece


_SIZES = st.lists(st.integers(1, 70), min_size=1, max_size=4)


@settings(derandomize=True, deadline=None)
@given(st.lists(_PACKETS, max_size=12), _SIZES, st.binary(max_size=50))
def test_packets_are_read_as_they_were_written(
    packets: list[tuple[Packet, bytes]], sizes: list[int], behind: bytes
) -> None:
    reader = PacketReader(Pieces(b"".join(spelled for _, spelled in packets) + behind, sizes))

    assert [reader.packet() for _ in packets] == [meant for meant, _ in packets]
    rest = b"".join(iter(lambda: reader.read(7), b""))
    assert rest == behind


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=60), st.from_regex(rb"[0-9a-fA-F]{1,4}.{0,40}", fullmatch=True)), _SIZES)
def test_any_bytes_are_packets_or_an_error_and_none_are_lost(data: bytes, sizes: list[int]) -> None:
    reader = PacketReader(Pieces(data, sizes))
    spelled = b""
    try:
        while (packet := reader.packet()) is not END:
            spelled += pkt(packet) if isinstance(packet, bytes) else dict(_WRITTEN)[packet]
    except ProtocolError:
        assert len(spelled) < len(data)
    else:
        assert spelled.lower() == data.lower()


@settings(derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=6))
def test_lines_lose_one_newline_at_most(lines: list[bytes]) -> None:
    stream = b"".join(pkt(line + b"\n") for line in lines) + FLUSH_PACKET

    assert list(PacketReader(Pieces(stream, [9])).lines()) == lines


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 3 * MAX_BAND_BYTES + 5), st.integers(1, 3))
def test_a_side_band_carries_every_byte_in_packets_that_git_takes(size: int, number: int) -> None:
    data = bytes(index & 0xFF for index in range(251)) * (size // 251 + 1)
    written = list(band(number, data[:size]))

    reader = PacketReader(Pieces(b"".join(written), [1 << 20]))
    carried = b""
    while isinstance(packet := reader.packet(), bytes):
        assert packet[0] == number
        assert 1 < len(packet) <= MAX_DATA_BYTES
        carried += packet[1:]
    assert carried == data[:size]


@pytest.mark.parametrize(
    "length", [b"0003", b"fff1", b"ffff", b"00-1", b" 004", b"+004", b"0x04", b"004\n", b"\0\0\0\4"]
)
def test_a_length_that_no_git_writes_is_refused(length: bytes) -> None:
    with pytest.raises(ProtocolError, match="bad packet length"):
        PacketReader(Pieces(length + bytes(70_000), [1 << 20])).packet()


@pytest.mark.parametrize("stream", [b"0", b"000", b"0005", b"0009abcd", b"fff0" + bytes(100)])
def test_a_stream_that_ends_inside_a_packet_is_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolError, match="ends inside a packet"):
        PacketReader(Pieces(stream, [1 << 20])).packet()


def test_the_longest_packet_can_be_written_and_read_and_no_longer_one() -> None:
    longest = bytes(MAX_DATA_BYTES)

    assert PacketReader(Pieces(pkt(longest), [1 << 20])).packet() == longest
    with pytest.raises(ValueError, match="do not fit"):
        pkt(longest + b"x")


@pytest.mark.parametrize("special", [DELIM_PACKET, RESPONSE_END_PACKET, b""])
def test_lines_end_with_a_flush_packet_and_nothing_else(special: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected a flush packet"):
        list(PacketReader(Pieces(pkt(b"x") + special, [9])).lines())


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet="version=12:3 x", max_size=60))
def test_any_version_header_means_a_version(header: str) -> None:
    assert protocol_version(header) in (0, 1, 2)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=80))
def test_any_capabilities_can_be_read_and_any_bytes_shown(data: bytes) -> None:
    assert all(b" " not in name for name in capabilities(data))
    assert isinstance(printable(data).encode(), bytes)


@pytest.mark.parametrize(
    ("header", "version"),
    [("", 0), ("version=1", 1), ("version=2", 2), ("version=1:version=2", 2), ("x=y:version=2:z", 2), ("version=3", 0)],
)
def test_the_highest_version_that_is_known_is_spoken(header: str, version: int) -> None:
    assert protocol_version(header) == version
