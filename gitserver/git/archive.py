"""upload-archive: a client asks for a tree as a tar or zip file (``git archive --remote``).

Only refs may be named, and paths behind a ref, as with git's ``uploadArchive.allowUnreachable=false``.
``export-ignore`` and ``export-subst`` attributes are not looked at.

Source: git-upload-archive(1), git-archive(1).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import time

from gitserver.core.errors import Failure, Invalid, NotFound, TooMuch
from gitserver.git.graph import CommitGraph
from gitserver.git.objects import MODE_GITLINK, MODE_TREE, Kind, ObjectId, TreeEntry, tree_entries
from gitserver.git.protocol import (
    BAND_DATA,
    BAND_ERROR,
    FLUSH_PACKET,
    PacketReader,
    Reader,
    band,
    pkt,
    printable,
)
from gitserver.git.repository import Repository
from gitserver.git.store import ObjectStore
from gitserver.git.tar import ArchiveFormat, GzippedTar, Member, Tar, Zip
from gitserver.git.upload_request import Metered
from gitserver.git.wants import VisibleRefs

_PIECE_BYTES = 65_000  # of an archive, before it is framed
_DEFAULT_LEVEL = -1


@dataclass(frozen=True)
class ArchiveLimits:
    """Caps on one request for an archive."""

    arguments: int = 64  # as many as git's own server takes
    request_bytes: int = 256 * 1024
    prefix_bytes: int = 4096
    depth: int = 256  # of nested trees


class ArchiveRefused(Invalid):
    """The request for an archive cannot be understood."""


class NoSuchRef(NotFound):
    """The archive asked for is of something that is not behind a ref."""


@dataclass
class _Asked:
    name: bytes = b""
    format: str = "tar"
    prefix: bytes = b""
    level: int = _DEFAULT_LEVEL
    paths: list[bytes] = field(default_factory=list)
    list_formats: bool = False


@dataclass(frozen=True)
class _Treeish:
    tree: ObjectId
    commit: ObjectId | None
    modified: int  # seconds since 1970


class UploadArchive:
    """One client's request for an archive from one opened repository, which it closes."""

    def __init__(self, repository: Repository, limits: ArchiveLimits, now: Callable[[], float] = time) -> None:
        self._repository = repository
        self._store: ObjectStore = repository.objects
        self._visible = VisibleRefs(repository.refs)
        self._graph = CommitGraph(self._store)
        self._limits = limits
        self._now = now  # the modification time of trees that belong to no commit

    def advertise(self) -> Iterator[bytes]:
        """Nothing: the client speaks first."""
        return iter(())

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:  # noqa: ARG002  # as every conversation
        """Answer the request.

        Raises:
            Failure: after it was told on band 3.
        """
        begun = False
        try:
            asked = self._asked(PacketReader(Metered(stream, self._limits.request_bytes)))
            yield pkt(b"ACK\n") + FLUSH_PACKET
            begun = True
            for piece in _gathered(self._archive(asked)):
                yield from band(BAND_DATA, piece)
            yield FLUSH_PACKET
        except Failure as failure:
            if not begun:
                yield pkt(b"ACK\n") + FLUSH_PACKET
            yield from band(BAND_ERROR, f"fatal: {failure}\n".encode())
            yield FLUSH_PACKET
            raise

    def close(self) -> None:
        """Let go of the repository."""
        self._repository.close()

    def _asked(self, reader: PacketReader) -> _Asked:
        words: list[bytes] = []
        for line in reader.lines():
            if not line.startswith(b"argument "):
                raise ArchiveRefused("'argument' token or flush expected")
            words.append(line.removeprefix(b"argument "))
            if len(words) > self._limits.arguments:
                raise TooMuch(f"no more than {self._limits.arguments} arguments may be sent")
        return _read_arguments(words, self._limits)

    def _archive(self, asked: _Asked) -> Iterator[bytes]:
        if asked.list_formats:
            yield "".join(f"{name}\n" for name in _FORMATS).encode()
            return
        treeish = self._treeish(asked.name)
        archive = _FORMATS[asked.format](treeish, asked.level)
        yield from archive.begin()
        for member, content in self._members(treeish, asked):
            yield from archive.add(member, content)
        yield from archive.end()

    def _treeish(self, name: bytes) -> _Treeish:
        short, colon, path = name.partition(b":")
        found = self._visible.find_short(short)
        oid = self._visible.find(found[0]) if found else None
        if oid is None:
            raise NoSuchRef(f"no such ref: {printable(short[:200])}")
        end = self._graph.peel(oid)
        commit, modified, tree = None, int(self._now()), end.oid
        if end.kind is Kind.COMMIT:
            links = self._graph.links(end.oid)
            commit, modified, tree = end.oid, links.committed, links.tree
        elif end.kind is not Kind.TREE:
            raise NoSuchRef(f"not a tree object: {printable(name[:200])}")
        if colon:
            tree = self._subtree(tree, path)
        return _Treeish(tree, commit if not colon else None, modified if not colon else int(self._now()))

    def _subtree(self, tree: ObjectId, path: bytes) -> ObjectId:
        for part in filter(None, path.split(b"/")):
            entries = [entry for entry in self._entries(tree) if entry.name == part and entry.mode == MODE_TREE]
            if not entries:
                raise NoSuchRef(f"not a tree object: {printable(path[:200])}")
            tree = entries[0].oid
        return tree

    def _entries(self, tree: ObjectId) -> list[TreeEntry]:
        return list(tree_entries(self._store.read(tree)[1]))

    def _members(self, treeish: _Treeish, asked: _Asked) -> Iterator[tuple[Member, Iterator[bytes]]]:
        if asked.prefix.endswith(b"/"):
            yield Member(asked.prefix, MODE_TREE, treeish.tree, 0), iter(())
        matched: set[bytes] = set()
        for path, entry in self._walk(treeish.tree, b"", asked.paths, matched, 0):
            if len(matched) < len(asked.paths):
                matched.update(wanted for wanted in asked.paths if _is_under(path, wanted))
            whole = asked.prefix + path
            if entry.mode in (MODE_TREE, MODE_GITLINK):
                yield Member(whole + b"/", entry.mode, entry.oid, 0), iter(())
            else:
                _, size, content = self._store.stream(entry.oid)
                yield Member(whole, entry.mode, entry.oid, size), content
        for wanted in asked.paths:
            if wanted not in matched:
                raise NoSuchRef(f"pathspec '{printable(wanted[:200])}' did not match any files")

    def _walk(
        self, tree: ObjectId, base: bytes, paths: list[bytes], matched: set[bytes], depth: int
    ) -> Iterator[tuple[bytes, TreeEntry]]:
        """Entries that *paths* name or that lie under them, and the directories above those."""
        if depth > self._limits.depth:
            raise TooMuch(f"trees are nested more than {self._limits.depth} deep")
        for entry in self._entries(tree):
            path = base + entry.name
            chosen = not paths or any(_is_under(path, wanted) for wanted in paths)
            if entry.mode != MODE_TREE:
                if chosen:
                    yield path, entry
                continue
            if not chosen and not any(wanted.startswith(path + b"/") for wanted in paths):
                continue
            below = self._walk(entry.oid, path + b"/", paths, matched, depth + 1)
            if chosen:
                yield path, entry
                yield from below
            elif (first := next(below, None)) is not None:
                yield path, entry
                yield first
                yield from below


def _is_under(path: bytes, wanted: bytes) -> bool:
    return path == wanted or path.startswith(wanted + b"/") or wanted == b""


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces."""
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


_FORMATS: dict[str, Callable[[_Treeish, int], ArchiveFormat]] = {
    "tar": lambda treeish, _: Tar(treeish.commit, treeish.modified),
    "tgz": lambda treeish, level: GzippedTar(Tar(treeish.commit, treeish.modified), level),
    "tar.gz": lambda treeish, level: GzippedTar(Tar(treeish.commit, treeish.modified), level),
    "zip": lambda treeish, level: Zip(treeish.commit, treeish.modified, level),
}


def _read_arguments(words: list[bytes], limits: ArchiveLimits) -> _Asked:
    asked = _Asked()
    plain: list[bytes] = []
    options = True
    for word in words:
        if options and word == b"--":
            options = False
        elif options and word.startswith(b"-") and len(word) > 1:
            _read_option(word, asked)
        else:
            plain.append(word)
    if len(asked.prefix) > limits.prefix_bytes:
        raise TooMuch(f"a prefix may be {limits.prefix_bytes} bytes long")
    if not plain and not asked.list_formats:
        raise ArchiveRefused("a tree, a commit or a ref has to be named")
    asked.name, asked.paths = (plain[0], [_path(word) for word in plain[1:]]) if plain else (b"", [])
    return asked


def _read_option(word: bytes, asked: _Asked) -> None:
    name, _, value = word.partition(b"=")
    if name == b"--format":
        asked.format = printable(value)
        if asked.format not in _FORMATS:
            raise ArchiveRefused(f"Unknown archive format '{asked.format[:60]}'")
    elif name == b"--prefix":
        asked.prefix = value
    elif word in (b"-l", b"--list"):
        asked.list_formats = True
    elif _LEVEL.fullmatch(word):
        asked.level = int(word[1:])
    elif word not in (b"-v", b"--verbose"):
        raise ArchiveRefused(f"Unexpected option in a remote archive: {printable(word[:60])}")


def _path(word: bytes) -> bytes:
    if _MAGIC.search(word):
        raise ArchiveRefused(f"only plain paths can be asked for, without patterns: '{printable(word[:200])}'")
    parts = [part for part in word.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ArchiveRefused(f"'{printable(word[:200])}' is outside the repository")
    return b"/".join(parts)


_LEVEL = re.compile(rb"-[0-9]")
_MAGIC = re.compile(rb"^:|[*?\[\\]")
