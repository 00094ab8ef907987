"""Git's object model: ids, kinds, and the links that an object's bytes contain.

Inside ``git/`` an object id is its 20 raw bytes; hexadecimal appears only on the wire and in messages.

Source: gitformat-pack(5), "Pro Git" 10.2 (object storage).
"""

import re
from binascii import unhexlify
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha1
from typing import NewType

from gitserver.core.errors import Invalid, Unavailable

ObjectId = NewType("ObjectId", bytes)

OID_BYTES = 20
ZERO_OID = ObjectId(bytes(OID_BYTES))

MODE_TREE = 0o040000
MODE_GITLINK = 0o160000


class Kind(IntEnum):
    """An object's kind, by its number in a pack."""

    COMMIT = 1
    TREE = 2
    BLOB = 3
    TAG = 4

    @property
    def word(self) -> bytes:
        """The kind as it is spelled in object headers, tags and filters."""
        return _WORDS[self]


_WORDS = {Kind.COMMIT: b"commit", Kind.TREE: b"tree", Kind.BLOB: b"blob", Kind.TAG: b"tag"}
KIND_OF_WORD = {word: kind for kind, word in _WORDS.items()}


class ObjectMissing(Unavailable):
    """A repository does not hold an object that it should hold."""

    code = "CommitDoesNotExistException"

    def __init__(self, oid: bytes) -> None:
        super().__init__(f"object {oid.hex()} is missing")
        self.oid = oid


class ObjectMalformed(Invalid):
    """An object's bytes cannot be understood."""

    def __init__(self, what: str) -> None:
        super().__init__(what)


def object_id(kind: Kind, data: bytes) -> ObjectId:
    """The SHA-1 of an object: of its header and its bytes."""
    digest = sha1(b"%s %d\0" % (_WORDS[kind], len(data)), usedforsecurity=False)
    digest.update(data)
    return ObjectId(digest.digest())


def oid_from_hex(text: bytes) -> ObjectId:
    """The id that 40 lower-case hexadecimal digits spell.

    Raises:
        ObjectMalformed: *text* is anything else.
    """
    if not _HEX.fullmatch(text):
        raise ObjectMalformed(f"{text[:60].decode('ascii', 'replace')!r} is not an object id")
    return ObjectId(unhexlify(text))


_HEX = re.compile(rb"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class CommitLinks:
    """What a commit says that a walk needs."""

    tree: ObjectId
    parents: tuple[ObjectId, ...]
    committed: int  # seconds since 1970, UTC; 0 where the commit has no readable date


_COMMIT_LINKS = re.compile(rb"tree ([0-9a-fA-F]{40})\n((?:parent [0-9a-fA-F]{40}\n)*)")
_COMMITTED = re.compile(rb"\ncommitter [^\n]*?> (\d{1,18}) [+-]\d+\n")


def commit_links(data: bytes) -> CommitLinks:
    """Read a commit's tree, parents and committer date.

    Raises:
        ObjectMalformed: there is no tree line at the beginning.
    """
    match = _COMMIT_LINKS.match(data)
    if match is None:
        raise ObjectMalformed("a commit does not begin with its tree")
    block = match.group(2)
    parents = tuple(ObjectId(unhexlify(block[at + 7 : at + 47])) for at in range(0, len(block), 48))
    when = _COMMITTED.search(data, match.end() - 1)
    return CommitLinks(ObjectId(unhexlify(match.group(1))), parents, int(when.group(1)) if when else 0)


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One line of a tree."""

    mode: int
    name: bytes
    oid: ObjectId


_TREE_ENTRY = re.compile(rb"([0-7]{1,7}) ([^\0]+)\0(.{20})", re.DOTALL)


def tree_entries(data: bytes) -> Iterator[TreeEntry]:
    """Read a tree's entries in their order.

    Raises:
        ObjectMalformed: the bytes are not a sequence of whole entries.
    """
    at = 0
    while at < len(data):
        match = _TREE_ENTRY.match(data, at)
        if match is None:
            raise ObjectMalformed("a tree has an entry that cannot be read")
        yield TreeEntry(int(match.group(1), 8), match.group(2), ObjectId(match.group(3)))
        at = match.end()


@dataclass(frozen=True, slots=True)
class TagLinks:
    """What an annotated tag points at."""

    target: ObjectId
    kind: Kind


_TAG_LINKS = re.compile(rb"object ([0-9a-fA-F]{40})\ntype (commit|tree|blob|tag)\n")


def tag_links(data: bytes) -> TagLinks:
    """Read a tag's target.

    Raises:
        ObjectMalformed: the tag does not begin with an object and a type line.
    """
    match = _TAG_LINKS.match(data)
    if match is None:
        raise ObjectMalformed("a tag does not begin with its object and type")
    return TagLinks(ObjectId(unhexlify(match.group(1))), KIND_OF_WORD[match.group(2)])
