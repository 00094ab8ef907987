"""The rules of git fsck: each broken on purpose, and judged as ``git index-pack --strict`` judges it."""

from pathlib import Path

import pytest

from gitserver.git.fsck import FsckPolicy, check_commit, check_tag, check_tree
from gitserver.git.limits import LimitReached, PackLimits
from gitserver.git.objects import Kind
from tests.unit.git.pack_forge import (
    PERSON,
    GitJudge,
    closed,
    forge,
    git_findings,
    oid,
    server_verdict,
    tree,
    whole,
)

LIMITS = PackLimits()
BLOB = oid(Kind.BLOB, b"x")
FILE = (b"100644", b"x", BLOB)
TREE = tree(FILE)
TREE_ID = oid(Kind.TREE, TREE)
PARENT = b"tree %s\nauthor %s\ncommitter %s\n\nfirst\n" % (TREE_ID.hex().encode(), PERSON, PERSON)
PARENT_ID = oid(Kind.COMMIT, PARENT)

_HEX_TREE = TREE_ID.hex().encode()
_HEX_PARENT = PARENT_ID.hex().encode()
_TREE = b"tree %s\n" % _HEX_TREE
_AUTHOR = b"author %s\n" % PERSON
_COMMITTER = b"committer %s\n" % PERSON
_BODY = b"\na message\n"
_OBJECT = b"object %s\n" % _HEX_PARENT
_TAG = _OBJECT + b"type commit\ntag v1\n"


def commit_by(author: bytes) -> bytes:
    return _TREE + b"author " + author + b"\n" + _COMMITTER + _BODY


COMMITS: list[tuple[str | None, bytes]] = [
    (None, _TREE + _AUTHOR + _COMMITTER + _BODY),
    (None, _TREE + b"parent %s\n" % _HEX_PARENT + _AUTHOR + _COMMITTER + _BODY),
    (None, _TREE.upper().replace(b"TREE", b"tree") + _AUTHOR + _COMMITTER + _BODY),
    (None, _TREE + b"parent %s\n" % _HEX_PARENT.upper() + _AUTHOR + _COMMITTER + _BODY),
    (None, _TREE + _AUTHOR + _COMMITTER),
    (None, _TREE + _AUTHOR + _COMMITTER + b"encoding x\ngpgsig y\n" + _BODY),
    (None, _TREE + _AUTHOR + _COMMITTER + b"author again\n" + _BODY),
    (None, commit_by(b" <> 0 +0000")),
    (None, commit_by(b"A \xff <\x01> 9223372036854775807 -9999")),
    (None, commit_by(b"A <a@b>  12 +0000")),
    (None, commit_by(b"A <a@b> \t 012 +0000")),
    ("nulInHeader", _TREE + b"author A\0 <a@b> 1 +0000\n" + _COMMITTER + _BODY),
    ("unterminatedHeader", _TREE + _AUTHOR + b"committer %s" % PERSON),
    ("nulInCommit", _TREE + _AUTHOR + _COMMITTER + b"\nnul \0 here\n"),
    ("missingAuthor", _TREE + _COMMITTER + _BODY),
    ("multipleAuthors", _TREE + _AUTHOR + _AUTHOR + _COMMITTER + _BODY),
    ("missingCommitter", _TREE + _AUTHOR + _BODY),
    ("missingCommitter", _TREE + _AUTHOR + b"x y\n" + _COMMITTER + _BODY),
    ("missingAuthor", _TREE + b"x y\n" + _AUTHOR + _COMMITTER + _BODY),
    ("missingAuthor", _TREE + _TREE + _AUTHOR + _COMMITTER + _BODY),
    ("missingNameBeforeEmail", commit_by(b"<a@b> 1 +0000")),
    ("badName", commit_by(b"A> <a@b> 1 +0000")),
    ("missingEmail", commit_by(b"A 1 +0000")),
    ("missingEmail", commit_by(b"")),
    ("missingSpaceBeforeEmail", commit_by(b"A<a@b> 1 +0000")),
    ("badEmail", commit_by(b"A <a<b> 1 +0000")),
    ("badEmail", commit_by(b"A <a@b")),
    ("missingSpaceBeforeDate", commit_by(b"A <a@b>1 +0000")),
    ("missingSpaceBeforeDate", commit_by(b"A <a@b>")),
    ("zeroPaddedDate", commit_by(b"A <a@b> 01 +0000")),
    ("zeroPaddedDate", commit_by(b"A <a@b> 0")),
    ("badDateOverflow", commit_by(b"A <a@b> 9223372036854775808 +0000")),
    ("badDateOverflow", commit_by(b"A <a@b> 18446744073709551616 +0000")),
    ("badDateOverflow", commit_by(b"A <a@b> %s +0000" % (b"9" * 60))),
    ("badDate", commit_by(b"A <a@b> x +0000")),
    ("badDate", commit_by(b"A <a@b> 1x +0000")),
    ("badDate", commit_by(b"A <a@b> 1")),
    ("badTimezone", commit_by(b"A <a@b> 1 0000")),
    ("badTimezone", commit_by(b"A <a@b> 1 +000")),
    ("badTimezone", commit_by(b"A <a@b> 1 +00000")),
    ("badTimezone", commit_by(b"A <a@b> 1 +0000 ")),
]

# What git refuses before it comes to fsck, so that it has no message id; ours is the one that `git fsck` would print.
UNPARSED: list[tuple[str, Kind, bytes]] = [
    ("missingTree", Kind.COMMIT, _AUTHOR + _COMMITTER + _BODY),
    ("unterminatedHeader", Kind.COMMIT, b""),
    ("badTreeSha1", Kind.COMMIT, b"tree 1234\n" + _AUTHOR + _COMMITTER + _BODY),
    ("badTreeSha1", Kind.COMMIT, b"tree %s \n" % _HEX_TREE + _AUTHOR + _COMMITTER + _BODY),
    ("badParentSha1", Kind.COMMIT, _TREE + b"parent 1234\n" + _AUTHOR + _COMMITTER + _BODY),
    ("badParentSha1", Kind.COMMIT, _TREE + b"parent %s\r\n" % _HEX_PARENT + _AUTHOR + _COMMITTER + _BODY),
    ("missingObject", Kind.TAG, b"type commit\ntag v1\n\n" + b"x" * 60 + b"\n"),
    ("badObjectSha1", Kind.TAG, b"object 1234\ntype commit\ntag v1\n\n" + b"x" * 60 + b"\n"),
    ("missingTypeEntry", Kind.TAG, _OBJECT + b"tag v1\n\n" + b"x" * 60 + b"\n"),
    ("badType", Kind.TAG, _OBJECT + b"type branch\ntag v1\n\nmessage\n"),
    ("badType", Kind.TAG, _OBJECT + b"type \ntag v1\n\nlong message\n"),
    ("missingTagEntry", Kind.TAG, _OBJECT + b"type commit\ntagger " + PERSON + b"\n\nmessage\n"),
    ("nulInHeader", Kind.TAG, _OBJECT + b"type com\0mit\ntag v1\n\nmessage\n"),
    ("badTag", Kind.TAG, b"object %s\ntype tag\ntag x\n" % _HEX_PARENT),
]

TAGS: list[tuple[str | None, bytes]] = [
    (None, _TAG + b"tagger " + PERSON + b"\n" + _BODY),
    (None, _TAG + _BODY),  # missingTaggerEntry is only information
    (None, _TAG + b"tagger " + PERSON + b"\nextra header\n" + _BODY),
    (None, _OBJECT + b"type commit\ntag a..b\n" + _BODY),  # badTagName as well
    (None, _OBJECT.upper().replace(b"OBJECT", b"object") + b"type commit\ntag v1\n" + _BODY),
    (None, _OBJECT + b"type commit\ntag \n" + _BODY),
    ("badEmail", _TAG + b"tagger A <a<b> 1 +0000\n" + _BODY),
    ("badDate", _TAG + b"tagger A <a@b> 1\n" + _BODY),
    ("unterminatedHeader", _TAG + b"tagger " + PERSON),
    ("nulInHeader", _TAG + b"\0\n" + _BODY),
]

TREES: list[tuple[str | None, bytes]] = [
    (None, b""),
    (None, tree(FILE)),
    (None, tree((b"100644", b"b.c", BLOB), (b"40000", b"b", TREE_ID), (b"100755", b"b0", BLOB))),
    (None, tree((b"100664", b"x", BLOB))),  # badFilemode is only information
    (None, tree((b"100600", b"x", BLOB))),
    (None, tree((b"20000", b"x", BLOB))),  # git takes a mode it does not know for a submodule's
    (None, tree((b"160000", b"module", bytes(19) + b"\1"))),
    (None, tree((b"120000", b".gitattributes", BLOB))),  # gitattributesSymlink is only information
    (None, tree((b"120000", b".gitignore", BLOB))),
    (None, tree((b"120000", b".mailmap", BLOB))),
    (None, tree((b"100644", b"\xff\\\n ", BLOB))),
    ("zeroPaddedFilemode", tree((b"0", b"x", BLOB))),
    ("zeroPaddedFilemode", tree((b"040000", b"x", TREE_ID))),
    ("zeroPaddedFilemode", tree((b"0100644", b"x", BLOB))),
    ("nullSha1", tree((b"100644", b"x", bytes(20)))),
    ("nullSha1", tree((b"160000", b"x", bytes(20)))),
    ("fullPathname", tree((b"100644", b"a/b", BLOB))),
    ("fullPathname", tree((b"100644", b"/", BLOB))),
    ("hasDot", tree((b"100644", b".", BLOB))),
    ("hasDot", tree((b"40000", b".", TREE_ID))),
    ("hasDotdot", tree((b"100644", b"..", BLOB))),
    ("hasDotdot", tree((b"40000", b"..", TREE_ID), FILE)),
    ("hasDotgit", tree((b"40000", b".git", TREE_ID))),
    ("hasDotgit", tree((b"100644", b".GiT", BLOB))),
    ("hasDotgit", tree((b"160000", b"git~1", BLOB))),
    ("hasDotgit", tree((b"100644", b".g\xe2\x80\x8cit", BLOB))),
    ("hasDotgit", tree((b"100644", b".git\xff", BLOB))),
    ("hasDotgit", tree((b"100644", b".git. .", BLOB))),
    ("hasDotgit", tree((b"100644", b".git::$INDEX_ALLOCATION", BLOB))),
    ("hasDotgit", tree((b"100644", b"sub\\.git", BLOB))),
    ("duplicateEntries", tree(FILE, FILE)),
    ("duplicateEntries", tree(FILE, (b"40000", b"x", TREE_ID))),
    ("duplicateEntries", tree(FILE, (b"100644", b"x.y", BLOB), (b"40000", b"x", TREE_ID))),
    ("treeNotSorted", tree((b"100644", b"y", BLOB), FILE)),
    ("treeNotSorted", tree((b"40000", b"b", TREE_ID), (b"100644", b"b.c", BLOB))),
    ("gitmodulesSymlink", tree((b"120000", b".gitmodules", BLOB))),
    ("gitmodulesSymlink", tree((b"120000", b"GITMOD~1", BLOB))),
    ("gitmodulesSymlink", tree((b"120000", b"a\\.gitmodules", BLOB))),
    ("gitmodulesBlob", tree((b"40000", b".gitmodules", TREE_ID))),
    ("gitattributesBlob", tree((b"40000", b".gitattributes", TREE_ID))),
    ("gitattributesMissing", tree((b"160000", b".gitattributes", bytes(19) + b"\1"))),
    ("badTree", tree((b"100644", b"", BLOB))),
    ("badTree", tree((b"", b"x", BLOB))),
    ("badTree", tree((b"10064a", b"x", BLOB))),
    ("badTree", tree((b"100648", b"x", BLOB))),
    ("badTree", tree(FILE)[:-1]),
    ("badTree", tree(FILE) + b"1"),
    ("badTree", tree(FILE) + b"100644 y\0"),
    ("badTree", tree((b"100644", b"y", b"short"))),
    ("badTree", b"\0" * 24),
    ("badTree", b"100644x\0" + BLOB),
]

CORPUS = (
    [(Kind.COMMIT, *case) for case in COMMITS]
    + [(Kind.TAG, *case) for case in TAGS]
    + [(Kind.TREE, *case) for case in TREES]
)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> GitJudge:
    return GitJudge(tmp_path_factory.mktemp("judge"))


def with_all_it_names(kind: Kind, data: bytes) -> bytes:
    """A pack in which *data* stands beside all that the corpus names."""
    objects = {(Kind.BLOB, b"x"), (Kind.TREE, TREE), (Kind.COMMIT, PARENT), (kind, data)}
    return closed(sorted(objects))


@pytest.mark.parametrize(("kind", "message_id", "data"), CORPUS)
def test_an_object_is_judged_as_git_judges_it(judge: GitJudge, kind: Kind, message_id: str | None, data: bytes) -> None:
    pack = with_all_it_names(kind, data)

    ours, theirs = server_verdict(pack), judge.verdict(pack)

    assert ours.message_ids == ((message_id,) if message_id else ()), ours.reason
    assert message_id is None or message_id in theirs.message_ids, theirs.reason
    assert ours.accepted == theirs.accepted == (message_id is None)


@pytest.mark.parametrize(("message_id", "kind", "data"), UNPARSED)
def test_an_object_that_git_cannot_even_parse_is_refused(
    judge: GitJudge, message_id: str, kind: Kind, data: bytes
) -> None:
    pack = with_all_it_names(kind, data)

    ours, theirs = server_verdict(pack), judge.verdict(pack)

    assert ours.message_ids == (message_id,)
    assert not theirs.accepted
    assert not theirs.message_ids


@pytest.mark.parametrize(
    ("message_id", "kind", "data"),
    [
        # git takes the next line's number for the date, and one with a sign
        ("badDate", Kind.COMMIT, _TREE + _AUTHOR + b"committer A <a@b> \n5 +0000\n" + _BODY),
        ("badDate", Kind.COMMIT, commit_by(b"A <a@b> +5 +0000")),
        ("badDate", Kind.COMMIT, commit_by(b"A <a@b> \v5 +0000")),
        # git says that the tagger's line is bad, and then forgets it because another header follows
        ("badEmail", Kind.TAG, _TAG + b"tagger A <a<b> 1 +0000\nextra header\n" + _BODY),
        # git fsck calls it an error; index-pack leaves it to its caller, and receive-pack does not ask
        ("gitmodulesMissing", Kind.TREE, tree((b"160000", b".gitmodules", bytes(19) + b"\1"))),
        # git reads a mode of any length, and takes it modulo 65536; other readers of trees fail
        ("badTree", Kind.TREE, tree((b"10100644", b"x", BLOB))),
        ("badTree", Kind.TREE, tree((b"1" * 40, b"x", BLOB))),
    ],
)
def test_what_git_lets_pass_by_mistake_is_refused_all_the_same(
    judge: GitJudge, message_id: str, kind: Kind, data: bytes
) -> None:
    pack = with_all_it_names(kind, data)

    ours, theirs = server_verdict(pack), judge.verdict(pack)

    assert ours.message_ids == (message_id,)
    assert theirs.accepted


def test_a_parent_named_in_capitals_must_be_there_too(judge: GitJudge) -> None:
    missing = b"parent " + b"ABCDEF0123" * 4 + b"\n"
    pack = closed([(Kind.BLOB, b"x"), (Kind.TREE, TREE), (Kind.COMMIT, _TREE + missing + _AUTHOR + _COMMITTER + _BODY)])

    ours, theirs = server_verdict(pack), judge.verdict(pack)

    assert ours.reason == "abcdef0123" * 4 + " is nowhere"
    assert not theirs.accepted


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.COMMIT, b"tree %s\n" % BLOB.hex().encode() + _AUTHOR + _COMMITTER + _BODY),
        (Kind.COMMIT, _TREE + b"parent %s\n" % _HEX_TREE + _AUTHOR + _COMMITTER + _BODY),
        (Kind.TREE, tree((b"40000", b"x", BLOB))),
        (Kind.TREE, tree((b"100644", b"x", TREE_ID))),
        (Kind.TREE, tree((b"120000", b"x", PARENT_ID))),
        (Kind.TAG, _OBJECT + b"type tree\ntag v1\n\nmessage\n"),
        (Kind.TAG, _OBJECT + b"type blob\ntag v1\n\nmessage\n"),
    ],
)
def test_an_object_taken_for_another_kind_is_refused(judge: GitJudge, kind: Kind, data: bytes) -> None:
    pack = with_all_it_names(kind, data)

    ours, theirs = server_verdict(pack), judge.verdict(pack)

    assert "object type mismatch" in ours.reason
    assert not theirs.accepted


def test_a_fast_look_at_a_tree_finds_what_a_slow_one_finds(tmp_path: Path) -> None:
    names = [b"a%d" % number for number in range(40)]
    odd = [b".git", b".", b"..", b"x\\.git", b"git~1", b".g\xe2\x80\x8dit", b"\xef\xbb\xbf.git", b"..x", b".x", b"a~1"]
    trees = [tree(*[(b"100644", name, BLOB) for name in sorted([*names, other])]) for other in odd]

    found = git_findings(tmp_path, forge(whole(Kind.TREE, data) for data in trees))

    for data in trees:
        ours = {finding.message_id for finding in check_tree(data)[0]}
        assert ours == found.get(oid(Kind.TREE, data), set())


def test_ten_megabytes_of_headers_are_refused() -> None:
    data = _TREE + _AUTHOR + _COMMITTER + b"x-header y\n" * 1_000_000 + _BODY

    with pytest.raises(LimitReached, match="bytes of headers"):
        list(check_commit(data, LIMITS))


def test_a_long_message_is_no_header() -> None:
    assert not list(check_commit(_TREE + _AUTHOR + _COMMITTER + b"\n" + b"line\n" * 1_000_000, LIMITS))
    assert not list(check_tag(_TAG + b"\n" + b"line\n" * 1_000_000, LIMITS))


def test_a_name_of_a_megabyte_of_spaces_and_backslashes_takes_no_time() -> None:
    for filling in (b" ", b"\\", b". ", b".git\\", b"~1", b".g", b"\xe2\x80\x8c", b"gi7eba~1"):
        data = tree((b"100644", filling * (1_000_000 // len(filling)) + b"x", BLOB))
        list(check_tree(data)[0])


def test_rules_that_an_operator_ignores_are_not_insisted_on() -> None:
    policy = FsckPolicy(ignored=frozenset(("zeroPaddedFilemode", "badTree")))
    padded, broken = tree((b"040000", b"x", TREE_ID)), b"not a tree"

    assert policy.first(oid(Kind.TREE, padded), check_tree(padded)[0]) is None
    assert policy.first(oid(Kind.TREE, broken), check_tree(broken)[0]) is not None


def test_a_large_tree_is_judged_like_a_small_one(judge: GitJudge) -> None:
    many = [(b"100644", b"f%06d" % number, BLOB) for number in range(25_000)]
    odd: list[tuple[str | None, bytes]] = [
        (None, tree(*many)),
        (None, tree(*many[:9], (b"40000", b"f000008.", TREE_ID), *many[9:])),
        ("hasDotgit", tree((b"100644", b".git", BLOB), *many)),
        ("hasDotgit", tree((b"100644", b"a\\.Git", BLOB), *many)),
        ("fullPathname", tree((b"100644", b"a/b", BLOB), *many)),
        ("nullSha1", tree((b"100644", b"a", bytes(20)), *many)),
        ("zeroPaddedFilemode", tree((b"040000", b"a", TREE_ID), *many)),
        ("treeNotSorted", tree(*many[:9], *many[5:])),
        ("duplicateEntries", tree(*many[:9], *many[8:])),
        (
            "duplicateEntries",
            tree(*many[:9], (b"100644", b"f000008.x", BLOB), (b"40000", b"f000008", TREE_ID), *many[9:]),
        ),
        ("badTree", tree(*many)[:-1]),
    ]

    for message_id, data in odd:
        pack = with_all_it_names(Kind.TREE, data)
        assert server_verdict(pack).message_ids == ((message_id,) if message_id else ())
        theirs = judge.verdict(pack)
        assert (message_id in theirs.message_ids) if message_id else theirs.accepted


def test_every_odd_name_of_a_tree_is_seen_though_others_stand_beside_it() -> None:
    neighbours = [b".", b"..", b".git", b".gitattributes", b".gitignore", b".gitmodules", b"a\\.git", b"b~1", b"z"]
    data = tree(*((b"100644", name, BLOB) for name in neighbours))

    findings, links = check_tree(data)

    assert {finding.message_id for finding in findings} == {"hasDot", "hasDotdot", "hasDotgit"}
    assert links.gitmodules == links.gitattributes == set(links.blobs) == {BLOB}


def test_a_tree_of_nothing_but_odd_names_takes_no_time() -> None:
    data = tree(*((b"100644", b"%06d~1" % number, BLOB) for number in range(13_000)))

    assert not list(check_tree(data)[0])
