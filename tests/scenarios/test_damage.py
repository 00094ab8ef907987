"""Blobs that somebody changed: each is noticed when it is read, named, and harms no other repository."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitserver.core.errors import Failure
from gitserver.storage.vault import Blob
from tests.house import House
from tests.scenarios.conftest import NewHouse
from tests.scenarios.torture import Pusher, assert_clones, change, tell, times

pytestmark = [pytest.mark.torture]

MAIN = "refs/heads/main"
HEADER_BYTES, STREAM_HEADER_BYTES, SEGMENT_BYTES, TAG_BYTES = 20, 40, 65536, 16  # docs/sealed-format.md
FILE_BYTES = 200_000  # three segments and a short one


@dataclass(frozen=True)
class Victim:
    """A repository of two pushes, and the files that hold them; the older one first."""

    repository: str
    blobs: Sequence[Blob]
    files: Sequence[Path]


Damage = Callable[[Victim, Victim], None]  # what is done to a victim, with the help of another repository


def flip(position: int) -> Damage:
    """Change one bit of one byte; a negative position counts from the end."""

    def damage(victim: Victim, _: Victim) -> None:
        flip_bit(victim.files[0], position)

    return damage


def flip_bit(path: Path, position: int, bit: int = 1) -> None:
    """Change one bit in place."""
    with path.open("r+b") as file:
        file.seek(position, 0 if position >= 0 else 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ bit]))


def cut(to_bytes: int) -> Damage:
    """Truncate to so many bytes, or by as many if negative."""

    def damage(victim: Victim, _: Victim) -> None:
        path = victim.files[0]
        with path.open("r+b") as file:
            file.truncate(to_bytes if to_bytes >= 0 else path.stat().st_size + to_bytes)

    return damage


def extend(victim: Victim, _: Victim) -> None:
    """Add a byte."""
    with victim.files[0].open("ab") as file:
        file.write(b"\0")


def repeat_segment(victim: Victim, _: Victim) -> None:
    """Put the second segment in the place of the third."""
    path = victim.files[0]
    data = bytearray(path.read_bytes())
    second = HEADER_BYTES + SEGMENT_BYTES
    data[second + SEGMENT_BYTES : second + 2 * SEGMENT_BYTES] = data[second : second + SEGMENT_BYTES]
    path.write_bytes(data)


def swap(victim: Victim, _: Victim) -> None:
    """Exchange the two blobs of one repository."""
    one, other = victim.files
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def replace_by_own(victim: Victim, _: Victim) -> None:
    """Put a valid blob of the same repository and the same length there."""
    assert victim.files[0].stat().st_size == victim.files[1].stat().st_size
    shutil.copyfile(victim.files[1], victim.files[0])


def replace_by_foreign(victim: Victim, other: Victim) -> None:
    """Put a valid blob of another repository there."""
    assert victim.files[0].stat().st_size == other.files[0].stat().st_size
    shutil.copyfile(other.files[0], victim.files[0])


def rename(victim: Victim, _: Victim) -> None:
    """Give it another name, so that its own is missing."""
    victim.files[0].rename(victim.files[0].with_name("0" * 32))


def remove(victim: Victim, _: Victim) -> None:
    """Delete it."""
    victim.files[0].unlink()


DAMAGES: dict[str, Damage] = {
    "magic": flip(0),
    "key id": flip(HEADER_BYTES - 1),
    "length of the stream's header": flip(HEADER_BYTES),
    "salt": flip(HEADER_BYTES + 1),
    "nonce": flip(HEADER_BYTES + STREAM_HEADER_BYTES - 1),
    "first segment": flip(HEADER_BYTES + STREAM_HEADER_BYTES),
    "tag of the first segment": flip(HEADER_BYTES + SEGMENT_BYTES - 1),
    "middle segment": flip(HEADER_BYTES + SEGMENT_BYTES + 1000),
    "tag of a middle segment": flip(HEADER_BYTES + 2 * SEGMENT_BYTES - TAG_BYTES),
    "last segment": flip(-TAG_BYTES - 1),
    "last tag": flip(-1),
    "one byte short": cut(-1),
    "cut inside the last tag": cut(-TAG_BYTES),
    "cut at a segment's border": cut(HEADER_BYTES + 2 * SEGMENT_BYTES),
    "cut behind the header": cut(HEADER_BYTES + STREAM_HEADER_BYTES),
    "empty": cut(0),
    "longer": extend,
    "a segment twice": repeat_segment,
    "swapped": swap,
    "another blob of the repository": replace_by_own,
    "a blob of another repository": replace_by_foreign,
    "renamed": rename,
    "removed": remove,
}


def test_every_damage_is_noticed_and_named_and_other_repositories_serve_on(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    victims = {name: victim(house) for name in DAMAGES}
    sound, helper = victim(house), victim(house)
    house.stop()
    for name, damage in DAMAGES.items():
        damage(victims[name], helper)
    house.start()

    for name, hurt in victims.items():
        clone = tmp_path / "clone"
        failed = house.git("clone", house.https_url(hurt.repository), str(clone), check=False)
        assert failed.returncode != 0, f"{name}: not noticed"
        assert hurt.blobs[0].id in failed.stderr or hurt.blobs[1].id in failed.stderr, f"{name}: {failed.stderr}"
        assert not clone.exists()
    for one in (sound, helper):
        assert_clones(house, tmp_path, one.repository)

    told = house.cli("verify", "--json", check=False)
    found = json.loads(told.stdout)
    named = {name: hurt.blobs[0].id in told.stdout for name, hurt in victims.items()}
    assert told.returncode == 1
    assert all(named.values()), named
    assert victims["swapped"].blobs[1].id in told.stdout
    assert {problem["where"] for problem in found["problems"]} == {hurt.repository for hurt in victims.values()}
    tell(f"{len(DAMAGES)} kinds of damage: all noticed when cloned, all named by `gitserver verify`")


def test_any_flipped_bit_is_noticed(new_house: NewHouse) -> None:
    house = new_house()
    hurt = victim(house)
    path, wanted, tries = hurt.files[0], hurt.blobs[0], times(300, 5000)
    size = path.stat().st_size
    whole = read_all(house, wanted)

    for _ in range(tries):
        position, bit = random.randrange(size), 1 << random.randrange(8)
        flip_bit(path, position, bit)
        with pytest.raises(Failure, match=wanted.id):
            read_all(house, wanted)
        flip_bit(path, position, bit)

    assert read_all(house, wanted) == whole
    tell(f"{tries} flips of a random bit of {size} bytes: each noticed")


def test_a_blob_damaged_under_a_running_server_never_gives_wrong_bytes(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    sound = victim(house)
    noticed, tries = 0, times(6, 100)

    for number in range(tries):
        hurt, clone = victim(house), tmp_path / f"clone-{number}"
        flip_bit(hurt.files[number % 2], random.randrange(hurt.files[0].stat().st_size))
        ended = house.git("clone", "-q", "--mirror", house.https_url(hurt.repository), str(clone), check=False)
        if ended.returncode == 0:  # the server still had the true bytes in memory
            house.git("fsck", "--full", "--strict", cwd=clone)
        noticed += ended.returncode != 0

    assert_clones(house, tmp_path, sound.repository)
    assert noticed, "nothing was noticed"
    tell(f"{tries} bits flipped under a running server: {noticed} noticed, {tries - noticed} served from memory")


def test_a_push_that_must_read_a_damaged_blob_fails_with_a_sentence(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    hurt, work = victim(house), tmp_path / "work"
    house.git("clone", "-q", house.https_url(hurt.repository), str(work))
    house.stop()
    for file in hurt.files:
        flip_bit(file, -1)
    house.start()
    house.commit(work)

    failed = house.git("push", "origin", "main", cwd=work, check=False)

    assert failed.returncode != 0
    assert any(one.id in failed.stderr for one in hurt.blobs), failed.stderr


def victim(house: House) -> Victim:
    """A repository of two pushes of equal length."""
    repository = house.repository()
    first = change(size_bytes=FILE_BYTES)
    second = change(first.oid, size_bytes=FILE_BYTES)
    third = change(first.oid, size_bytes=FILE_BYTES)
    with closing(Pusher(house, repository)) as client:
        assert client.create(MAIN, first).ok
        assert client.push([(first.oid, second.oid, MAIN)], second.pack).ok
        assert client.create("refs/heads/other", third).ok
    view = house.services.repositories.describe(house.caller, repository)
    opened = house.services.git.open(view.id)
    opened.close()
    order = [pack.id for pack in reversed(opened.objects.packs)][1:]
    with house.services.database.reading() as tx:
        blobs = [house.services.vault.find(tx, one) for one in order]
    files = [next(house.config.blobs.rglob(one.id)) for one in blobs]
    return Victim(repository, blobs, files)


def read_all(house: House, wanted: Blob) -> bytes:
    """Open a blob anew and read it from end to end."""
    with closing(house.services.vault.open(wanted)) as reader:
        return b"".join(reader.chunks())
