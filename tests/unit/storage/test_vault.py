"""The vault: what goes in comes out, for its owner only, or does not come out at all."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import shake_256
from pathlib import Path

import pytest
from sqlalchemy import update

from gitserver.core.clock import FixedClock
from gitserver.core.ids import AccountId
from gitserver.storage.blobs import BlobMissing, BlobNameInvalid, DiskFull
from gitserver.storage.database import Database
from gitserver.storage.datakeys import DataKeyMissing
from gitserver.storage.keyring import FileKeyring
from gitserver.storage.keys import KeyExists, KeyMissing, UnwrapRefused
from gitserver.storage.local import INCOMING, LocalBlobStore
from gitserver.storage.memory import MemoryBlobStore, MemoryKeyring
from gitserver.storage.tables import BlobRow, DataKeyRow
from gitserver.storage.vault import Blob, BlobDamaged, Owner, Vault

ACCOUNT = AccountId("123456789012")
WEB, API = Owner(ACCOUNT, "web-1"), Owner(ACCOUNT, "api-1")
SEGMENT, FIRST = 65_536, 65_536 - 56
DATA = shake_256(b"vault").digest(3 * SEGMENT + 1000)


class House:
    """A vault over real files, and what tampers with them."""

    def __init__(self, database: Database, root: Path, clock: FixedClock) -> None:
        self.database, self.root, self.clock = database, root, clock
        self.keys = FileKeyring.create_at(root / "var.keys")
        self.store = LocalBlobStore(root / "blobs", clock)
        self.vault = self.open_vault()
        for owner in (WEB, API):
            with database.transaction() as tx:
                self.vault.create_owner(tx, owner)

    def open_vault(self) -> Vault:
        """Another process's vault: it remembers no keys."""
        return Vault(self.database, self.store, self.keys, self.clock)

    def put(self, data: bytes = DATA, owner: Owner = WEB, kind: str = "pack") -> Blob:
        """A recorded blob."""
        with self.vault.create(owner, kind) as sink:
            sink.write(data)
            blob = sink.commit()
        with self.database.transaction() as tx:
            self.vault.record(tx, blob)
        return blob

    def get(self, blob: Blob) -> bytes:
        """All of a blob."""
        with self.vault.open(blob) as reader:
            return b"".join(reader.chunks())

    def file(self, blob: Blob) -> Path:
        """Where a blob is."""
        (path,) = (self.root / "blobs").rglob(blob.id)
        return path

    def files(self) -> list[Path]:
        """Every file of the store."""
        return [path for path in (self.root / "blobs").rglob("*") if path.is_file()]


@pytest.fixture
def house(sqlite: Database, tmp_path: Path) -> House:
    """A vault with two owners."""
    return House(sqlite, tmp_path, FixedClock(datetime.now(UTC)))


@pytest.fixture
def house_on_both(database: Database, tmp_path: Path) -> House:
    """A vault with two owners, on either database."""
    return House(database, tmp_path, FixedClock(datetime.now(UTC)))


def test_what_goes_in_comes_out(house_on_both: House) -> None:
    house = house_on_both
    blob = house.put()

    with house.database.reading() as snapshot:
        found = house.open_vault().find(snapshot, blob.id)
        catalogue = list(house.vault.catalogue(snapshot, WEB))
    assert found == blob == catalogue[0]
    assert (blob.plain_bytes, blob.sealed_bytes) == (len(DATA), house.file(blob).stat().st_size)
    with house.open_vault().open(found) as reader:
        assert reader.size == len(DATA)
        assert reader.read_at(FIRST - 10, 20) == DATA[FIRST - 10 : FIRST + 10]
        assert b"".join(reader.chunks(5, SEGMENT * 2)) == DATA[5 : SEGMENT * 2]


def test_nothing_plain_reaches_the_disk(house: House) -> None:
    marker = b"a-plaintext-marker-of-some-length"
    blob = house.put(marker * 10_000)
    with house.database.transaction() as tx:
        value = house.vault.seal_value(WEB, "note", marker, tx=tx)

    assert marker not in value
    assert blob.sealed_bytes > len(marker) * 10_000
    for path in house.root.rglob("*"):
        assert path.is_dir() or marker not in path.read_bytes()


def test_a_blob_is_not_there_before_it_is_committed_and_not_after_it_was_dropped(house: House) -> None:
    sink = house.vault.create(WEB, "pack")
    sink.write(DATA)
    assert list(house.store.list()) == []
    sink.abort()
    with suppress(KeyError), house.vault.create(WEB, "pack") as second:
        second.write(DATA)
        raise KeyError

    assert house.files() == []


def test_a_full_disk_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = house.vault.create(WEB, "pack")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", _full)
        with pytest.raises(DiskFull):
            sink.write(bytes(1 << 20))
    assert house.files() == []

    sink = house.vault.create(WEB, "pack")
    sink.write(DATA)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _full)
        with pytest.raises(DiskFull):
            sink.commit()
    assert house.files() == []


def test_threads_read_and_write_at_once(house: House) -> None:
    blob = house.put()
    reader = house.vault.open(blob, cached_segments=2)

    def work(number: int) -> bool:
        offset = number * 7919 % len(DATA)
        kept = house.put(DATA[:offset]) if number % 20 == 0 else None
        return reader.read_at(offset, 5000) == DATA[offset : offset + 5000] and (
            kept is None or house.get(kept) == DATA[:offset]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(300)))
    reader.close()


Tamper = Callable[[House, Blob], None]


def _flip(place: int) -> Tamper:
    def tamper(house: House, blob: Blob) -> None:
        data = bytearray(house.file(blob).read_bytes())
        data[place] ^= 0x10
        house.file(blob).write_bytes(data)

    return tamper


def _resize(length: int) -> Tamper:
    def tamper(house: House, blob: Blob) -> None:
        os.truncate(house.file(blob), length)

    return tamper


def _put_other(kind: str = "pack", owner: Owner = WEB, data: bytes = DATA[::-1]) -> Tamper:
    def tamper(house: House, blob: Blob) -> None:
        shutil.copyfile(house.file(house.put(data, owner, kind)), house.file(blob))

    return tamper


def _swap_segments(house: House, blob: Blob) -> None:
    data = house.file(blob).read_bytes()
    first, second = 20 + SEGMENT, 20 + 2 * SEGMENT
    house.file(blob).write_bytes(
        data[:first] + data[second : second + SEGMENT] + data[first:second] + data[second + SEGMENT :]
    )


def _catalogue(**changed: object) -> Tamper:
    def tamper(house: House, blob: Blob) -> None:
        with house.database.transaction() as tx:
            tx.execute(update(BlobRow).where(BlobRow.id == blob.id).values(**changed))

    return tamper


def _catalogue_as_other_kind(house: House, blob: Blob) -> None:
    _catalogue(kind="index")(house, blob)
    path = house.file(blob)
    target = Path(str(path).replace("/pack/", "/index/"))
    target.parent.mkdir(parents=True)
    path.rename(target)


def _move_to_other_owner(house: House, blob: Blob) -> None:
    _catalogue(owner=API.id)(house, blob)
    path = house.file(blob)
    target = Path(str(path).replace(f"/{WEB.id}/", f"/{API.id}/"))
    target.parent.mkdir(parents=True)
    path.rename(target)


def _move_to_other_owner_with_its_key(house: House, blob: Blob) -> None:
    _move_to_other_owner(house, blob)
    with house.database.reading() as snapshot:
        key = snapshot.query(DataKeyRow).where(DataKeyRow.owner == API.id).one().id
    _catalogue(data_key=key)(house, blob)
    data = bytearray(house.file(blob).read_bytes())
    data[4:20] = bytes.fromhex(key)
    house.file(blob).write_bytes(data)


def _cut_with_the_catalogue(house: House, blob: Blob) -> None:
    _resize(20 + SEGMENT)(house, blob)
    _catalogue(sealed_bytes=20 + SEGMENT, plain_bytes=FIRST)(house, blob)


def _replay_an_older_blob(house: House, blob: Blob) -> None:
    older = house.put(DATA[:1000])
    shutil.copyfile(house.file(older), house.file(blob))
    _catalogue(sealed_bytes=older.sealed_bytes, plain_bytes=older.plain_bytes)(house, blob)


SIZE = len(DATA) + 60 + 4 * 16
DAMAGE: dict[str, Tamper] = {
    "a bit of the magic": _flip(0),
    "a bit of the data key's id": _flip(10),
    "the header's length": _flip(20),
    "a bit of the salt": _flip(30),
    "a bit of the nonce prefix": _flip(55),
    "the first byte of the first segment": _flip(60),
    "the last byte of the first segment": _flip(19 + SEGMENT),
    "the first byte of the second segment": _flip(20 + SEGMENT),
    "a byte in the middle": _flip(2 * SEGMENT),
    "a bit of the last segment": _flip(-20),
    "a bit of the last tag": _flip(-1),
    "emptied": _resize(0),
    "cut in the header": _resize(40),
    "cut at the header's end": _resize(60),
    "cut at the first segment's border": _resize(20 + SEGMENT),
    "cut at the last segment's border": _resize(20 + 3 * SEGMENT),
    "cut by one byte": _resize(SIZE - 1),
    "longer by one zero": _resize(SIZE + 1),
    "longer by a segment of zeros": _resize(SIZE + SEGMENT),
    "cut at a border, and the catalogue too": _cut_with_the_catalogue,
    "two segments swapped": _swap_segments,
    "replaced by another blob of the same owner and length": _put_other(),
    "replaced by another blob of another length": _put_other(data=b"short"),
    "replaced by a blob of another kind": _put_other(kind="index"),
    "replaced by a blob of another owner": _put_other(owner=API),
    "replaced by an older blob, and the catalogue too": _replay_an_older_blob,
    "renamed to another kind, and the catalogue too": _catalogue_as_other_kind,
    "moved to another owner, and the catalogue too": _move_to_other_owner,
    "moved to another owner with that owner's key": _move_to_other_owner_with_its_key,
    "catalogued with another plain length": _catalogue(plain_bytes=len(DATA) - 1),
    "catalogued with another sealed length": _catalogue(sealed_bytes=SIZE + 1),
    "catalogued with another data key": _catalogue(data_key="0" * 32),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_blob_is_named_and_all_others_are_served(house: House, damage: str) -> None:
    blob, neighbour, foreign = house.put(), house.put(DATA[:100]), house.put(DATA[:200], API)
    assert blob.sealed_bytes == SIZE

    DAMAGE[damage](house, blob)

    given_out = b""
    with house.database.reading() as snapshot:
        found = house.vault.find(snapshot, blob.id)
    with pytest.raises(BlobDamaged, match=f"^blob .*{blob.id} is damaged"):  # noqa: PT012  what is read before counts
        for piece in house.vault.open(found).chunks():
            given_out += piece
    assert DATA.startswith(given_out)
    assert house.get(neighbour) == DATA[:100]
    assert house.get(foreign) == DATA[:200]


def test_a_missing_blob_is_named(house: House) -> None:
    blob = house.put()
    house.vault.delete(blob)

    with pytest.raises(BlobMissing, match=blob.id):
        house.vault.open(blob)
    with house.database.transaction() as tx:
        house.vault.forget(tx, blob.id)
        house.vault.forget(tx, blob.id)
        with pytest.raises(BlobMissing, match=blob.id):
            house.vault.find(tx, blob.id)


def test_a_shredded_owner_is_unreadable_from_an_older_copy_of_everything_but_the_keys(
    house: House, tmp_path: Path
) -> None:
    blob, foreign = house.put(), house.put(DATA, API)
    house.database.backup_to(tmp_path / "older.db")
    shutil.copytree(tmp_path / "blobs", tmp_path / "older-blobs")

    with house.database.transaction() as tx:
        house.vault.destroy_owner(tx, WEB)

    restored = Database(f"sqlite:///{tmp_path}/older.db")
    older = Vault(restored, LocalBlobStore(tmp_path / "older-blobs"), house.keys, house.clock)
    with restored.reading() as snapshot:
        assert older.find(snapshot, blob.id) == blob
    with pytest.raises(KeyMissing, match="web-1"):
        older.open(blob)
    assert older.open(foreign).read_at(0, 10) == DATA[:10]
    assert len(older.problems()) == 1
    restored.close()


def test_a_shredded_owner_is_gone_here_too_and_no_other(house_on_both: House) -> None:
    house = house_on_both
    blob, foreign = house.put(), house.put(DATA, API)
    with house.database.reading() as snapshot:
        wrapped = snapshot.query(DataKeyRow).where(DataKeyRow.owner == WEB.id).one().wrapped

    with house.database.transaction() as tx:
        house.vault.destroy_owner(tx, WEB)

    with pytest.raises(BlobDamaged):
        house.vault.open(blob)
    with pytest.raises(DataKeyMissing, match="web-1"):
        house.vault.create(WEB, "pack")
    assert house.get(foreign) == DATA
    assert not any(wrapped in path.read_bytes() for path in house.root.glob("gitserver.db*"))
    house.clock.advance(timedelta(hours=1))
    assert house.vault.sweep(timedelta(minutes=30)) == [blob.name]
    assert house.vault.problems() == []


def test_a_shredding_that_is_undone_with_its_transaction_shreds_nothing(house: House) -> None:
    blob = house.put()

    with suppress(KeyError), house.database.transaction() as tx:
        house.vault.destroy_owner(tx, WEB)
        raise KeyError

    assert house.get(blob) == DATA


def test_a_shredding_that_was_interrupted_is_finished_by_the_next_sweep(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.put()
    with monkeypatch.context() as patched:
        patched.setattr(FileKeyring, "destroy", _full)
        with pytest.raises(OSError, match="No space"), house.database.transaction() as tx:
            house.vault.destroy_owner(tx, WEB)
    assert house.keys.exists(WEB.key_id)

    house.vault.sweep(timedelta(hours=1))

    assert not house.keys.exists(WEB.key_id)
    with house.database.reading() as snapshot:
        assert snapshot.query(DataKeyRow).where(DataKeyRow.owner == WEB.id).count() == 0


def test_an_owner_whose_transaction_is_undone_leaves_no_key(house_on_both: House) -> None:
    house, owner = house_on_both, Owner(ACCOUNT, "new-1")
    with suppress(KeyError), house.database.transaction() as tx:
        house.vault.create_owner(tx, owner)
        sealed = house.vault.seal_value(owner, "totp:AIDA1", b"seed", tx=tx)
        assert house.vault.open_value(owner, "totp:AIDA1", sealed, tx=tx) == b"seed"
        raise KeyError

    assert not house.keys.exists(owner.key_id)
    with pytest.raises(DataKeyMissing):
        house.vault.create(owner, "pack")
    with house.database.transaction() as tx:
        house.vault.create_owner(tx, owner)
    house.put(owner=owner)


def test_an_owner_is_made_once(house: House) -> None:
    blob = house.put()

    with pytest.raises(KeyExists), house.database.transaction() as tx:
        house.vault.create_owner(tx, WEB)
    with pytest.raises(BlobNameInvalid), house.database.transaction() as tx:
        house.vault.create_owner(tx, Owner(ACCOUNT, "../up"))

    assert house.get(blob) == DATA
    assert house.open_vault().open(blob).size == len(DATA)


def test_the_same_id_in_two_accounts_is_two_owners(house: House) -> None:
    other = Owner(AccountId("210987654321"), WEB.id)
    with house.database.transaction() as tx:
        house.vault.create_owner(tx, other)

    mine, theirs = house.put(b"mine", WEB), house.put(b"theirs", other)

    assert mine.data_key != theirs.data_key
    with house.database.transaction() as tx:
        house.vault.destroy_owner(tx, other)
    assert house.get(mine) == b"mine"


def test_rotations_leave_blobs_as_they_are_and_readable(house_on_both: House) -> None:
    house = house_on_both
    before = house.put()
    bytes_before = house.file(before).read_bytes()

    with house.database.transaction() as tx:
        house.vault.rotate(tx, WEB)
    with house.database.transaction() as tx:
        house.vault.rewrap(tx, WEB)
    house.keys.rotate_master()
    after = house.put(DATA[:10])

    assert after.data_key != before.data_key
    assert house.file(before).read_bytes() == bytes_before
    elsewhere = House.open_vault(house)
    assert [elsewhere.open(blob).read_at(0, 10) for blob in (before, after)] == [DATA[:10]] * 2
    assert elsewhere.problems() == []


def test_an_unwrapped_key_is_forgotten_after_a_minute(house: House) -> None:
    blob = house.put()
    shutil.rmtree(house.root / "var.keys" / "owners")
    (house.root / "var.keys" / "owners").mkdir(mode=0o700)

    house.clock.advance(timedelta(seconds=59))
    assert house.get(blob) == DATA
    house.clock.advance(timedelta(seconds=1))
    with pytest.raises(KeyMissing):
        house.vault.open(blob)
    with pytest.raises(KeyMissing):
        house.vault.create(WEB, "pack")


def test_a_clock_that_is_set_back_does_not_keep_a_key_longer(house: House) -> None:
    blob = house.put()
    house.keys.destroy(WEB.key_id)

    house.clock.advance(timedelta(days=-1))
    with pytest.raises(KeyMissing):
        house.vault.open(blob)


def test_a_wrapped_key_that_is_damaged_or_anothers_is_refused(house: House) -> None:
    blob = house.put()
    with house.database.transaction() as tx:
        foreign = tx.query(DataKeyRow).where(DataKeyRow.owner == API.id).one().wrapped
        tx.execute(update(DataKeyRow).where(DataKeyRow.owner == WEB.id).values(wrapped=foreign))

    with pytest.raises(UnwrapRefused, match="web-1"):
        house.open_vault().open(blob)


def test_no_key_is_in_a_repr(house: House) -> None:
    blob = house.put()
    key = house.vault._keys.active(WEB)

    assert key.key.hex() not in repr(key)
    assert repr(key.key) not in repr((key, blob, house.vault, house.keys))


def test_a_secret_opens_for_its_owner_and_purpose_only(house_on_both: House) -> None:
    house = house_on_both
    sealed = house.vault.seal_value(WEB, "totp:AIDA1", b"seed")

    assert house.open_vault().open_value(WEB, "totp:AIDA1", sealed) == b"seed"
    assert sealed != house.vault.seal_value(WEB, "totp:AIDA1", b"seed")
    with pytest.raises(BlobDamaged, match="web-1 totp:AIDA2"):
        house.vault.open_value(WEB, "totp:AIDA2", sealed)
    with pytest.raises(BlobDamaged, match="api-1"):
        house.vault.open_value(API, "totp:AIDA1", sealed)
    for damaged in (b"", sealed[:-1], sealed[:30], sealed[:50] + b"\0" + sealed[51:], sealed + b"\0"):
        with pytest.raises(BlobDamaged):
            house.vault.open_value(WEB, "totp:AIDA1", damaged)


def test_a_sweep_deletes_what_no_row_names_once_it_is_old(house_on_both: House) -> None:
    house = house_on_both
    kept, forgotten = house.put(), house.put()
    with house.vault.create(WEB, "pack") as sink:
        unrecorded = sink.commit()
    with house.database.transaction() as tx:
        house.vault.forget(tx, forgotten.id)

    assert house.vault.sweep(timedelta(hours=1)) == []
    house.clock.advance(timedelta(hours=2))
    assert sorted(house.vault.sweep(timedelta(hours=1))) == sorted([forgotten.name, unrecorded.name])
    assert [info.name for info in house.store.list()] == [kept.name]
    assert house.get(kept) == DATA


def test_a_sweep_of_more_than_a_batch_keeps_all_that_is_named(sqlite: Database, clock: FixedClock) -> None:
    store = MemoryBlobStore(clock)
    vault = Vault(sqlite, store, MemoryKeyring(), clock)
    with sqlite.transaction() as tx:
        vault.create_owner(tx, WEB)
    blobs = [_committed(vault) for _ in range(1100)]
    with sqlite.transaction() as tx:
        for blob in blobs[::2]:
            vault.record(tx, blob)

    clock.advance(timedelta(hours=1))
    swept = vault.sweep(timedelta(minutes=1))

    assert sorted(swept) == sorted(blob.name for blob in blobs[1::2])
    assert sorted(info.name for info in store.list()) == sorted(blob.name for blob in blobs[::2])


def test_a_sweep_spares_what_is_recorded_while_it_lists(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with house.vault.create(WEB, "pack") as sink:
        sink.write(DATA)
        blob = sink.commit()
    house.clock.advance(timedelta(hours=2))
    listed = list(house.store.list())

    def list_then_record(prefix: str = ""):  # type: ignore[no-untyped-def]
        yield from listed
        with house.database.transaction() as tx:
            house.vault.record(tx, blob)

    monkeypatch.setattr(house.store, "list", list_then_record)
    assert house.vault.sweep(timedelta(hours=1)) == []
    assert house.get(blob) == DATA


def test_a_sweep_removes_what_dead_writers_left(house: House) -> None:
    (house.root / "blobs" / INCOMING).mkdir(parents=True)
    (house.root / "blobs" / INCOMING / "left").write_bytes(b"x")
    house.clock.advance(timedelta(hours=2))

    house.vault.sweep(timedelta(hours=1))

    assert house.files() == []


def _committed(vault: Vault) -> Blob:
    with vault.create(WEB, "pack") as sink:
        return sink.commit()


def _full(*_: object, **__: object) -> int:
    raise OSError(28, "No space left on device")
