"""Packs made to order, sound or broken: whole objects, both kinds of delta, and lies of every sort.

Also the two judges that tests compare: the server's, and git's own.
"""

import os
import re
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha1
from io import BytesIO
from pathlib import Path

from gitserver.core.errors import Failure
from gitserver.git.ingest import IncomingPack
from gitserver.git.limits import PackLimits
from gitserver.git.objects import Kind, ObjectId
from gitserver.git.pack_format import (
    HEADER_BYTES,
    OFS_DELTA,
    REF_DELTA,
    TRAILER_BYTES,
    entry_header,
    ofs_distance,
    pack_header,
    read_entry_header,
    read_ofs_distance,
)
from gitserver.git.store import ObjectStore
from gitserver.storage.spool import Spool

SPOOL_BYTES = 8 << 20
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


@dataclass(frozen=True)
class Forged:
    """One entry as it is to be written, truthfully unless told otherwise.

    ``base`` is the number of an entry (an ofs-delta), a distance in bytes below zero, or an id (a ref-delta).
    """

    number: int  # the type: 1 to 4, or OFS_DELTA, REF_DELTA
    data: bytes
    base: int | bytes | None = None
    size: int | None = None  # what the header says, if that is not the truth
    packed: bytes | None = None  # the zlib stream, if it is not simply the data's
    level: int = 1


def whole(kind: Kind, data: bytes) -> Forged:
    """An object that is not a delta."""
    return Forged(kind, data)


def ofs(base: int, delta: bytes) -> Forged:
    """A delta on the entry with the number *base*, or *-base* bytes back."""
    return Forged(OFS_DELTA, delta, base)


def ref(base: bytes, delta: bytes) -> Forged:
    """A delta on the object with the id *base*."""
    return Forged(REF_DELTA, delta, base)


def forge(entries: Iterable[Forged], *, count: int | None = None, trailer: bytes | None = None) -> bytes:
    """A pack of *entries*; *count* and *trailer* are right unless given."""
    out = bytearray(bytes(HEADER_BYTES))
    offsets: list[int] = []
    for entry in entries:
        offsets.append(len(out))
        out += entry_header(entry.number, len(entry.data) if entry.size is None else entry.size)
        if entry.number == OFS_DELTA:
            assert isinstance(entry.base, int)
            distance = -entry.base if entry.base < 0 else offsets[-1] - offsets[entry.base]
            out += ofs_distance(max(distance, 0))
        elif entry.number == REF_DELTA:
            assert isinstance(entry.base, bytes)
            out += entry.base
        out += zlib.compress(entry.data, entry.level) if entry.packed is None else entry.packed
    out[:HEADER_BYTES] = pack_header(len(offsets) if count is None else count)
    return bytes(out) + (sealed(out) if trailer is None else trailer)


def sealed(body: bytes | bytearray) -> bytes:
    """The trailer that makes *body* a pack."""
    return sha1(body, usedforsecurity=False).digest()


def resealed(pack: bytes) -> bytes:
    """*pack* with a trailer that is right."""
    body = pack[:-TRAILER_BYTES]
    return body + sealed(body)


def dissect(pack: bytes) -> list[Forged]:
    """A sound pack's entries; an ofs-delta's base as the number of an entry."""
    entries: list[Forged] = []
    number_at: dict[int, int] = {}
    at = HEADER_BYTES
    while at < len(pack) - TRAILER_BYTES:
        start = at
        number_at[start] = len(entries)
        number, _, at = read_entry_header(pack, at)
        base: int | bytes | None = None
        if number == OFS_DELTA:
            distance, at = read_ofs_distance(pack, at)
            base = number_at[start - distance]
        elif number == REF_DELTA:
            base = pack[at : at + 20]
            at += 20
        inflater = zlib.decompressobj()
        data = inflater.decompress(pack[at:])
        end = len(pack) - len(inflater.unused_data)
        entries.append(Forged(number, data, base, packed=pack[at:end]))
        at = end
    return entries


def truthful(entry: Forged, data: bytes) -> Forged:
    """The entry with other data, compressed anew."""
    return replace(entry, data=data, packed=None, size=None)


# --- deltas -------------------------------------------------------------------------------------------------------


def delta(base_size: int, result_size: int, *operations: bytes) -> bytes:
    """A delta of its two sizes and its operations."""
    return varint(base_size) + varint(result_size) + b"".join(operations)


def varint(value: int) -> bytes:
    """A size as deltas spell it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def copy(offset: int, size: int) -> bytes:
    """The operation that copies from the base; *size* below 16 MiB."""
    command, arguments = 0x80, b""
    for bit, shift in ((1, 0), (2, 8), (4, 16), (8, 24)):
        if offset >> shift & 0xFF:
            command |= bit
            arguments += bytes([offset >> shift & 0xFF])
    for bit, shift in ((0x10, 0), (0x20, 8), (0x40, 16)):
        if size >> shift & 0xFF:
            command |= bit
            arguments += bytes([size >> shift & 0xFF])
    return bytes([command]) + arguments


def insert(data: bytes) -> bytes:
    """The operations that insert *data*."""
    pieces = (data[at : at + 127] for at in range(0, len(data), 127))
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)


def difference(base: bytes, result: bytes) -> bytes:
    """A delta that keeps what both begin and end with."""
    head = _shared(base, result)
    tail = _shared(base[head:][::-1], result[head:][::-1])
    middle = result[head : len(result) - tail]
    operations = [copy(0, head)] if head else []
    operations += [insert(middle)] if middle else []
    operations += [copy(len(base) - tail, tail)] if tail else []
    return delta(len(base), len(result), *operations)


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


# --- objects ------------------------------------------------------------------------------------------------------


def oid(kind: Kind, data: bytes) -> ObjectId:
    """The id of an object, worked out apart from the code under test."""
    return ObjectId(sha1(b"%s %d\0%s" % (kind.word, len(data), data), usedforsecurity=False).digest())


def tree(*entries: tuple[bytes, bytes, bytes]) -> bytes:
    """A tree of (mode, name, id) in the order given."""
    return b"".join(b"%s %s\0%s" % entry for entry in entries)


PERSON = b"A U Thor <author@example.com> 1700000000 +0000"


def commit(tree_id: bytes, *parents: bytes, message: bytes = b"a message\n") -> bytes:
    """A commit."""
    links = b"".join(b"parent %s\n" % parent.hex().encode() for parent in parents)
    return b"tree %s\n%sauthor %s\ncommitter %s\n\n%s" % (tree_id.hex().encode(), links, PERSON, PERSON, message)


# --- judges -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What became of a pack."""

    accepted: bool
    reason: str = ""
    message_ids: tuple[str, ...] = ()


class Trickle:
    """A stream that gives no more than so many bytes at once."""

    def __init__(self, data: bytes, piece_bytes: int) -> None:
        self._stream, self._piece_bytes = BytesIO(data), piece_bytes

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._piece_bytes))


def receive(
    pack: bytes, held: ObjectStore | None = None, limits: PackLimits | None = None, piece_bytes: int = 1 << 16
) -> IncomingPack:
    """Take *pack* in; the caller closes what comes back."""
    spool = Spool(Path(tempfile.gettempdir()), SPOOL_BYTES)
    incoming = IncomingPack(held or ObjectStore(()), spool, limits or PackLimits())
    try:
        for _ in incoming.receive(Trickle(pack, piece_bytes)):
            pass
    except BaseException:
        incoming.close()
        raise
    return incoming


def server_verdict(
    pack: bytes, held: ObjectStore | None = None, limits: PackLimits | None = None, piece_bytes: int = 1 << 16
) -> Verdict:
    """What the server makes of *pack*."""
    try:
        with closing(receive(pack, held, limits, piece_bytes)) as incoming:
            if incoming.absent:
                return Verdict(False, f"{incoming.absent[0].hex()} is nowhere")
            return Verdict(True)
    except Failure as failure:
        message_id = getattr(failure, "message_id", None)
        return Verdict(False, str(failure), (message_id,) if message_id else ())


class GitJudge:
    """``git index-pack --strict``, in an empty repository."""

    def __init__(self, directory: Path) -> None:
        self._repository = directory / "judge.git"
        self._pack = directory / "judged.pack"
        self._index = directory / "judged.idx"
        subprocess.run(["git", "init", "-q", "--bare", self._repository], env=ENVIRONMENT, check=True)

    def verdict(self, pack: bytes) -> Verdict:
        self._pack.write_bytes(pack)
        self._index.unlink(missing_ok=True)
        done = subprocess.run(
            ["git", "index-pack", "--strict", "--threads=1", "-o", self._index, self._pack],
            cwd=self._repository,
            env=ENVIRONMENT,
            capture_output=True,
            timeout=120,
            check=False,
        )
        said = done.stderr.decode(errors="replace")
        named = tuple(re.findall(r"^(?:error|warning): object [0-9a-f]{40}: (\w+): ", said, re.MULTILINE))
        return Verdict(done.returncode == 0, said.strip(), named)

    def index(self) -> bytes:
        """The index of the pack judged last."""
        return self._index.read_bytes()


def git_findings(directory: Path, pack: bytes) -> dict[bytes, set[str]]:
    """What ``git fsck --strict`` calls an error in the objects of *pack*: object id to message ids."""
    repository = directory / "fsck.git"
    subprocess.run(["git", "init", "-q", "--bare", repository], env=ENVIRONMENT, check=True)
    git(repository, "-c", "core.fsync=none", "index-pack", "--stdin", stdin=pack)
    done = subprocess.run(
        ["git", "fsck", "--strict", "--no-dangling"], cwd=repository, env=ENVIRONMENT, capture_output=True, check=False
    )
    found: dict[bytes, set[str]] = {}
    for name, message_id in re.findall(rb"^error in \w+ ([0-9a-f]{40}): (\w+): ", done.stderr, re.MULTILINE):
        found.setdefault(bytes.fromhex(name.decode()), set()).add(message_id.decode())
    return found


def git(repository: Path, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> bytes:
    """Run git in *repository*; what it prints."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=repository,
        env=ENVIRONMENT | (env or {}),
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"git {arguments} failed: {done.stderr.decode(errors='replace')}")
    return done.stdout


def closed(objects: Sequence[tuple[Kind, bytes]]) -> bytes:
    """A pack of whole objects."""
    return forge(whole(kind, data) for kind, data in objects)
