"""Nothing that was pushed can be read on the server's disks: not in its data, its temporary files or its logs.

Every byte is searched, unlinked files that a process still holds open included. Names of refs are allowed to be
readable: docs/threat-model.md says so.
"""

import secrets
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.house import House
from tests.scenarios.conftest import NewHouse
from tests.scenarios.torture import ZERO, Object, Pusher, Report, blob, commit, pack, refs, tell

pytestmark = [pytest.mark.torture]

LARGE_BYTES = 66 << 20  # more than any push may keep in memory
PIECE_BYTES = 1 << 24
OVERLAP_BYTES = 1 << 12


def marker() -> bytes:
    """Something that cannot be there by chance."""
    return b"MARKER" + secrets.token_hex(12).encode()


class Markers:
    """What was pushed, in each form in which it might lie somewhere."""

    def __init__(self) -> None:
        self.forms: dict[str, bytes] = {}

    def new(self, where: str) -> bytes:
        """A marker for *where*."""
        made = marker()
        self.forms[where] = made
        return made

    def add(self, where: str, form: bytes) -> None:
        """One more form to look for."""
        self.forms[where] = form

    def found(self, pieces: Iterable[bytes]) -> set[str]:
        """Which of them are in there."""
        seen: set[str] = set()
        before = b""
        for piece in pieces:
            data = before + piece
            seen |= {where for where, form in self.forms.items() if form in data}
            before = data[-OVERLAP_BYTES:]
        return seen


def test_no_marker_of_a_push_is_found_in_any_byte_on_disk(
    new_house: NewHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    house = new_house(GITSERVER_LOG_LEVEL="debug")
    markers, work = Markers(), tmp_path / "work"
    commit_markers(house, markers, work)
    key, repository = house.ssh_key(), house.repository()
    places = [house.data, house.config.key_directory, temporary, house.log_file, Path("/tmp")]
    own = [house.home, work, tmp_path / "clone"]

    house.git("push", house.ssh_url(repository), "main", "--tags", cwd=work, key=key)
    large = work / "large"
    write_large(large, markers)
    house.git("add", "-A", cwd=work)
    house.git("commit", "-q", "-m", f"{markers.new('second message').decode()}", cwd=work)
    watcher = Watcher(house, markers)
    watcher.start()
    house.git("push", house.https_url(repository), "main:refs/heads/readable-name", cwd=work)
    watcher.stop()
    house.git("clone", "-q", house.https_url(repository), str(tmp_path / "clone"))
    refused = push_broken(house, repository, markers)

    assert not refused.ok
    assert refs(house, repository).keys() >= {"refs/heads/main", "refs/heads/readable-name"}
    assert watcher.seen == set(), f"in open files while it was pushed: {watcher.seen}"
    assert watcher.spooled_bytes > LARGE_BYTES // 2, "no look at the file in which the large push waits came in time"
    running = search(places, own, markers)
    house.kill9()
    killed = search(places, own, markers)
    assert (running, killed) == ({}, {})
    for file in work.iterdir():  # the search does find what is there
        if file.name == "small":
            assert markers.found([file.read_bytes()])
    tell(
        f"{len(markers.forms)} markers in files, names, messages and people, searched for in"
        f" {sum(1 for _ in files(places, own))} files and, while pushing, in {watcher.looked} looks at open ones: none"
    )


def commit_markers(house: House, markers: Markers, work: Path) -> None:
    """A history with a marker in everything that a push can carry."""
    small = markers.new("file")
    line = marker()
    compressible = b"".join(line + b" %d\n" % number for number in range(500))
    markers.add("long file", compressible[:200])
    markers.add("long file, compressed", zlib.compress(compressible)[2:66])
    markers.add("long file, compressed with its header", loose(compressible)[2:66])
    house.commit(work, {"small": small, "long": compressible, markers.new("file name").decode(): b"content"})
    house.git("config", "user.name", markers.new("author name").decode(), cwd=work)
    house.git("config", "user.email", markers.new("address").decode() + "@example.com", cwd=work)
    house.commit(work, {"small": small + b"\n" + markers.new("changed file")}, markers.new("message").decode())
    house.git("tag", "-a", "-m", markers.new("tag message").decode(), "v1", cwd=work)
    house.git("gc", "-q", cwd=work)  # some of it travels as deltas


def push_broken(house: House, repository: str, markers: Markers) -> Report:
    """A push that is refused for what a directory and a commit hold, which may be shown to the client only."""
    content = blob(markers.new("file of a refused push"))
    entry = b"100644 %b\0" % markers.new("file name that is refused") + bytes.fromhex(content.oid)
    twice = Object("tree", entry + entry)
    made = commit(twice, markers.new("message of a refused push"), author=markers.new("author who is refused"))
    with closing(Pusher(house, repository)) as client:
        return client.push([(ZERO, made.oid, "refs/heads/refused")], pack([made, twice, content]))


def write_large(path: Path, markers: Markers) -> None:
    """A file that does not compress, with markers here and there that lie in a pack as they are."""
    places = {number * (LARGE_BYTES // 8): markers.new(f"large file, part {number}") for number in range(8)}
    with path.open("wb") as file:
        for at in range(0, LARGE_BYTES, LARGE_BYTES // 8):
            file.write(places[at])
            file.write(secrets.token_bytes(LARGE_BYTES // 8 - len(places[at])))
    with path.open("rb") as file:
        start = file.read(1 << 16)
    markers.add("compressed beginning of a large file", start[1000:1100])  # zlib stores what it cannot compress


def loose(data: bytes) -> bytes:
    """A blob as git compresses it when it is by itself."""
    return zlib.compress(b"blob %d\0" % len(data) + data)


class Watcher(threading.Thread):
    """Looks into every file that the server's processes hold open, named or not, again and again."""

    def __init__(self, house: House, markers: Markers) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.spooled_bytes = self.looked = 0
        self._house, self._markers, self._stopped = house, markers, threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped.is_set():
            for process in self._house.processes():
                self._look(process)
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()
        self.join(60)

    def _look(self, process: int) -> None:
        with suppress(OSError):  # processes and files come and go
            for entry in list(Path(f"/proc/{process}/fd").iterdir()):
                with suppress(OSError):
                    target = str(entry.readlink())
                    if target.endswith("(deleted)") or "/spool" in target or ".incoming" in target:
                        size = entry.stat().st_size
                        self.spooled_bytes = max(self.spooled_bytes, size if "/spool" in target else 0)
                        self.seen |= {f"{where}: {target}" for where in self._markers.found(pieces(entry))}
                        self.looked += 1


def search(places: Sequence[Path], own: Sequence[Path], markers: Markers) -> dict[str, set[str]]:
    """Each file below *places*, but for a client's *own*, in which a marker is."""
    found = {}
    for path in files(places, own):
        with suppress(FileNotFoundError):
            seen = markers.found(pieces(path))
            if seen:
                found[str(path)] = seen
    return found


def files(places: Sequence[Path], own: Sequence[Path]) -> Iterator[Path]:
    """Every file once. Of the machine's temporary folder only what is not below some test's folder."""
    for place in places:
        if place.is_file():
            yield place
        elif place == Path("/tmp"):
            listed = subprocess.run(
                ["find", place, "-maxdepth", "1", "-type", "f"], capture_output=True, text=True, check=False
            )
            yield from map(Path, listed.stdout.splitlines())
        else:
            yield from (path for path in place.rglob("*") if path.is_file() and not set(own) & set(path.parents))


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
