"""What the tests that hurt a server have in common: a quick client, ready-made packs, and the question "is all well?".

The client speaks smart HTTP itself, so that thirty of them cost less than one git. Every test counts on a short
version for CI; with ``GITSERVER_TORTURE=1`` (``make torture``) the long one runs.
"""

import http.client
import os
import secrets
import shutil
import ssl
import sys
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha1
from pathlib import Path

from gitserver.operations.verification import Tally, verify
from tests.house import House

LONG = os.environ.get("GITSERVER_TORTURE") == "1"
ZERO = "0" * 40
_DATE = b"1700000000 +0000"
_CAPABILITIES = b"report-status side-band-64k object-format=sha1"
_KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}


def times(short: int, long: int) -> int:
    """How often to try: *short* in CI, *long* by ``make torture``."""
    return long if LONG else short


def tell(figures: str) -> None:
    """Say what was measured; ``pytest -rP`` shows it."""
    sys.stdout.write(f"\n{figures}\n")


# Packs


@dataclass(frozen=True)
class Object:
    """One Git object."""

    kind: str
    data: bytes

    @property
    def oid(self) -> str:
        """Its id."""
        return sha1(f"{self.kind} {len(self.data)}\0".encode() + self.data).hexdigest()


def blob(data: bytes) -> Object:
    """A file."""
    return Object("blob", data)


def tree(files: Mapping[str, Object]) -> Object:
    """A directory of files."""
    entries = (f"100644 {name}\0".encode() + bytes.fromhex(one.oid) for name, one in sorted(files.items()))
    return Object("tree", b"".join(entries))


def commit(top: Object, message: bytes, parent: str | None = None, author: bytes = b"T <t@example.com>") -> Object:
    """A commit of *top*."""
    head = b"tree %b\n" % top.oid.encode()
    head += b"parent %b\n" % parent.encode() if parent else b""
    return Object("commit", head + b"author %b %b\ncommitter %b %b\n\n%b" % (author, _DATE, author, _DATE, message))


def pack(objects: Sequence[Object]) -> bytes:
    """A pack of whole objects."""
    out = bytearray(b"PACK\0\0\0\2" + len(objects).to_bytes(4, "big"))
    for one in objects:
        size, byte = len(one.data) >> 4, _KINDS[one.kind] << 4 | len(one.data) & 15
        while size:
            out.append(byte | 0x80)
            size, byte = size >> 7, size & 0x7F
        out.append(byte)
        out += zlib.compress(one.data, 0)  # packs of equal objects are equally long
    return bytes(out + sha1(out).digest())


@dataclass(frozen=True)
class Change:
    """A commit of its own, and the pack that brings it."""

    oid: str
    pack: bytes = field(repr=False)
    objects: tuple[Object, ...] = field(repr=False, default=())


def change(parent: str | None = None, size_bytes: int = 200, message: bytes | None = None) -> Change:
    """A commit with one incompressible file of *size_bytes*."""
    content = blob(secrets.token_bytes(size_bytes))
    top = tree({"file": content})
    made = commit(top, message or secrets.token_hex(8).encode() + b"\n", parent)
    objects = (made, top, content)
    return Change(made.oid, pack(objects), objects)


# A client


@dataclass(frozen=True)
class Report:
    """What the server said to a push."""

    unpack: str
    refs: dict[str, str | None]  # None: ok; else why not

    @property
    def ok(self) -> bool:
        """Whether everything was done."""
        return self.unpack == "ok" and not any(self.refs.values())


class PushBroken(Exception):
    """The connection ended before there was a whole report: nobody knows what became of the push."""


Command = tuple[str, str, str]  # old, new, ref


class Pusher:
    """Pushes over HTTPS, and lists refs; for one thread."""

    def __init__(self, house: House, repository: str, timeout_s: float = 60) -> None:
        credential = house.git_credential()
        token = b64encode(f"{credential.user_name}:{credential.password}".encode()).decode()
        self._path = f"/v1/repos/{repository}"
        self._headers = {"Authorization": f"Basic {token}"}
        context = ssl.create_default_context(cafile=str(house.ca_file))
        self._connection = http.client.HTTPSConnection(
            "localhost", house.https_port, timeout=timeout_s, context=context
        )

    def refs(self) -> dict[str, str]:
        """Every ref and where it is."""
        answer = self._ask("GET", "/info/refs?service=git-receive-pack", None)
        lines = [line.partition(b"\0")[0] for line in packets(answer) if line and not line.startswith(b"# ")]
        pairs = (line.decode().strip().split(" ", 1) for line in lines)
        return {name: oid for oid, name in pairs if oid != ZERO}

    def push(self, commands: Sequence[Command], data: bytes = b"", *, atomic: bool = False) -> Report:
        """Push; what the server reported.

        Raises:
            PushBroken: there was no whole report.
        """
        answer = self._ask("POST", "/git-receive-pack", request(commands, data, atomic=atomic))
        return report(answer)

    def create(self, ref: str, made: Change) -> Report:
        """Push a new ref."""
        return self.push([(ZERO, made.oid, ref)], made.pack)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        for _ in range(100):
            status, answer = self._ask_once(method, path, body)
            if status != 503 or b"busy" not in answer:
                break
            time.sleep(0.02)  # the last request may still be on its way out
        if status != 200:
            raise PushBroken(f"{status}: {answer.decode(errors='replace')}")
        return answer

    def _ask_once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/x-git-receive-pack-request"
        try:
            self._connection.request(method, self._path + path, body, headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as broken:
            self._connection.close()
            raise PushBroken(str(broken)) from broken


def request(commands: Sequence[Command], data: bytes, *, atomic: bool = False) -> bytes:
    """The body of a push."""
    lines = [f"{old} {new} {ref}".encode() for old, new, ref in commands]
    lines[0] += b"\0" + _CAPABILITIES + (b" atomic" if atomic else b"")
    return b"".join(b"%04x%b" % (len(line) + 4, line) for line in lines) + b"0000" + data


def report(answer: bytes) -> Report:
    """Read a report-status off side band 1.

    Raises:
        PushBroken: it is not whole.
    """
    outer = list(packets(answer))
    inner = b"".join(line[1:] for line in outer if line and line[0] == 1)
    lines = [line.decode(errors="replace").strip() for line in packets(inner) if line]
    if not lines or outer[-1] is not None or not inner.endswith(b"0000"):
        raise PushBroken(f"no whole report: {answer[-200:]!r}")
    refs: dict[str, str | None] = {}
    for line in lines[1:]:
        word, name, *reason = line.split(" ", 2)
        refs[name] = None if word == "ok" else reason[0]
    return Report(lines[0].removeprefix("unpack "), refs)


def packets(data: bytes) -> Iterator[bytes | None]:
    """Each pkt-line's data; None for a flush."""
    while data:
        length = int(data[:4], 16)
        yield data[4:length] if length else None
        data = data[max(length, 4) :]


# Is all well?


def problems(house: House) -> list[str]:
    """What `gitserver verify` finds, looked for in this process."""
    found = verify(house.services, house.caller, None, Tally(), lambda _: None)
    return [f"{one.where}: {one.what}" for one in found]


def refs(house: House, repository: str) -> dict[str, str]:
    """Where the refs are, read in this process."""
    view = house.services.repositories.describe(house.caller, repository)
    opened = house.services.git.open(view.id)
    opened.close()
    return {name.decode(): oid.hex() for name, oid in opened.refs.refs.items()}


def sealed_files(house: House) -> set[str]:
    """Every file of the blob store, the unfinished ones included; names from the store's directory."""
    top = house.config.blobs
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}


def unrecorded(house: House) -> set[str]:
    """Files of the blob store that no row names."""
    with house.services.database.reading() as tx:
        named = {one.id for one in house.services.vault.catalogue(tx)}
    return {name for name in sealed_files(house) if name.rsplit("/", 1)[-1] not in named}


def sweep(house: House) -> None:
    """Do now what the worker does hours after a crash. Nobody may be pushing."""
    house.services.vault.sweep(timedelta(seconds=-5))


def assert_sound(house: House, where: Path, *repositories: str) -> None:
    """Verify everything, clone *repositories* and have git examine the clones. Leaves nothing in *where*."""
    assert problems(house) == []
    for repository in repositories:
        assert_clones(house, where, repository)


def assert_clones(house: House, where: Path, repository: str) -> None:
    """Clone, compare refs, and let git look at every object."""
    clone = where / f"clone-{secrets.token_hex(6)}"
    house.git("clone", "-q", "--mirror", house.https_url(repository), str(clone))
    house.git("fsck", "--full", "--strict", "--no-dangling", cwd=clone)
    shown = house.git("for-each-ref", "--format=%(refname) %(objectname)", cwd=clone).stdout.splitlines()
    assert dict(line.split(" ") for line in shown) == refs(house, repository)
    shutil.rmtree(clone)
