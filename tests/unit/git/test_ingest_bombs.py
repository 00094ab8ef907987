"""Small packs that ask for much: each is refused, or taken in little memory, measured in a process of its own."""

import struct
import zlib
from pathlib import Path

import pytest

from gitserver.git.limits import PackLimits
from gitserver.git.objects import Kind
from tests.unit.git.pack_cost import cost
from tests.unit.git.pack_forge import Forged, closed, commit, copy, delta, forge, insert, ofs, oid, ref, tree, whole

MIB = 1 << 20
CAP_MIB = 100
BLOCK = bytes(0x10000)
COPY_BLOCK = b"\x80"  # from the beginning, 64 KiB


def zeros(size: int) -> Forged:
    """A blob of nothing but zeros."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return Forged(Kind.BLOB, b"", size=size, packed=b"".join((*pieces, packer.flush())))


def chain(length: int) -> bytes:
    """A pack with one object, and each next one a delta on the one before."""
    entries = [whole(Kind.BLOB, b"x" * 50)]
    changes = (insert(struct.pack(">I", number)) for number in range(length))
    entries += [ofs(number, delta(50, 50, copy(0, 46), change)) for number, change in enumerate(changes)]
    return forge(entries)


def doubling(times: int) -> bytes:
    """A pack in which each delta's result is twice its base."""
    entries, size = [whole(Kind.BLOB, BLOCK)], len(BLOCK)
    for number in range(times):
        operations = [copy(at, min(size - at, 0xFF0000)) for at in range(0, size, 0xFF0000)]
        entries.append(ofs(number, delta(size, 2 * size, *operations, *operations)))
        size *= 2
    return forge(entries)


def shared_trees(levels: int, width: int) -> bytes:
    """A commit whose tree stands for *width* to the power of *levels* files."""
    objects, target, mode = [(Kind.BLOB, b"x")], oid(Kind.BLOB, b"x"), b"100644"
    for _ in range(levels):
        data = tree(*((mode, b"%02d" % number, target) for number in range(width)))
        objects.append((Kind.TREE, data))
        target, mode = oid(Kind.TREE, data), b"40000"
    return closed([*objects, (Kind.COMMIT, commit(target))])


def test_a_delta_of_some_bytes_that_makes_half_a_gigabyte_is_refused(tmp_path: Path) -> None:
    bomb = forge(
        [
            Forged(Kind.BLOB, BLOCK, level=9),
            Forged(6, delta(len(BLOCK), 8192 * len(BLOCK), COPY_BLOCK * 8192), 0, level=9),
        ]
    )

    spent = cost(tmp_path, bomb)

    assert len(bomb) < 200
    assert "at most 134217728 are taken" in spent.reason
    assert spent.peak_mib < 10


def test_deltas_that_double_and_double_are_refused(tmp_path: Path) -> None:
    spent = cost(tmp_path, doubling(12))

    assert "times its own size" in spent.reason
    assert spent.peak_mib < 10


@pytest.mark.parametrize("size", [512 * MIB])
def test_a_blob_of_zeros_streams_through(tmp_path: Path, size: int) -> None:
    spent = cost(tmp_path, forge([zeros(size)]))

    assert spent.reason == ""
    assert spent.peak_mib < 30


def test_a_chain_of_fifty_thousand_deltas_is_refused(tmp_path: Path) -> None:
    spent = cost(tmp_path, chain(50_000))

    assert "longer than 4095" in spent.reason
    assert spent.peak_mib < CAP_MIB


def test_the_longest_chain_that_git_makes_is_taken(tmp_path: Path) -> None:
    longest = PackLimits().delta_depth

    assert cost(tmp_path, chain(longest)).reason == ""
    assert "longer than" in cost(tmp_path, chain(longest + 1)).reason


def test_ten_megabytes_of_headers_are_refused(tmp_path: Path) -> None:
    headers = commit(oid(Kind.TREE, b"")).replace(b"\n\n", b"\n" + b"x y\n" * 2_500_000 + b"\n")

    spent = cost(tmp_path, closed([(Kind.TREE, b""), (Kind.COMMIT, headers)]))

    assert "bytes of headers" in spent.reason
    assert spent.peak_mib < CAP_MIB


def test_ten_levels_of_ten_shared_trees_cost_ten_trees(tmp_path: Path) -> None:
    spent = cost(tmp_path, shared_trees(levels=10, width=10))

    assert spent.reason == ""
    assert spent.peak_mib < 10
    assert spent.cpu_s < 1


@pytest.mark.parametrize("mode", [b"100644", b"100600"])
def test_a_tree_of_three_hundred_thousand_entries_is_taken(tmp_path: Path, mode: bytes) -> None:
    blob = oid(Kind.BLOB, b"x")
    huge = tree(*((mode, b"%06x" % number, blob) for number in range(300_000)))

    spent = cost(tmp_path, closed([(Kind.BLOB, b"x"), (Kind.TREE, huge)]))

    assert spent.reason == ""
    assert spent.peak_mib < CAP_MIB


def test_a_hundred_thousand_deltas_on_nothing_are_refused(tmp_path: Path) -> None:
    bomb = forge(ref(struct.pack(">5I", *[number] * 5), b"\x02\x02\x01ab") for number in range(100_000))

    spent = cost(tmp_path, bomb)

    assert "100000 deltas have no base" in spent.reason
    assert spent.peak_mib < CAP_MIB


def test_a_hundred_thousand_trees_and_names_are_remembered_in_little_space(tmp_path: Path) -> None:
    def some(number: int) -> bytes:
        return tree(*((b"100644", b"%d" % at, struct.pack(">5I", *[number * 5 + at + 1] * 5)) for at in range(5)))

    spent = cost(tmp_path, forge(whole(Kind.TREE, some(number)) for number in range(60_000)))

    assert spent.reason == "300000 objects are nowhere"
    assert spent.peak_mib < CAP_MIB


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (forge([whole(Kind.BLOB, b"x")], count=10_000_000), ""),
        (forge([whole(Kind.BLOB, b"x")], count=0xFFFFFFFF), "at most 10000000 are taken"),
        (forge([Forged(Kind.BLOB, b"x", size=1 << 60)]), "is too large"),
        (forge([Forged(Kind.BLOB, b"x", size=2 << 30)]), "shorter than its header says"),
        (forge([Forged(Kind.TREE, b"x", size=1 << 60)]), "is too large"),
        (forge([Forged(Kind.TREE, b"x", size=16 * MIB)]), "shorter than its header says"),
        (forge([whole(Kind.BLOB, b"x"), Forged(6, b"x" * 9, 0, size=1 << 60)]), "a delta works on"),
        (forge([whole(Kind.BLOB, b"x"), Forged(6, b"x" * 9, 0, size=100 * MIB)]), "shorter than its header says"),
        (forge([whole(Kind.BLOB, b"x"), ofs(0, delta(1 << 60, 4, b"abcd"))]), "a delta works on"),
        (forge([whole(Kind.BLOB, b"x"), ofs(0, delta(1, 1 << 60, b"abcd"))]), "a delta works on"),
    ],
)
def test_a_lie_about_sizes_costs_nothing(tmp_path: Path, pack: bytes, reason: str) -> None:
    spent = cost(tmp_path, pack)

    assert spent.reason
    assert reason in spent.reason
    assert spent.peak_mib < 10


def test_every_cost_is_measured_from_nothing(tmp_path: Path) -> None:
    spent = cost(tmp_path, forge([]))

    assert (spent.reason, spent.peak_mib) == ("", 0)
    assert spent.cpu_s < 0.1
