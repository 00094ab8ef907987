"""Every store of blobs keeps the same promises."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import shake_256
from pathlib import Path

import pytest

from gitserver.storage.blobs import BlobExists, BlobMissing, BlobNameInvalid, BlobStore
from gitserver.storage.local import INCOMING, LocalBlobStore
from gitserver.storage.memory import MemoryBlobStore

NAME = "0b3e-1/pack/a1"
DATA = shake_256(b"blob").digest(300_000)


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """One of each."""
    return MemoryBlobStore() if request.param == "memory" else LocalBlobStore(tmp_path / "blobs")


def put(store: BlobStore, name: str, data: bytes = DATA) -> None:
    """Make a blob exist."""
    sink = store.create(name)
    sink.write(data)
    sink.commit()


def get(store: BlobStore, name: str) -> bytes:
    """All of a blob."""
    source = store.open(name)
    data = source.read_at(0, source.size)
    source.close()
    return data


def names(store: BlobStore, prefix: str = "") -> list[str]:
    """What a listing finds, sorted."""
    return sorted(info.name for info in store.list(prefix))


def test_a_blob_is_what_was_written_in_whichever_pieces(store: BlobStore) -> None:
    sink = store.create(NAME)
    sink.write(DATA[:1])
    sink.write(bytearray(DATA[1:5]))
    sink.write(memoryview(DATA)[5:])
    sink.write(b"")
    sink.commit()

    assert get(store, NAME) == DATA


def test_a_piece_may_be_used_again_once_it_is_written(store: BlobStore) -> None:
    piece = bytearray(b"first")
    sink = store.create(NAME)
    sink.write(piece)
    piece[:] = b"other"
    sink.commit()

    assert get(store, NAME) == b"first"


def test_a_blob_may_be_empty(store: BlobStore) -> None:
    put(store, NAME, b"")

    source = store.open(NAME)
    assert (source.size, source.read_at(0, 10)) == (0, b"")
    source.close()


def test_a_blob_does_not_exist_before_it_is_committed(store: BlobStore) -> None:
    sink = store.create(NAME)
    sink.write(DATA)

    assert names(store) == []
    with pytest.raises(BlobMissing, match=NAME):
        store.open(NAME)
    sink.commit()
    assert names(store) == [NAME]


def test_an_aborted_blob_leaves_nothing_and_its_name_free(store: BlobStore) -> None:
    sink = store.create(NAME)
    sink.write(DATA)
    sink.abort()
    sink.abort()

    assert names(store) == []
    put(store, NAME, b"later")
    assert get(store, NAME) == b"later"


def test_an_abort_after_the_commit_does_nothing(store: BlobStore) -> None:
    sink = store.create(NAME)
    sink.write(DATA)
    sink.commit()
    sink.abort()

    assert get(store, NAME) == DATA


def test_a_sink_takes_nothing_once_it_is_done(store: BlobStore) -> None:
    sink = store.create(NAME)
    sink.commit()

    with pytest.raises(ValueError, match="closed"):
        sink.write(b"more")
    with pytest.raises(ValueError, match="closed"):
        sink.commit()


def test_a_name_is_taken_once(store: BlobStore) -> None:
    put(store, NAME, b"first")

    with pytest.raises(BlobExists, match=NAME):
        put(store, NAME, b"second")
    assert get(store, NAME) == b"first"


def test_of_many_writers_of_one_name_one_wins_whole(store: BlobStore) -> None:
    sinks = [store.create(NAME) for _ in range(8)]
    for number, sink in enumerate(sinks):
        sink.write(bytes([number]) * 1000)

    def commit(number: int) -> bool:
        try:
            sinks[number].commit()
        except BlobExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(commit, range(8)))

    assert won.count(True) == 1
    assert get(store, NAME) == bytes([won.index(True)]) * 1000
    assert names(store) == [NAME]


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 1), (7, 100), (299_999, 1), (299_990, 100), (300_000, 5), (400_000, 5)]
)
def test_a_range_is_exact_and_short_only_at_the_end(store: BlobStore, offset: int, length: int) -> None:
    put(store, NAME)

    source = store.open(NAME)
    assert source.read_at(offset, length) == DATA[offset : offset + length]
    source.close()
    source.close()


def test_a_listing_finds_what_starts_with_the_prefix(store: BlobStore) -> None:
    for name in ("a/pack/1", "a/pack/12", "a/index/1", "ab/pack/1", "b/pack/1", "top"):
        put(store, name, name.encode())

    assert names(store) == ["a/index/1", "a/pack/1", "a/pack/12", "ab/pack/1", "b/pack/1", "top"]
    assert names(store, "a") == ["a/index/1", "a/pack/1", "a/pack/12", "ab/pack/1"]
    assert names(store, "a/") == ["a/index/1", "a/pack/1", "a/pack/12"]
    assert names(store, "a/pack/1") == ["a/pack/1", "a/pack/12"]
    assert names(store, "absent/") == []


def test_a_listing_tells_size_and_time(store: BlobStore) -> None:
    put(store, NAME)

    (info,) = store.list()

    assert info.size == len(DATA)
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_delete_is_for_good_and_may_be_repeated(store: BlobStore) -> None:
    put(store, NAME)
    put(store, "other")

    store.delete(NAME)
    store.delete(NAME)

    assert names(store) == ["other"]
    with pytest.raises(BlobMissing):
        store.open(NAME)


def test_who_has_a_blob_open_finishes_reading_it_after_a_delete(store: BlobStore) -> None:
    put(store, NAME)
    source = store.open(NAME)

    store.delete(NAME)

    assert source.read_at(0, source.size) == DATA
    source.close()


def test_threads_read_one_source_at_once(store: BlobStore) -> None:
    put(store, NAME)
    source = store.open(NAME)

    def read(number: int) -> bool:
        offset = number * 977 % len(DATA)
        return source.read_at(offset, 5000) == DATA[offset : offset + 5000]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))
    source.close()


def test_threads_write_list_and_delete_at_once(store: BlobStore) -> None:
    stop = threading.Event()

    def list_on() -> None:
        while not stop.is_set():
            list(store.list())

    def work(number: int) -> None:
        for turn in range(10):
            put(store, f"w{number}/pack/{turn}", DATA[: turn * 100])
            if turn % 2:
                store.delete(f"w{number}/pack/{turn}")

    with ThreadPoolExecutor(5) as pool:
        listing = pool.submit(list_on)
        for finished in [pool.submit(work, number) for number in range(4)]:
            finished.result()
        stop.set()
        listing.result()

    assert names(store) == sorted(f"w{number}/pack/{turn}" for number in range(4) for turn in range(0, 10, 2))


@pytest.mark.parametrize(
    "name",
    ["", "/", "/etc/passwd", "../up", "a/../b", "a/./b", "a//b", ".hidden", "a/.b", "a\0b", "a b", "ä", "x" * 600],
)
def test_a_name_cannot_lead_out_of_the_store(store: BlobStore, name: str) -> None:
    for use in (store.create, store.open, store.delete):
        with pytest.raises(BlobNameInvalid):
            use(name)


def test_a_prefix_cannot_lead_out_of_the_store(store: BlobStore) -> None:
    for prefix in ("/", "..", "../", "a/../", ".incoming/", "a//"):
        with pytest.raises(BlobNameInvalid):
            list(store.list(prefix))


def test_nothing_unfinished_is_found_where_nothing_was_left(store: BlobStore) -> None:
    put(store, NAME)

    assert store.discard_unfinished(timedelta(0)) == 0
    assert names(store) == [NAME]


WRITER = """
import sys
from pathlib import Path
from gitserver.storage.local import LocalBlobStore
store = LocalBlobStore(Path(sys.argv[1]))
done = store.create("done/pack/1"); done.write(b"x" * 100000); done.commit()
sink = store.create("0b3e-1/pack/a1"); sink.write(b"x" * 100000)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A directory in which a writer had committed one blob and was killed before the commit of the next."""
    root = tmp_path / "blobs"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert LocalBlobStore(root).discard_unfinished(timedelta(0)) == 0  # it lives, and holds a lock
        os.kill(writer.pid, signal.SIGKILL)
    return root


def test_a_writer_that_is_killed_leaves_nothing_to_be_seen(killed: Path) -> None:
    store = LocalBlobStore(killed)

    assert names(store) == ["done/pack/1"]
    assert get(store, "done/pack/1") == b"x" * 100_000


def test_what_a_killed_writer_left_is_removed_once_it_is_old_enough(killed: Path) -> None:
    store = LocalBlobStore(killed)

    removed = [store.discard_unfinished(age) for age in (timedelta(hours=1), timedelta(0), timedelta(0))]

    assert removed == [0, 1, 0]
    assert list((killed / INCOMING).iterdir()) == []
    assert names(store) == ["done/pack/1"]
