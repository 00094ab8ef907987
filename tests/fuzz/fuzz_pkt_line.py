"""Feeds bytes to everything that reads pkt-lines: only the errors that are promised may come out.

    python tests/fuzz/fuzz_pkt_line.py [options of libFuzzer]

with `atheris` installed (``pip install 'gitserver[fuzz]'``), which is guided by coverage; without it, random bytes.
"""

from collections.abc import Iterator
from random import Random

from gitserver.core.errors import Failure
from gitserver.git.limits import PushLimits
from gitserver.git.protocol import DELIM_PACKET, END, FLUSH_PACKET, PacketReader, pkt
from gitserver.git.push_request import read_request
from tests.fuzz.driver import Stream, run

_LIMITS = PushLimits(commands=20, push_options=5, shallow_lines=10)
_OID = b"0123456789abcdef0123456789abcdef01234567"
_WORDS = (
    _OID, b"0" * 40, b" ", b"\0", b"\n", b"refs/heads/main", b"refs/tags/v1", b"shallow ", b"push-options", b"atomic",
    b"report-status", b"side-band-64k", b"object-format=sha1", b"object-format=sha256", b"agent=x", b"push-cert",
    b"\xff",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Read *data* as packets, and as a push; its first byte says in what pieces it comes."""
    piece_bytes = data[0] + 1 if data else 1
    packets = PacketReader(Stream(data[1:], piece_bytes))
    written = b""
    try:
        while (packet := packets.packet()) is not END:
            written += pkt(packet) if isinstance(packet, bytes) else FLUSH_PACKET
    except Failure:
        pass
    if len(written) > len(data):
        raise AssertionError("more was read than was there")
    try:
        request = read_request(PacketReader(Stream(data[1:], piece_bytes)), _LIMITS)
    except Failure:
        return
    if request is not None and len(request.commands) > _LIMITS.commands:
        raise AssertionError("a cap was passed")


def examples(chance: Random) -> Iterator[bytes]:
    """Pushes, more or less."""
    while True:
        packets = []
        for _ in range(chance.randrange(6)):
            words = chance.choices(_WORDS, k=chance.randrange(8))
            line = (
                b"%b %b refs/heads/main\0%b" % (_OID, _OID, b" ".join(words))
                if chance.random() < 0.6
                else b"".join(words)
            )
            packets.append(pkt(line))
        packets.insert(
            chance.randrange(len(packets) + 1), chance.choice((FLUSH_PACKET, DELIM_PACKET, b"0003", b"zzzz", b""))
        )
        stream = bytearray(b"".join(packets) + FLUSH_PACKET)
        for _ in range(chance.choice((0, 0, 1, 3))):
            if stream:
                stream[chance.randrange(len(stream))] = chance.randrange(256)
        yield chance.randbytes(1) + bytes(stream)


if __name__ == "__main__":
    run(one_input, examples)
