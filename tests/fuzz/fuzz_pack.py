"""Feeds packs to what receives them: only the errors that are promised may come out, and nothing half-received.

    python tests/fuzz/fuzz_pack.py [options of libFuzzer]

with `atheris` installed (``pip install 'gitserver[fuzz]'``), which is guided by coverage; without it, random packs. An
input is not the pack itself, which checksums and compression would hide from the fuzzer, but a description of one.
"""

from collections.abc import Iterator
from contextlib import closing
from random import Random

from gitserver.core.errors import Failure
from gitserver.git.limits import PackLimits
from gitserver.git.objects import Kind
from gitserver.git.pack_format import OFS_DELTA, REF_DELTA
from gitserver.git.store import ObjectStore
from tests.fuzz.driver import run
from tests.unit.git.pack_forge import PERSON, Forged, difference, forge, oid, receive, tree

_LIMITS = PackLimits(
    objects=64, blob_bytes=1 << 16, tree_bytes=1 << 16, commit_bytes=1 << 16, delta_object_bytes=1 << 16, delta_depth=8,
    inflated_floor_bytes=1 << 20, cache_bytes=1 << 10,
)  # fmt: skip
_RAW = 0xFF


def one_input(data: bytes) -> None:
    """Receive the pack that *data* describes: a byte for the pieces it comes in, then its entries, or raw bytes."""
    piece_bytes = data[0] + 1 if data else 1
    pack = data[2:] if data[1:2] == bytes([_RAW]) else forge(described(data[1:]))
    try:
        incoming = receive(pack, ObjectStore(()), _LIMITS, piece_bytes)
    except Failure:
        return
    with closing(incoming):
        for name in incoming.objects.oids():
            kind, found = incoming.objects.read(name)
            if oid(kind, found) != name:
                raise AssertionError("an object does not have the id that it is kept under")


def described(data: bytes) -> list[Forged]:
    """The entries that *data* describes: each has two length bytes, a byte of type and lies, one for its base, data."""
    entries: list[Forged] = []
    names: list[bytes] = [bytes(20)]
    while len(data) >= 4 and len(entries) < 64:
        size, number, base = int.from_bytes(data[:2], "big") & 0x3FF, data[2] & 7, data[3]
        content, data = data[4 : 4 + size], data[4 + size :]
        lie = len(content) + 1 if data[2:3] >= b"\xf0" else None
        if number == OFS_DELTA:
            entries.append(Forged(number, content, -base - 1 if base & 0x80 else min(base, len(entries)), size=lie))
        elif number == REF_DELTA:
            entries.append(Forged(number, content, names[base % len(names)], size=lie))
        else:
            entries.append(Forged(number, content, size=lie))
            if 1 <= number <= 4:
                names.append(oid(Kind(number), content))
    return entries


def describe(*entries: tuple[int, int, bytes]) -> bytes:
    """The description of entries of (type, base, data)."""
    return b"".join(len(data).to_bytes(2, "big") + bytes((number, base)) + data for number, base, data in entries)


def examples(chance: Random) -> Iterator[bytes]:
    """Small repositories with a few bytes changed."""
    blob, other = b"a blob of text\n" * 3, b"a blob of test\n" * 3
    files = tree((b"100644", b"a", oid(Kind.BLOB, blob)), (b"120000", b"b", oid(Kind.BLOB, other)))
    head = b"tree %s\nauthor %s\ncommitter %s\n\nm\n" % (oid(Kind.TREE, files).hex().encode(), PERSON, PERSON)
    tag = b"object %s\ntype commit\ntag v1\n\nm\n" % oid(Kind.COMMIT, head).hex().encode()
    change = difference(blob, other)
    sound = [
        describe((1, 0, head), (2, 0, files), (3, 0, blob), (6, 2, change), (4, 0, tag)),
        describe((7, 1, change), (3, 0, blob)),
        describe((3, 0, blob), (6, 0, change), (6, 1, difference(other, blob + other))),
        bytes([_RAW]) + forge([Forged(3, blob), Forged(6, change, 0)]),
    ]
    while True:
        made = bytearray(chance.choice(sound))
        for _ in range(chance.choice((0, 1, 1, 2, 5))):
            at = chance.randrange(len(made))
            if chance.random() < 0.6:
                made[at] ^= 1 << chance.randrange(8)
            elif chance.random() < 0.5:
                del made[at]
            else:
                made[at:at] = chance.randbytes(1)
        yield chance.randbytes(1) + bytes(made)


if __name__ == "__main__":
    run(one_input, examples)
