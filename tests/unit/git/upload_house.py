"""Histories made by C git, served by our upload-pack to C git's own client: over a socket, and over HTTP."""

import gzip
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer
from typing import Any, cast

from gitserver.core.errors import Failure
from gitserver.git.archive import ArchiveLimits, UploadArchive
from gitserver.git.objects import KIND_OF_WORD, ObjectId
from gitserver.git.pack_index import build_index
from gitserver.git.packs import Pack
from gitserver.git.protocol import PacketReader, protocol_version
from gitserver.git.refs import RefSnapshot
from gitserver.git.repository import Repository
from gitserver.git.store import ObjectStore
from gitserver.git.upload import UploadPack
from gitserver.git.upload_request import UploadLimits

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "LC_ALL": "C",
}
EPOCH = 1_700_000_000


def git(where: Path, *arguments: str, text: bytes | str = b"", ok: bool = True, when: int | None = None) -> str:
    """What a git command prints, errors included where it is expected to fail."""
    environment = dict(ENVIRONMENT)
    if when is not None:
        environment |= {"GIT_AUTHOR_DATE": f"{when} +0000", "GIT_COMMITTER_DATE": f"{when} +0000"}
    done = subprocess.run(
        ["git", "-C", str(where), "-c", "gc.auto=0", "-c", "maintenance.auto=false", *arguments],
        input=text.encode() if isinstance(text, str) else text,
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    said = done.stderr.decode(errors="replace")
    assert (done.returncode == 0) is ok, f"git {arguments}: {done.returncode}: {said}"
    return done.stdout.decode(errors="surrogateescape").strip() if ok else said


class MemoryBlob:
    """A pack and its index in memory, read as a sealed blob is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def chunks(self, offset: int = 0, end: int | None = None, piece: int = 262144) -> Iterator[bytes]:
        stop = self.size if end is None else end
        for at in range(offset, stop, piece):
            yield self._data[at : min(at + piece, stop)]

    def close(self) -> None:
        """Nothing is held."""


def load_pack(directory: Path, idx: Path) -> Pack:
    """A C git pack as one of ours."""
    kinds = {}
    for line in git(directory, "cat-file", "--batch-check", "--batch-all-objects", "--unordered").splitlines():
        oid, kind, size = line.split()
        kinds[oid] = KIND_OF_WORD[kind.encode()], int(size)
    rows = []
    listing = git(directory, "show-index", text=idx.read_bytes())
    for line in listing.splitlines():
        offset, oid, crc = line.split()
        rows.append((bytes.fromhex(oid), int(offset), int(crc.strip("()"), 16), *kinds[oid]))
    data = idx.with_suffix(".pack").read_bytes()
    blob = MemoryBlob(data + build_index(rows, data[-20:]))
    return Pack(idx.stem, cast(Any, blob), len(data))


@dataclass
class Opened:
    """What upload-pack needs of a repository."""

    refs: RefSnapshot
    objects: ObjectStore
    closed: bool = False

    def close(self) -> None:
        self.closed = True


class Origin:
    """A bare repository of C git, opened as one of ours each time somebody connects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._packs: dict[str, Pack] = {}
        git(path.parent, "init", "-q", "--bare", "-b", "main", path.name)
        git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
        git(path, "config", "uploadpack.allowFilter", "true")

    def git(self, *arguments: str, **more: Any) -> str:
        return git(self.path, *arguments, **more)

    def stream(self, *commands: str) -> None:
        """Feed ``git fast-import``; its pack is kept, deltas and all."""
        git(
            self.path,
            "-c",
            "fastimport.unpackLimit=1",
            "fast-import",
            "--quiet",
            "--force",
            text="\n".join(commands) + "\n",
        )

    def commits(self, count: int, branch: str = "main", start: int = 0, since: int = EPOCH) -> None:
        """A line of commits that change a few files among many."""
        lines: list[str] = []
        if start == 0:
            lines.append(f"reset refs/heads/{branch}")
        for number in range(start, start + count):
            lines += commit_lines(
                branch,
                since + 60 * number,
                {f"dir{number % 5}/file{number % 7}.txt": content(number), f"top{number % 3}": f"{number}\n" * 30},
                parent=f"refs/heads/{branch}^0" if number == start and start else None,
            )
        self.stream(*lines)

    def pack_loose(self) -> None:
        """Put every loose object, reachable or not, into a pack."""
        loose = [
            f"{directory.name}{file.name}"
            for directory in (self.path / "objects").glob("[0-9a-f][0-9a-f]")
            for file in directory.iterdir()
        ]
        if loose:
            git(self.path, "pack-objects", "-q", str(self.path / "objects/pack/pack"), text="\n".join(loose) + "\n")
            git(self.path, "prune-packed", "-q")

    def open(self) -> Opened:
        self.pack_loose()
        found = sorted((self.path / "objects/pack").glob("*.idx"))
        self._packs = {idx.stem: self._packs.get(idx.stem) or load_pack(self.path, idx) for idx in found}
        return Opened(self.snapshot(), ObjectStore(list(self._packs.values())))

    def snapshot(self) -> RefSnapshot:
        refs, peeled = {}, {}
        for line in self.git("for-each-ref", "--format=%(objectname) %(objecttype) %(refname)").splitlines():
            oid, kind, name = line.split(" ", 2)
            refs[name.encode()] = ObjectId(bytes.fromhex(oid))
            if kind == "tag":
                peeled[name.encode()] = ObjectId(bytes.fromhex(self.git("rev-parse", f"{name}^{{}}")))
        head = (self.path / "HEAD").read_text().removeprefix("ref: ").strip().encode()
        return RefSnapshot(generation=1, head=head, refs=dict(sorted(refs.items())), peeled=peeled)

    def objects_of(self, *revisions: str) -> set[str]:
        """What C git finds behind *revisions*."""
        return {line.split(" ")[0] for line in self.git("rev-list", "--objects", *revisions).splitlines()}


def content(number: int) -> str:
    """A few lines of which most stay from one number to the next."""
    return "".join(f"line {line} of {number if line == number % 20 else 'all'}\n" for line in range(40))


def commit_lines(
    branch: str, when: int, files: dict[str, str], *, parent: str | None = None, merge: str | None = None
) -> list[str]:
    """One commit for ``git fast-import``."""
    lines = [
        f"commit refs/heads/{branch}",
        f"committer Ada <ada@example.com> {when} +0000",
        "data 7",
        f"c {when % 100000:05d}",
    ]
    lines += [f"from {parent}"] if parent else []
    lines += [f"merge {merge}"] if merge else []
    for name, text in files.items():
        lines += [f"M 100644 inline {name}", f"data {len(text.encode())}", text]
    return [*lines, ""]


class _Connection(StreamRequestHandler):
    """git:// as far as a client needs it. Source: gitprotocol-pack(5), "Git Transport"."""

    def handle(self) -> None:
        server = cast("Doors", self.server.doors)  # type: ignore[attr-defined]
        reader = PacketReader(_Socket(self.rfile))
        hello = reader.packet()
        assert isinstance(hello, bytes)
        command, _, rest = hello.partition(b"\0")
        version = protocol_version(":".join(rest.decode().split("\0")))
        self._serve(server, command, reader, version)

    def _serve(self, server: "Doors", command: bytes, reader: PacketReader, version: int) -> None:
        opened = cast(Repository, server.origin.open())
        talk: UploadPack | UploadArchive
        if command.startswith(b"git-upload-archive"):
            talk = UploadArchive(opened, ArchiveLimits())
        else:
            talk = UploadPack(opened, version, server.limits)
        try:
            for piece in talk.answer(reader, stateless=False):
                self.wfile.write(piece)
        except Failure as failure:
            server.failures.append(failure)
        except (BrokenPipeError, ConnectionResetError):
            server.failures.append(Failure("the client left"))
        finally:
            talk.close()


class _Socket:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        return bytes(self._stream.read1(size))


class _Requests(BaseHTTPRequestHandler):
    """Smart HTTP as far as a client needs it. Source: gitprotocol-http(5)."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        talk = self._talk()
        service = b"" if self._version() == 2 else b"001e# service=git-upload-pack\n0000"
        self._send("application/x-git-upload-pack-advertisement", service + b"".join(talk.advertise()))
        talk.close()

    def do_POST(self) -> None:
        body = self._body()
        talk = self._talk()
        pieces = list(talk.answer(_Bytes(body), stateless=True))
        self._send("application/x-git-upload-pack-result", b"".join(pieces))
        talk.close()

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""

    def _doors(self) -> "Doors":
        return cast("Doors", self.server.doors)  # type: ignore[attr-defined]

    def _version(self) -> int:
        return protocol_version(self.headers.get("Git-Protocol", ""))

    def _talk(self) -> UploadPack:
        doors = self._doors()
        return UploadPack(cast(Repository, doors.origin.open()), self._version(), doors.limits)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


class Doors:
    """Both ways in to one origin, on loopback."""

    def __init__(self, origin: Origin, limits: UploadLimits | None = None) -> None:
        self.origin = origin
        self.limits = limits or UploadLimits()
        self.failures: list[Failure] = []
        ThreadingTCPServer.allow_reuse_address = True
        self._servers: list[TCPServer] = [
            ThreadingTCPServer(("127.0.0.1", 0), _Connection),
            ThreadingHTTPServer(("127.0.0.1", 0), _Requests),
        ]
        self._threads = []
        for server in self._servers:
            server.doors = self  # type: ignore[attr-defined]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            self._threads.append(thread)

    def url(self, door: str) -> str:
        """``git`` is one conversation, ``http`` a request for each round."""
        port = self._servers[0 if door == "git" else 1].server_address[1]
        return f"{door}://127.0.0.1:{port}/origin"

    def close(self) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def free_of_faults(clone: Path) -> None:
    """What every clone must be."""
    said = git(clone, "fsck", "--full", "--strict")
    assert "missing" not in said
    assert "broken" not in said


def objects_in(clone: Path) -> set[str]:
    """Every object that lies in a clone."""
    listing = git(clone, "cat-file", "--batch-check=%(objectname)", "--batch-all-objects", "--unordered")
    return set(listing.split())
