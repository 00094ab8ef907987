"""The index of a pack: what git would write, and what can be looked up in it."""

import random
import subprocess
from hashlib import sha1
from pathlib import Path

import pytest

from gitserver.git.objects import Kind
from gitserver.git.pack_format import PackDamaged, pack_header
from gitserver.git.pack_index import IndexDamaged, PackIndex, build_index
from tests.scenarios.mutated_packs import Seed, seeds
from tests.unit.git.pack_forge import ENVIRONMENT, GitJudge, closed, difference, forge, git, oid, receive, ref, whole


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    return seeds(tmp_path_factory.mktemp("seeds"))


def test_the_index_is_gits_own_byte_for_byte(packs: list[Seed], tmp_path: Path) -> None:
    judge = GitJudge(tmp_path)
    for seed in packs:
        incoming = receive(seed.pack)

        assert judge.verdict(seed.pack).accepted
        assert incoming.objects.packs[0].index.idx == judge.index()
        incoming.close()


def test_git_verifies_a_pack_with_its_index(packs: list[Seed], tmp_path: Path) -> None:
    incoming = receive(packs[0].pack)
    pack = incoming.objects.packs[0]
    (tmp_path / "a.pack").write_bytes(pack.read_at(0, pack.size))
    (tmp_path / "a.idx").write_bytes(pack.index.idx)
    incoming.close()

    git(tmp_path, "verify-pack", "a.idx")


def test_the_index_of_a_completed_thin_pack_is_gits_own_byte_for_byte(tmp_path: Path) -> None:
    base = b"".join(b"line %d\n" % number for number in range(500))
    changed = base.replace(b"line 100\n", b"changed\n")
    first = receive(forge([whole(Kind.BLOB, base)]))
    incoming = receive(forge([ref(oid(Kind.BLOB, base), difference(base, changed))]), first.objects)
    pack = incoming.objects.packs[0]
    (tmp_path / "a.pack").write_bytes(pack_header(2) + pack.read_at(12, pack.size))  # the count as it will be stored

    git(tmp_path, "index-pack", "--strict", "-o", "b.idx", "a.pack")

    assert (tmp_path / "b.idx").read_bytes() == pack.index.idx
    incoming.close()
    first.close()


def test_every_object_is_found_with_its_kind_size_and_checksum(packs: list[Seed]) -> None:
    incoming = receive(packs[0].pack)
    index = incoming.objects.packs[0].index

    for name, (kind, data) in packs[0].objects.items():
        position = index.find(name)
        assert position is not None
        assert (index.oid(position), index.kind(position), index.size(position)) == (name, kind, len(data))
        assert index.position_at(index.offset(position)) == position
    assert index.find(bytes(20)) is None
    assert index.find(b"\xff" * 20) is None
    incoming.close()


def test_offsets_beyond_two_and_four_gigabytes_are_found(tmp_path: Path) -> None:
    chance = random.Random(2)
    edges = [12, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 40) + 5]
    offsets = edges + chance.sample(range(13, 1 << 34), 500)
    rows = [(chance.randbytes(20), offset, chance.getrandbits(32), 3, chance.getrandbits(33)) for offset in offsets]

    index = PackIndex(build_index(rows, bytes(20)))

    for name, offset, crc, _, size in rows:
        position = index.find(name)
        assert position is not None
        assert (index.offset(position), index.crc(position)) == (offset, crc)
        assert index.size(position) == (size if size < 0xFFFFFFFF else None)
        assert index.position_at(offset) == position
    in_order = sorted(offsets)
    assert list(index.offsets_in_order) == in_order
    assert index.end_of(in_order[5], pack_end=1 << 41) == in_order[6]
    assert index.end_of(in_order[-1], pack_end=1 << 41) == 1 << 41
    # git reads the same numbers
    (tmp_path / "a.idx").write_bytes(index.idx)
    shown = subprocess.run(
        ["git", "show-index"], input=index.idx, env=ENVIRONMENT, capture_output=True, check=True
    ).stdout.decode()
    listed = {line.split()[1]: int(line.split()[0]) for line in shown.splitlines()}
    assert listed == {row[0].hex(): row[1] for row in rows}


def test_an_empty_index_finds_nothing() -> None:
    index = PackIndex(build_index([], bytes(20)))

    assert index.count == 0
    assert index.find(bytes(20)) is None
    assert list(index.oids()) == []
    assert index.idx.endswith(sha1(index.idx[:-20], usedforsecurity=False).digest())


def test_an_object_that_stands_twice_is_told() -> None:
    row = (b"\1" * 20, 12, 0, 3, 1)

    with pytest.raises(PackDamaged, match="appears twice"):
        build_index([row, (row[0], 40, 0, 3, 1)], bytes(20))


def test_an_index_cut_short_is_told() -> None:
    index = build_index([(b"\1" * 20, 12, 0, 3, 1)], bytes(20))

    for damaged in (*(index[:size] for size in range(len(index))), index + b"x", b"\0" + index[1:]):
        with pytest.raises(IndexDamaged):
            PackIndex(damaged)


def test_all_ids_in_one_bucket_are_found() -> None:
    objects = [(Kind.BLOB, b"%d" % number) for number in range(3000)]
    some = [data for _, data in objects if oid(Kind.BLOB, data)[0] == 7]

    incoming = receive(closed([(Kind.BLOB, data) for data in some]))

    assert all(oid(Kind.BLOB, data) in incoming.objects for data in some)
    incoming.close()


def test_a_pack_of_nothing_has_no_index() -> None:
    incoming = receive(forge([]))

    assert incoming.object_count == 0
    assert len(incoming.objects) == 0
    incoming.close()


def test_what_came_can_be_read_together_with_what_is_held() -> None:
    first = receive(forge([whole(Kind.BLOB, b"one")]))
    second = receive(forge([whole(Kind.BLOB, b"two")]), first.objects)

    assert second.objects.read(oid(Kind.BLOB, b"one")) == (Kind.BLOB, b"one")
    assert second.objects.read(oid(Kind.BLOB, b"two")) == (Kind.BLOB, b"two")
    second.close()
    first.close()
