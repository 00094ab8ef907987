"""Packs that stay open for whoever reads them next."""

from contextlib import closing
from hashlib import sha1
from pathlib import Path

from gitserver.core.clock import SystemClock
from gitserver.core.ids import AccountId
from gitserver.git.pack_format import pack_header
from gitserver.git.pack_index import build_index
from gitserver.git.shelf import PackRecord, PackShelf
from gitserver.storage.database import Database
from gitserver.storage.local import LocalBlobStore
from gitserver.storage.memory import MemoryKeyring
from gitserver.storage.vault import Owner, Vault


def test_a_pack_is_kept_open_for_a_minute_and_closed_when_another_is_wanted(sqlite: Database, tmp_path: Path) -> None:
    moment = 1000.0
    vault = Vault(sqlite, LocalBlobStore(tmp_path / "blobs"), MemoryKeyring(), SystemClock())
    records = [make_pack(sqlite, vault, name) for name in ("one", "two")]
    with closing(PackShelf(vault, lambda: moment)) as shelf:
        shelf.give_back(shelf.take(records[:1]))
        moment += 59
        shelf.give_back(shelf.take(records[1:]))
        assert open_blobs(tmp_path) == {records[0].blob.id, records[1].blob.id}

        moment += 2
        shelf.give_back(shelf.take(records[1:]))

        assert open_blobs(tmp_path) == {records[1].blob.id}
    assert open_blobs(tmp_path) == set()


def test_a_pack_that_is_read_stays_open_however_long_it_takes(sqlite: Database, tmp_path: Path) -> None:
    moment = 1000.0
    vault = Vault(sqlite, LocalBlobStore(tmp_path / "blobs"), MemoryKeyring(), SystemClock())
    records = [make_pack(sqlite, vault, name) for name in ("one", "two")]
    with closing(PackShelf(vault, lambda: moment)) as shelf:
        reading = shelf.take(records[:1])
        moment += 3600

        shelf.give_back(shelf.take(records[1:]))

        assert reading[0].read_at(0, 4) == b"PACK"
        shelf.give_back(reading)


def make_pack(database: Database, vault: Vault, name: str) -> PackRecord:
    """A sealed pack without objects, of an owner of that name."""
    owner = Owner(AccountId("123456789012"), name)
    with database.transaction() as tx:
        vault.create_owner(tx, owner)
    header = pack_header(0)
    checksum = sha1(header).digest()
    with vault.create(owner, "pack") as sink:
        sink.write(header + checksum + build_index([], checksum))
        blob = sink.commit()
    return PackRecord(blob.id, len(header + checksum), blob)


def open_blobs(below: Path) -> set[str]:
    """The names of files below a directory that this process has open."""
    targets = [entry.resolve() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return {target.name for target in targets if target.is_relative_to(below / "blobs")}
