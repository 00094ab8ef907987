"""tar and zip files of a tree, written as a stream, the way ``git archive`` writes them.

Source: git-archive(1); POSIX pax, "ustar Interchange Format"; git's own tar files, which these equal byte for byte.
"""

import io
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from time import gmtime
from typing import TYPE_CHECKING

from gitserver.git.objects import MODE_GITLINK, MODE_TREE, ObjectId

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

RECORD_BYTES = 512
BLOCK_BYTES = 20 * RECORD_BYTES
UMASK = 0o002
MODE_SYMLINK = 0o120000
_TYPE_BITS = 0o170000
_MAX_OCTAL_SIZE = (1 << 33) - 1


@dataclass(frozen=True)
class Member:
    """One thing in an archive. ``path`` ends with ``/`` for a directory; so does a submodule's."""

    path: bytes
    mode: int  # as in a tree
    oid: ObjectId
    size: int  # bytes of content; 0 for a directory

    @property
    def is_directory(self) -> bool:
        """Whether it is one; a submodule is an empty one."""
        return self.mode & _TYPE_BITS in (MODE_TREE, MODE_GITLINK)

    @property
    def is_symlink(self) -> bool:
        """Whether its content is a path."""
        return self.mode & _TYPE_BITS == MODE_SYMLINK


class ArchiveFormat(ABC):
    """Turns members, one after another, into an archive's bytes."""

    @abstractmethod
    def begin(self) -> Iterator[bytes]:
        """What stands before the first member."""

    @abstractmethod
    def add(self, member: Member, content: Iterator[bytes]) -> Iterator[bytes]:
        """One member."""

    @abstractmethod
    def end(self) -> Iterator[bytes]:
        """What stands behind the last one."""


class Tar(ArchiveFormat):
    """A pax tar file; ``commit`` is named in its comment, where ``git get-tar-commit-id`` finds it."""

    def __init__(self, commit: ObjectId | None, modified: int) -> None:
        self._commit = commit
        self._modified = modified  # seconds since 1970
        self._at = 0

    def begin(self) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        if self._commit is not None:
            data = _pax_record(b"comment", self._commit.hex().encode())
            yield self._count(self._record(b"pax_global_header", 0o666, len(data), b"g") + _padded(data))

    def add(self, member: Member, content: Iterator[bytes]) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        pax = b""
        name, prefix = _split(member.path)
        if name is None:
            name = member.oid.hex().encode() + b".data"
            pax += _pax_record(b"path", member.path)
        target = b"".join(content) if member.is_symlink else b""
        link = target
        if len(target) > 100:
            link = b"see " + member.oid.hex().encode() + b".paxheader"
            pax += _pax_record(b"linkpath", target)
        size = 0 if member.is_symlink or member.is_directory else member.size
        if size > _MAX_OCTAL_SIZE:
            pax += _pax_record(b"size", b"%d" % size)
        header = self._record(name, *_tar_mode(member, size), link=link, prefix=prefix)
        if pax:
            extended = self._record(member.oid.hex().encode() + b".paxheader", 0o666, len(pax), b"x")
            header = extended + _padded(pax) + header
        yield self._count(header)
        if size:
            for piece in content:
                yield self._count(piece)
            if padding := -size % RECORD_BYTES:
                yield self._count(bytes(padding))

    def end(self) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        tail = BLOCK_BYTES - self._at % BLOCK_BYTES
        yield bytes(tail if tail >= 2 * RECORD_BYTES else tail + BLOCK_BYTES)

    def _count(self, data: bytes) -> bytes:
        self._at += len(data)
        return data

    def _record(
        self, name: bytes, mode: int, size: int, kind: bytes, *, link: bytes = b"", prefix: bytes = b""
    ) -> bytes:
        size = size if size <= _MAX_OCTAL_SIZE else 0
        before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, 0, 0, size, self._modified)
        after = b"%b%bustar\00000%b%b%07o\0%07o\0%b" % (
            kind,
            link.ljust(100, b"\0"),
            b"root".ljust(32, b"\0"),
            b"root".ljust(32, b"\0"),
            0,
            0,
            prefix.ljust(155, b"\0"),
        )
        checksum = sum(before) + 8 * ord(" ") + sum(after)
        return _padded(before + b"%07o\0" % checksum + after)


def _tar_mode(member: Member, size: int) -> tuple[int, int, bytes]:
    if member.is_directory:
        return 0o777 & ~UMASK, 0, b"5"
    if member.is_symlink:
        return 0o777, 0, b"2"
    return (0o777 if member.mode & 0o100 else 0o666) & ~UMASK, size, b"0"


def _split(path: bytes) -> tuple[bytes | None, bytes]:
    """A path as ustar's name and prefix; no name where it does not fit them."""
    if len(path) <= 100:
        return path, b""
    end = min(len(path) - path.endswith(b"/"), 155)
    while end > 0:
        end -= 1
        if path[end : end + 1] == b"/":
            break
    rest = path[end + 1 :]
    return (rest, path[:end]) if end > 0 and len(rest) <= 100 else (None, b"")


def _pax_record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % RECORD_BYTES)


class GzippedTar(ArchiveFormat):
    """A tar file, compressed."""

    def __init__(self, tar: Tar, level: int) -> None:
        self._tar = tar
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def begin(self) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        return self._compressed(self._tar.begin())

    def add(self, member: Member, content: Iterator[bytes]) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        return self._compressed(self._tar.add(member, content))

    def end(self) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        yield from self._compressed(self._tar.end())
        yield self._deflate.flush()

    def _compressed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if data := self._deflate.compress(piece):
                yield data


class Zip(ArchiveFormat):
    """A zip file; its comment is the commit's id."""

    def __init__(self, commit: ObjectId | None, modified: int, level: int) -> None:
        self._sink = _Sink()
        self._file = zipfile.ZipFile(self._sink, "w", compresslevel=level)
        self._file.comment = b"" if commit is None else commit.hex().encode()
        self._stored = level == 0
        when = gmtime(modified)[:6]
        self._time = when if 1980 <= when[0] <= 2107 else (1980, 1, 1, 0, 0, 0)  # what zip can say

    def begin(self) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        return iter(())

    def add(self, member: Member, content: Iterator[bytes]) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        entry = zipfile.ZipInfo(member.path.decode("utf-8", "surrogateescape"), self._time)
        entry.create_system = 3
        entry.external_attr = _zip_mode(member) << 16 | (0x10 if member.is_directory else 0)
        entry.file_size = member.size
        plain = self._stored or member.is_directory or member.is_symlink
        entry.compress_type = zipfile.ZIP_STORED if plain else zipfile.ZIP_DEFLATED
        with self._file.open(entry, "w", force_zip64=member.size >= zipfile.ZIP64_LIMIT) as target:
            for piece in content:
                target.write(piece)
                yield from self._sink.taken()
        yield from self._sink.taken()

    def end(self) -> Iterator[bytes]:
        """See :class:`ArchiveFormat`."""
        self._file.close()
        yield from self._sink.taken()


def _zip_mode(member: Member) -> int:
    if member.is_directory:
        return 0o040755
    if member.is_symlink:
        return MODE_SYMLINK | 0o777
    return 0o100755 if member.mode & 0o100 else 0o100644


class _Sink(io.RawIOBase):
    """A file that cannot seek, emptied as it fills."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer", /) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> Iterator[bytes]:
        data = b"".join(self._parts)
        self._parts.clear()
        if data:
            yield data
