"""Names that a file system takes for one of Git's own, spelled in thousands of ways and compared with git fsck."""

import random
from pathlib import Path

import pytest

from gitserver.git.dot_names import is_dotgit, is_gitattributes, is_gitmodules
from gitserver.git.objects import Kind
from tests.unit.git.pack_forge import forge, git_findings, oid, tree, whole

_BLOB = oid(Kind.BLOB, b"x")
_STEMS = (
    b".git", b".GIT", b".gIt", b"git~1", b"GIT~1", b"git~2", b".gitmodules", b".GitModules", b"gitmod~1",
    b"GITMOD~4", b"gitmod~5", b"gi7eba~1", b"GI7EB~12", b"gi7e~123", b"g~123456", b"~1234567", b"~0234567",
    b"gi7ebb~1", b"gi7d29~1", b".gitattributes", b".GITATTRIBUTES", b"gitatt~1", b"gitatt~3", b"gitatt~9",
    b".gitignore", b"gitign~1", b".gi", b".gitm",
)  # fmt: skip
_PIECES = (
    b" ", b".", b". ", b"\n", b"\t", b":", b"::$DATA", b":x", b"\\", b"\\x", b"x", b"~1", b"\xff", b"\xe2\x80",
    b"\xed\xa0\x80", b"\xe2\x80\x8c", b"\xe2\x80\x8f", b"\xe2\x80\x90", b"\xe2\x80\xaa", b"\xe2\x81\xaf",
    b"\xef\xbb\xbf", b"\xef\xbf\xbf", b"\xef\xbf\xbe", b"\xc0\xae", b"\xf4\x90\x80\x80", b"\xc4\xb0",
    b"\xe2\x84\xaa", b"\xf0\x9f\x98\x80",
)  # fmt: skip


def spellings(count: int, seed: int) -> list[bytes]:
    """Stems with pieces put into them, some twice."""
    chance = random.Random(seed)
    names = set(_STEMS)
    while len(names) < count:
        name = chance.choice(_STEMS)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.choice((0, len(name), len(name), chance.randrange(len(name) + 1)))
            name = name[:at] + chance.choice(_PIECES) + name[at:]
        if chance.random() < 0.15:
            name = chance.choice((b"sub\\", b"x\\y\\", b"\\")) + name
        names.add(name)
    return sorted(names)


@pytest.mark.parametrize("mode", [b"120000", b"40000"])
def test_each_of_three_thousand_spellings_is_judged_as_git_judges_it(tmp_path: Path, mode: bytes) -> None:
    empty_tree = oid(Kind.TREE, b"")
    target = empty_tree if mode == b"40000" else _BLOB
    trees = {name: tree((mode, name, target)) for name in spellings(3000, seed=11)}
    objects = [whole(Kind.BLOB, b"x"), whole(Kind.TREE, b""), *(whole(Kind.TREE, data) for data in trees.values())]

    found = git_findings(tmp_path, forge(objects))

    theirs = {name: found.get(oid(Kind.TREE, data), set()) for name, data in trees.items()}
    for name, messages in theirs.items():
        assert is_dotgit(name) == ("hasDotgit" in messages), name
        if mode == b"120000":
            assert is_gitmodules(name) == ("gitmodulesSymlink" in messages), name


def test_a_gitattributes_file_is_recognised_by_the_names_that_git_knows_it_by(tmp_path: Path) -> None:
    # each name's file is another one, and its line is too long: git names the file whose name it recognised
    blobs = {name: b"%05d" % number + b"x" * 2048 for number, name in enumerate(spellings(1500, seed=12))}
    objects = [whole(Kind.BLOB, blob) for blob in blobs.values()]
    objects += [whole(Kind.TREE, tree((b"100644", name, oid(Kind.BLOB, blob)))) for name, blob in blobs.items()]

    found = git_findings(tmp_path, forge(objects))

    for name, blob in blobs.items():
        assert is_gitattributes(name) == ("gitattributesLineLength" in found.get(oid(Kind.BLOB, blob), set())), name
