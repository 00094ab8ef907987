"""Whether an object is one that Git would accept: the checks of ``git index-pack --strict``.

Pure: bytes in, findings out. A tree in good order is recognised by a few regular expressions over its whole bytes;
only one that looks odd is read entry by entry.

Source: git-fsck(1), "fsck-msgs"; severities as ``receive.fsckObjects`` has them, where warnings count as errors and
what Git calls info is let pass.
"""

import operator
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from gitserver.core.errors import Invalid
from gitserver.git.dot_names import is_dotgit, is_gitattributes, is_gitmodules
from gitserver.git.limits import LimitReached, PackLimits
from gitserver.git.objects import (
    KIND_OF_WORD,
    MODE_TREE,
    OID_BYTES,
    Kind,
    ObjectId,
    TreeEntry,
)

_MODE_FILE = 0o100000
_MODE_SYMLINK = 0o120000


class FsckRefused(Invalid):
    """An object breaks a rule of ``git fsck``."""

    def __init__(self, oid: ObjectId, finding: "Finding") -> None:
        super().__init__(f"object {oid.hex()}: {finding.message_id}: {finding.what}")
        self.oid, self.message_id = oid, finding.message_id


@dataclass(frozen=True)
class Finding:
    """One broken rule: Git's name for it, and Git's words."""

    message_id: str
    what: str


# Without these an object cannot even be read; the first two are fatal to Git as well.
UNREADABLE = frozenset(
    (
        "nulInHeader",
        "unterminatedHeader",
        "badTree",
        "missingTree",
        "badTreeSha1",
        "badParentSha1",
        "missingObject",
        "badObjectSha1",
        "missingTypeEntry",
        "missingType",
        "badType",
        "badTag",  # not Git's own name: it refuses so short a tag without one
    )
)


MESSAGE_IDS = UNREADABLE | frozenset(
    (
        "badDate",
        "badDateOverflow",
        "badEmail",
        "badName",
        "badTimezone",
        "missingAuthor",
        "missingCommitter",
        "missingEmail",
        "missingNameBeforeEmail",
        "missingSpaceBeforeDate",
        "missingSpaceBeforeEmail",
        "missingTag",
        "missingTagEntry",
        "multipleAuthors",
        "nulInCommit",
        "zeroPaddedDate",
        "duplicateEntries",
        "fullPathname",
        "hasDot",
        "hasDotdot",
        "hasDotgit",
        "nullSha1",
        "treeNotSorted",
        "zeroPaddedFilemode",
        "gitmodulesBlob",
        "gitmodulesLarge",
        "gitmodulesMissing",
        "gitmodulesName",
        "gitmodulesPath",
        "gitmodulesSymlink",
        "gitmodulesUpdate",
        "gitmodulesUrl",
        "gitattributesBlob",
        "gitattributesLarge",
        "gitattributesLineLength",
        "gitattributesMissing",
    )
)


@dataclass(frozen=True)
class FsckPolicy:
    """Which rules are not insisted on, so that old histories can be pushed.

    Source: git-config(1), ``receive.fsck.<msg-id>`` and ``receive.fsck.skipList``.
    """

    ignored: frozenset[str] = frozenset()  # message ids, as Git spells them; those of UNREADABLE have no effect
    skipped: frozenset[bytes] = frozenset()  # ids of objects that may break any rule

    def first(self, oid: ObjectId, findings: Iterator[Finding]) -> Finding | None:
        """The first of *findings* about *oid* that is not ignored."""
        skipped = oid in self.skipped
        for finding in findings:
            if finding.message_id in UNREADABLE or not (skipped or finding.message_id in self.ignored):
                return finding
        return None


STRICT = FsckPolicy()


@dataclass
class TreeLinks:
    """What a tree names, sorted by what it takes them to be."""

    trees: Collection[bytes] = ()
    blobs: Collection[bytes] = ()
    gitmodules: set[bytes] = field(default_factory=set)
    gitattributes: set[bytes] = field(default_factory=set)


# --- commits and tags ---------------------------------------------------------------------------------------------


def check_commit(data: bytes, limits: PackLimits) -> Iterator[Finding]:
    """The rules that a commit breaks."""
    return chain(_headers(data, limits), _commit(data))


def check_tag(data: bytes, limits: PackLimits) -> Iterator[Finding]:
    """The rules that an annotated tag breaks."""
    return chain(_headers(data, limits), _tag(data))


def _headers(data: bytes, limits: PackLimits) -> Iterator[Finding]:
    end = data.find(b"\n\n")
    header = data if end < 0 else data[: end + 1]
    if len(header) > limits.header_bytes:
        raise LimitReached(f"an object has {len(header)} bytes of headers; at most {limits.header_bytes} are taken")
    if b"\0" in header:
        yield Finding("nulInHeader", f"unterminated header: NUL at offset {header.index(0)}")
    elif end < 0 and not data.endswith(b"\n"):
        yield Finding("unterminatedHeader", "unterminated header")


_TREE_LINE = re.compile(rb"[0-9a-fA-F]{40}\n")


def _commit(data: bytes) -> Iterator[Finding]:
    if not data.startswith(b"tree "):
        yield Finding("missingTree", "invalid format - expected 'tree' line")
        return
    if not _TREE_LINE.match(data, 5):
        yield Finding("badTreeSha1", "invalid 'tree' line format - bad sha1")
        return
    at = 46
    while data.startswith(b"parent ", at):
        if not _TREE_LINE.match(data, at + 7):
            yield Finding("badParentSha1", "invalid 'parent' line format - bad sha1")
            return
        at += 48
    authors = 0
    while data.startswith(b"author ", at):
        authors += 1
        finding, at = _person(data, at + 7)
        if finding:
            yield finding
    if authors != 1:
        yield (
            Finding("multipleAuthors", "invalid format - multiple 'author' lines")
            if authors
            else Finding("missingAuthor", "invalid format - expected 'author' line")
        )
    if not data.startswith(b"committer ", at):
        yield Finding("missingCommitter", "invalid format - expected 'committer' line")
        return
    finding, at = _person(data, at + 10)
    if finding:
        yield finding
    if b"\0" in data:
        yield Finding("nulInCommit", "NUL byte in the commit object body")


_LEAST_TAG_BYTES = 64


def _tag(data: bytes) -> Iterator[Finding]:
    if len(data) < _LEAST_TAG_BYTES:
        yield Finding("badTag", "too short for a tag")
        return
    if not data.startswith(b"object "):
        yield Finding("missingObject", "invalid format - expected 'object' line")
        return
    if not _TREE_LINE.match(data, 7):
        yield Finding("badObjectSha1", "invalid 'object' line format - bad sha1")
        return
    at = 48
    if not data.startswith(b"type ", at):
        yield Finding("missingTypeEntry", "invalid format - expected 'type' line")
        return
    end = data.find(b"\n", at)
    if end < 0:
        yield Finding("missingType", "invalid format - unexpected end after 'type' line")
        return
    if data[at + 5 : end] not in KIND_OF_WORD:
        yield Finding("badType", "invalid 'type' value")
        return
    at = end + 1
    if not data.startswith(b"tag ", at):
        yield Finding("missingTagEntry", "invalid format - expected 'tag' line")
        return
    end = data.find(b"\n", at)
    if end < 0:
        yield Finding("missingTag", "invalid format - unexpected end after 'type' line")
        return
    at = end + 1
    if data.startswith(b"tagger ", at):
        finding, at = _person(data, at + 7)
        if finding:
            yield finding


_BEFORE_EMAIL = re.compile(rb"[^<>\n]*")
_DATE = re.compile(rb"[ \t]*([0-9]+)")
_ZONE = re.compile(rb"[+-][0-9]{4}\n")
_MAX_DATE = (1 << 63) - 1


def _person(data: bytes, start: int) -> tuple[Finding | None, int]:
    """Check an author, committer or tagger; also tell where the next line begins."""
    end = data.find(b"\n", start)
    following = len(data) if end < 0 else end + 1
    return _ident(data[start:following]), following


def _ident(line: bytes) -> Finding | None:
    if line.startswith(b"<"):
        return Finding("missingNameBeforeEmail", "invalid author/committer line - missing space before email")
    at = _span(line, 0)
    if line[at : at + 1] == b">":
        return Finding("badName", "invalid author/committer line - bad name")
    if line[at : at + 1] != b"<":
        return Finding("missingEmail", "invalid author/committer line - missing email")
    if line[at - 1 : at] != b" ":
        return Finding("missingSpaceBeforeEmail", "invalid author/committer line - missing space before email")
    at = _span(line, at + 1)
    if line[at : at + 1] != b">":
        return Finding("badEmail", "invalid author/committer line - bad email")
    if line[at + 1 : at + 2] != b" ":
        return Finding("missingSpaceBeforeDate", "invalid author/committer line - missing space before date")
    return _when(line, at + 2)


def _span(line: bytes, at: int) -> int:
    match = _BEFORE_EMAIL.match(line, at)
    return match.end() if match else at


def _when(line: bytes, at: int) -> Finding | None:
    if line[at : at + 1] == b"0" and line[at + 1 : at + 2] != b" ":
        return Finding("zeroPaddedDate", "invalid author/committer line - zero-padded date")
    digits = _DATE.match(line, at)
    if digits is None:
        return Finding("badDate", "invalid author/committer line - bad date")
    seconds = digits.group(1).lstrip(b"0")
    if len(seconds) > 19 or int(seconds or b"0") > _MAX_DATE:
        return Finding("badDateOverflow", "invalid author/committer line - date causes integer overflow")
    if line[digits.end() : digits.end() + 1] != b" ":
        return Finding("badDate", "invalid author/committer line - bad date")
    if not _ZONE.match(line, digits.end() + 1):
        return Finding("badTimezone", "invalid author/committer line - bad time zone")
    return None


# --- trees --------------------------------------------------------------------------------------------------------

_ENTRIES = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
_LARGE_BYTES = 1 << 19  # a tree beyond this is read entry by entry, to save memory
_MODE_DIGITS = 7  # one more than any mode has; Git takes more, other readers do not
_TREE_MODE = b"40000"
_NO_FILES = (_TREE_MODE, b"160000")
_USUAL_MODES = (b"100644", b"40000", b"100755", b"100664", b"120000")
_SOUND_ENTRY = re.compile(rb"(100644|100755|120000|40000|160000) ([^\0/]+)\0((?!\0{20}).{20})", re.DOTALL)
# Every name that dot_names could recognise, and some more; names stand between NULs, those of directories with a slash.
_ODD_NAME = re.compile(  # in lower case
    rb"\0\.{1,2}/?(?=\0)|\.git(?=[\0. :/ma\x80-\xff])|~[1-9]|\\|\xe2\x80|\xe2\x81|\xef\xbb"
)


def check_tree(data: bytes) -> tuple[Iterator[Finding], TreeLinks]:
    """The rules that a tree breaks; and what the tree names, which is complete once those have been looked at."""
    links = TreeLinks()
    entries = _SOUND_ENTRY.findall(data) if len(data) <= _LARGE_BYTES else ()
    if not entries:
        return _by_entries(data, links), links
    modes, names, oids = zip(*entries, strict=True)
    directories = [number for number, mode in enumerate(modes) if mode == _TREE_MODE]
    keys = list(names)
    for number in directories:
        keys[number] += b"/"
    joined = b"\0%b\0" % b"\0".join(keys)
    entry_bytes = len(b"".join(modes)) + len(joined) - 1 - len(directories) + len(entries) * (OID_BYTES + 1)
    if entry_bytes != len(data) or not _in_order(keys, [names[number] for number in directories]):
        return _by_entries(data, links), links
    links.trees = [oids[number] for number in directories]
    files = set(modes).isdisjoint(_NO_FILES)
    links.blobs = oids if files else [oid for mode, oid in zip(modes, oids, strict=True) if mode not in _NO_FILES]
    return _odd_names(joined, entries, links), links


def _in_order(keys: list[bytes], directories: list[bytes]) -> bool:
    """Whether *keys* ascend, and no directory has a file's name. *keys* mark directories with a slash."""
    ascending = all(map(operator.lt, keys, islice(keys, 1, None)))
    return ascending and not any(keys[bisect_left(keys, name)] == name for name in directories)


def _odd_names(joined: bytes, entries: list[tuple[bytes, bytes, bytes]], links: TreeLinks) -> Iterator[Finding]:
    """Look at those entries of a tree in good order whose names may be dangerous. *joined*: all names, between NULs."""
    number, at = -1, 0
    for odd in _ODD_NAME.finditer(joined.lower()):
        begun = joined.count(0, at, odd.start() + 1)
        if begun:
            number, at = number + begun, odd.start() + 1
            mode, name, oid = entries[number]
            yield from _entry(mode, TreeEntry(int(mode, 8), name, ObjectId(oid)), links)


def _by_entries(data: bytes, links: TreeLinks) -> Iterator[Finding]:
    """Look at one entry after the other, holding no more than that."""
    before = b""
    files: list[bytes] = []  # whose names the last entry's begins with: a directory may be the twin of any of them
    trees: set[bytes] = set()
    blobs: set[bytes] = set()
    links.trees, links.blobs = trees, blobs
    unsorted = twins = False
    at = 0
    while at < len(data):
        match = _ENTRIES.match(data, at)
        if match is None or len(match.group(1)) > _MODE_DIGITS:
            yield Finding("badTree", "cannot be parsed as a tree")
            return
        at = match.end()
        mode, name, oid = match.groups()
        if mode in _USUAL_MODES and any(oid) and not _ODD_NAME.search(b"\0%b\0" % name.lower()) and b"/" not in name:
            (trees if mode == _TREE_MODE else blobs).add(oid)
        else:
            entry = TreeEntry(int(mode, 8), name, ObjectId(oid))
            yield from _entry(mode, entry, links)
            if _is_directory(entry.mode):
                trees.add(oid)
            elif entry.mode & 0o170000 in (_MODE_FILE, _MODE_SYMLINK):
                blobs.add(oid)
        directory = _is_directory(int(mode, 8))
        key = name + b"/" if directory else name
        while files and not key.startswith(files[-1]):
            files.pop()
        unsorted = unsorted or key < before
        twins = twins or key == before or (directory and name in files)
        before = key
        if not directory:
            files.append(name)
    if unsorted:
        yield Finding("treeNotSorted", "not properly sorted")
    if twins:
        yield Finding("duplicateEntries", "contains duplicate file entries")


def _entry(mode: bytes, entry: TreeEntry, links: TreeLinks) -> Iterator[Finding]:
    name = entry.name
    if not any(entry.oid):
        yield Finding("nullSha1", "contains entries pointing to null sha1")
    if b"/" in name:
        yield Finding("fullPathname", "contains full pathnames")
    if name == b".":
        yield Finding("hasDot", "contains '.'")
    if name == b"..":
        yield Finding("hasDotdot", "contains '..'")
    if is_dotgit(name):
        yield Finding("hasDotgit", "contains '.git'")
    if mode.startswith(b"0"):
        yield Finding("zeroPaddedFilemode", "contains zero-padded file modes")
    symlink = entry.mode & 0o170000 == _MODE_SYMLINK
    if is_gitmodules(name):
        if symlink:
            yield Finding("gitmodulesSymlink", ".gitmodules is a symbolic link")
        links.gitmodules.add(entry.oid)
    if is_gitattributes(name) and not symlink:
        links.gitattributes.add(entry.oid)


def _is_directory(mode: int) -> bool:
    return mode & 0o170000 == MODE_TREE


def check_object(
    kind: Kind, oid: ObjectId, data: bytes, limits: PackLimits, policy: FsckPolicy = STRICT
) -> TreeLinks | None:
    """Check a commit, tree or tag; tell what a tree names.

    Raises:
        FsckRefused: it breaks a rule that is insisted on.
        LimitReached: it has too many bytes of headers.
    """
    links = None
    if kind is Kind.TREE:
        findings, links = check_tree(data)
    else:
        findings = check_commit(data, limits) if kind is Kind.COMMIT else check_tag(data, limits)
    finding = policy.first(oid, findings)
    if finding:
        raise FsckRefused(oid, finding)
    return links
