"""The disk is full: a push says so and changes nothing, reads go on, and nothing is left over."""

import errno
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.house import House, Key
from tests.scenarios.torture import ZERO, Pusher, assert_clones, change, problems, refs, sealed_files, unrecorded

pytestmark = [pytest.mark.torture]

DISK_BYTES = 200 << 20
SENTENCE = "the server's disk is full"
MAIN = "refs/heads/main"
OTHER = "refs/heads/other"


class SmallDisk:
    """A file system of its own, and what fills it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "spool" / "ballast"

    @property
    def free_bytes(self) -> int:
        """How much still fits."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, but_bytes: int) -> None:
        """Leave room for *but_bytes*, a multiple of 4096, and no more."""
        with self._ballast.open("ab") as ballast:
            while (more := self.free_bytes - but_bytes) > 0:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), more)
                except OSError as refusal:  # the server wrote something meanwhile
                    if refusal.errno != errno.ENOSPC:
                        raise

    def empty(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    """A small disk, mounted where a house will have its data."""
    where = tmp_path_factory.mktemp("disk") / "house" / "data"
    where.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "gitserver-test", where],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here (that takes root): {mounted.stderr.strip()}")
    yield SmallDisk(where)
    subprocess.run(["umount", "--lazy", where], check=True)


@pytest.fixture(scope="module")
def server(small_disk: SmallDisk) -> Iterator[tuple[House, Key]]:
    """A server on the small disk, shared by this file's tests, and a key for it."""
    made = House(small_disk.path.parent)
    made.git_credential()
    yield made, made.ssh_key()
    made.close()


@pytest.fixture
def disk(small_disk: SmallDisk) -> Iterator[SmallDisk]:
    """The small disk, with room on it."""
    yield small_disk
    small_disk.empty()


@pytest.fixture
def house(server: tuple[House, Key], disk: SmallDisk) -> House:
    """The server on the small disk."""
    return server[0]


@pytest.fixture
def key(server: tuple[House, Key]) -> Key:
    """An SSH key for it."""
    return server[1]


@pytest.mark.parametrize("door", ["https", "ssh"])
@pytest.mark.parametrize(
    ("pushed_bytes", "left_bytes"),
    [
        pytest.param(4 << 20, 1 << 20, id="while the pack is sealed"),
        pytest.param(24 << 20, 4 << 20, id="while a large pack waits"),
        pytest.param(15 << 20, 20 << 20, id="while a large pack that waited is sealed"),
        pytest.param(1_000, 16_384, id="in the database"),
        pytest.param(1_000, 0, id="from the beginning"),
    ],
)
def test_a_push_on_a_full_disk_says_so_and_changes_nothing(
    house: House, key: Key, disk: SmallDisk, tmp_path: Path, door: str, pushed_bytes: int, left_bytes: int
) -> None:
    repository, work = house.repository(), tmp_path / "work"
    url = house.https_url(repository) if door == "https" else house.ssh_url(repository)
    first = house.commit(work, {"file": "small"})
    house.git("push", url, "main", cwd=work, key=key)
    house.git("ls-remote", url, cwd=work, key=key)
    second = house.commit(work, {"large": secrets.token_bytes(pushed_bytes)})
    files, free_bytes = sealed_files(house), disk.free_bytes
    disk.fill(left_bytes)

    refused = house.git("push", url, "main", cwd=work, key=key, check=False)

    assert refused.returncode != 0
    assert SENTENCE in refused.stderr, refused.stderr
    assert refs(house, repository) == {MAIN: first}
    assert sealed_files(house) == files
    for read in (house.https_url(repository), house.ssh_url(repository)):
        house.git("clone", "-q", read, str(tmp_path / f"clone-{secrets.token_hex(4)}"), key=key)
    disk.empty()
    assert disk.free_bytes > free_bytes - (1 << 20), "something was left over"
    assert sealed_files(house) == files
    house.git("push", url, "main", cwd=work, key=key)
    assert refs(house, repository) == {MAIN: second}
    assert unrecorded(house) == set()
    assert problems(house) == []
    assert_clones(house, tmp_path, repository)


def test_a_ref_is_not_deleted_on_a_full_disk_but_afterwards(house: House, disk: SmallDisk) -> None:
    repository, made = house.repository(), change()
    with closing(Pusher(house, repository)) as client:
        assert client.push([(ZERO, made.oid, MAIN), (ZERO, made.oid, OTHER)], made.pack).ok
        disk.fill(0)
        assert SENTENCE in client.push([(made.oid, ZERO, OTHER)]).unpack
        assert client.refs() == {MAIN: made.oid, OTHER: made.oid}
        disk.empty()
        assert client.push([(made.oid, ZERO, OTHER)]).ok
        assert client.refs() == {MAIN: made.oid}


def test_a_server_starts_and_serves_reads_on_a_full_disk(house: House, disk: SmallDisk, tmp_path: Path) -> None:
    repository, made = house.repository(), change()
    with closing(Pusher(house, repository)) as client:
        assert client.create(MAIN, made).ok
    url = house.https_url(repository)
    disk.fill(0)

    house.kill9()
    house.start()

    house.git("clone", "-q", url, str(tmp_path / "clone"))
    assert house.git("rev-parse", "HEAD", cwd=tmp_path / "clone").stdout.strip() == made.oid
