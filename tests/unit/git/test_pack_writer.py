"""Packs made of other packs' entries: what is copied, what is rewritten, and that git takes every one."""

import random
import subprocess
from pathlib import Path

import pytest

from gitserver.git.objects import ObjectId, ObjectMissing
from gitserver.git.pack_format import OFS_DELTA, REF_DELTA
from gitserver.git.pack_writer import write_pack
from gitserver.git.reachability import missing
from gitserver.git.store import ObjectStore
from tests.unit.git.upload_house import ENVIRONMENT, Origin, commit_lines, git


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin")
    origin.commits(60)
    git(origin.path, "repack", "-adfq", "--depth=20", "--window=20")
    return origin


def indexed(where: Path, pack: bytes, *options: str) -> set[str]:
    """The ids in a pack, after C git has checked it."""
    (where / "check.pack").write_bytes(pack)
    environment = ENVIRONMENT
    subprocess.run(
        ["git", "index-pack", *options, "check.pack"], cwd=where, env=environment, check=True, capture_output=True
    )
    idx = (where / "check.idx").read_bytes()
    (where / "check.idx").unlink()
    listing = subprocess.run(["git", "show-index"], input=idx, env=environment, check=True, capture_output=True)
    return {line.split()[1] for line in listing.stdout.decode().splitlines()}


def everything(store: ObjectStore) -> set[ObjectId]:
    return set(store.oids())


def hexes(oids: set[ObjectId]) -> set[str]:
    return {oid.hex() for oid in oids}


def test_a_whole_pack_is_copied_byte_for_byte(origin: Origin) -> None:
    store = origin.open().objects

    written = b"".join(write_pack(store, everything(store)))

    assert written == next((origin.path / "objects/pack").glob("*.pack")).read_bytes()


@pytest.mark.parametrize("ofs_delta", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_any_choice_of_objects_makes_a_pack_that_git_takes(
    origin: Origin, tmp_path: Path, seed: int, ofs_delta: bool
) -> None:
    store = origin.open().objects
    chance = random.Random(seed)
    chosen = {oid for oid in everything(store) if chance.random() < (0.05, 0.3, 0.5, 0.8, 0.95, 0.99)[seed]}

    written = b"".join(write_pack(store, chosen, ofs_delta=ofs_delta))

    assert indexed(tmp_path, written) == hexes(chosen)
    if not ofs_delta:
        assert OFS_DELTA not in types_in(origin, tmp_path, written)


def types_in(origin: Origin, where: Path, written: bytes) -> set[int]:
    """The type numbers of a pack's entries."""
    from tests.unit.git.upload_house import load_pack

    (where / "types.pack").write_bytes(written)
    subprocess.run(
        ["git", "-C", str(origin.path), "index-pack", str(where / "types.pack")],
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    pack = load_pack(origin.path, where / "types.idx")
    return {pack.entry(offset).type_number for offset in pack.offsets_in_order()}


@pytest.mark.parametrize("seed", range(4))
def test_objects_from_several_overlapping_packs_make_one(origin: Origin, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = git(origin.path, "cat-file", "--batch-check=%(objectname)", "--batch-all-objects").split()
    for _ in range(3):
        some = "\n".join(chance.sample(names, k=len(names) // 2)) + "\n"
        base = str(origin.path / "objects/pack/pack")
        git(origin.path, "pack-objects", "-q", "--window=20", "--no-reuse-delta", base, text=some)
    store = origin.open().objects
    store.packs = list(store.packs)
    chance.shuffle(store.packs)
    chosen = {oid for oid in everything(store) if chance.random() < 0.7}

    written = b"".join(write_pack(store, chosen))

    assert len(store.packs) == 4
    assert indexed(tmp_path, written) == hexes(chosen)


def test_a_thin_pack_leans_only_on_what_the_client_has(origin: Origin, tmp_path: Path) -> None:
    store = origin.open().objects
    want, have = (ObjectId(bytes.fromhex(origin.git("rev-parse", name))) for name in ("main~20", "main"))
    client = tmp_path / "client"
    git(tmp_path, "clone", "-q", "--bare", f"file://{origin.path}", str(client))
    lacking = missing(store, [have], [want])
    reversed_lacking = missing(store, [want], [])

    thin = b"".join(write_pack(store, lacking.objects, thin_bases=lacking.theirs))
    thick = b"".join(write_pack(store, lacking.objects))

    assert lacking.objects.isdisjoint(reversed_lacking.objects)
    assert len(thin) <= len(thick)
    said = subprocess.run(
        ["git", "-C", str(client), "index-pack", "--stdin", "--fix-thin"],
        input=thin,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr


def test_a_missing_object_is_noticed_before_the_first_byte(origin: Origin) -> None:
    store = origin.open().objects

    with pytest.raises(ObjectMissing):
        write_pack(store, {ObjectId(bytes(20))})


def test_pieces_are_neither_tiny_nor_huge(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "origin")
    noise = random.Random(1).randbytes(1_500_000).hex()
    origin.stream(*commit_lines("main", 1_700_000_000, {"big": noise, "small": "s"}))
    origin.commits(30, branch="other")
    store = origin.open().objects
    chosen = everything(store) - {store.oids().__next__()}

    pieces = list(write_pack(store, chosen))

    assert max(map(len, pieces)) <= 2 * 256 * 1024
    assert len(pieces) <= sum(map(len, pieces)) // 200_000 + 4
    assert indexed(tmp_path, b"".join(pieces)) == hexes(chosen)


def test_deltas_stay_deltas_where_gaps_are_left_out(origin: Origin, tmp_path: Path) -> None:
    store = origin.open().objects
    pack = store.packs[0]
    bases = {pack.entry(offset).base_offset for offset in pack.offsets_in_order()}
    leaf = next(offset for offset in pack.offsets_in_order() if offset not in bases)
    chosen = everything(store) - {pack.oid_at(leaf)}

    written = b"".join(write_pack(store, chosen))

    assert pack.size - len(written) >= pack.entry(leaf).end - leaf - 200
    assert REF_DELTA not in types_in(origin, tmp_path, written)
