"""What the server answers to each kind of push that goes wrong, at the HTTPS door.

The rows are those of the table "What each case must answer" in the design. Where git can produce a case, git does;
where it refuses to, a raw client sends the bytes.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from gitserver.git.rules import PushRules
from tests.house import House
from tests.scenarios.clients.smart_http import (
    CAPABILITIES,
    ZERO,
    Made,
    Wire,
    blob,
    commit,
    entry,
    entry_header,
    pack,
    push_body,
    raw_pack,
    raw_tree,
    tag,
    tree,
)

MAIN = "refs/heads/main"
ABSENT = "ab" * 20
MISSING = "missing necessary objects"

FILE = blob("hello\n")
ROOT = tree(file=FILE)
FIRST = commit(ROOT, message="First\n")
SECOND = commit(ROOT, FIRST, message="Second\n")
OTHER = commit(ROOT, message="Another history\n")


@pytest.fixture
def name(house: House) -> str:
    """A repository whose branch ``main`` is at the first of two commits; ``second`` is at the second."""
    made = house.repository()
    with Wire(house, made) as wire:
        commands = [(ZERO, FIRST.oid, MAIN), (ZERO, SECOND.oid, "refs/heads/second")]
        assert set(wire.push(commands, pack(FILE, ROOT, FIRST, SECOND)).refs.values()) == {"ok"}
    return made


@pytest.fixture
def wire(house: House, name: str) -> Iterator[Wire]:
    with Wire(house, name) as opened:
        yield opened


class Left:
    """What the server keeps: blob files, spooled files, and the rows of everything but the journal."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.before = self.now()

    def now(self) -> dict[str, object]:
        """It, as it is."""
        config = self._house.config
        rows = {}
        with self._house.services.database.reading() as tx:
            for table in ("blob", "git_pack", "git_ref", "git_repository", "repository", "data_key"):
                rows[table] = tx.scalar(select(func.count()).select_from(text(table)))
        files = {str(path) for folder in (config.blobs, config.spool) for path in folder.rglob("*") if path.is_file()}
        return {**rows, "files": files}

    def nothing(self) -> bool:
        """Whether all is as it was."""
        return self.before == self.now()


@pytest.fixture
def left(house: House, name: str) -> Left:
    return Left(house)


# The compare-and-swap


def test_a_push_that_lost_the_race_is_refused(wire: Wire, left: Left) -> None:
    third = commit(ROOT, SECOND, message="Third\n")

    report = wire.push([(SECOND.oid, third.oid, MAIN)], pack(third))

    assert report.unpack == "ok"
    assert "fetch first" in report.refs[MAIN]
    assert wire.refs()[MAIN] == FIRST.oid
    assert left.nothing()


def test_a_ref_that_exists_already_is_not_created(wire: Wire) -> None:
    report = wire.push([(ZERO, SECOND.oid, MAIN)], pack())

    assert report.refs[MAIN].startswith("stale info")
    assert wire.refs()[MAIN] == FIRST.oid


def test_with_one_stale_ref_an_atomic_push_moves_nothing(wire: Wire, left: Left) -> None:
    third = commit(ROOT, SECOND, message="Third\n")
    commands = [
        (SECOND.oid, third.oid, MAIN),
        (SECOND.oid, third.oid, "refs/heads/second"),
        (ZERO, third.oid, "refs/heads/new"),
    ]

    report = wire.push(commands, pack(third), capabilities=f"{CAPABILITIES} atomic")

    assert "ok" not in report.refs.values()
    assert report.refs["refs/heads/new"] == "atomic push failure"
    assert wire.refs() == {MAIN: FIRST.oid, "refs/heads/second": SECOND.oid}
    assert left.nothing()


def test_without_atomic_the_other_refs_move(wire: Wire) -> None:
    third = commit(ROOT, SECOND, message="Third\n")
    commands = [(SECOND.oid, third.oid, MAIN), (SECOND.oid, third.oid, "refs/heads/second")]

    report = wire.push(commands, pack(third))

    assert report.refs["refs/heads/second"] == "ok"
    assert wire.refs() == {MAIN: FIRST.oid, "refs/heads/second": third.oid}


def test_git_tells_that_it_must_fetch_first(house: House, name: str, wire: Wire, tmp_path: Path) -> None:
    house.git("clone", "-q", house.https_url(name), str(tmp_path / "clone"))
    house.commit(tmp_path / "clone", {"a": "b"})
    wire.push([(FIRST.oid, THIRD.oid, MAIN)], pack(THIRD))

    done = house.git("push", "origin", "main", cwd=tmp_path / "clone", check=False)

    assert done.returncode == 1
    assert "! [rejected]        main -> main (fetch first)" in done.stderr


@pytest.mark.parametrize("wrong", [SECOND.oid, ABSENT])
def test_a_delete_with_a_wrong_old_id_is_refused(wire: Wire, wrong: str) -> None:
    wire.push([(ZERO, FIRST.oid, "refs/heads/old")], pack())

    report = wire.push([(wrong, ZERO, "refs/heads/old")])

    assert report.refs["refs/heads/old"].startswith("stale info")
    assert wire.refs()["refs/heads/old"] == FIRST.oid


def test_a_ref_that_is_not_there_cannot_be_deleted(wire: Wire) -> None:
    report = wire.push([(FIRST.oid, ZERO, "refs/heads/nowhere")])

    assert report.refs["refs/heads/nowhere"].startswith("stale info")


def test_the_same_ref_twice_is_refused_both_times(wire: Wire) -> None:
    commands = [(FIRST.oid, SECOND.oid, MAIN), (SECOND.oid, FIRST.oid, MAIN)]

    report = wire.push(commands, pack())

    assert report.refs == {MAIN: "multiple updates for one ref"}
    assert wire.refs()[MAIN] == FIRST.oid


def test_a_branch_cannot_be_a_directory_of_another(wire: Wire) -> None:
    report = wire.push([(ZERO, FIRST.oid, "refs/heads/main/below"), (ZERO, FIRST.oid, "refs/heads/x")], pack())

    assert "cannot stand beside" in report.refs["refs/heads/main/below"]
    assert report.refs["refs/heads/x"] == "ok"


# Connectivity

MISSING_TREE = commit(tree(file=blob("gone")), FIRST)
MISSING_BLOB_TREE = tree(file=blob("gone, too"))
MISSING_BLOB = commit(MISSING_BLOB_TREE, FIRST)
MISSING_PARENT = commit(ROOT, ABSENT)


@pytest.mark.parametrize(
    ("new", "objects"),
    [
        (MISSING_TREE, (MISSING_TREE,)),
        (MISSING_BLOB, (MISSING_BLOB_TREE, MISSING_BLOB)),
        (MISSING_PARENT, (MISSING_PARENT,)),
    ],
    ids=["tree", "blob", "parent"],
)
def test_a_commit_that_lacks_something_is_refused(wire: Wire, left: Left, new: Made, objects: tuple[Made, ...]) -> None:
    report = wire.push([(FIRST.oid, new.oid, MAIN)], pack(*objects))

    assert report.refs[MAIN] == MISSING
    assert wire.refs()[MAIN] == FIRST.oid
    assert left.nothing()


def test_a_ref_to_an_object_that_nobody_has_is_refused(wire: Wire, left: Left) -> None:
    report = wire.push([(ZERO, ABSENT, "refs/heads/absent")], pack())

    assert report.refs["refs/heads/absent"] == MISSING
    assert left.nothing()


def test_a_tag_of_an_object_that_nobody_has_is_refused(wire: Wire, left: Left) -> None:
    lost = tag(commit(ROOT, message="Not sent\n"))

    report = wire.push([(ZERO, lost.oid, "refs/tags/v1")], pack(lost))

    assert report.refs["refs/tags/v1"] == MISSING
    assert left.nothing()


# What a branch may be


@pytest.mark.parametrize("target", [FILE, ROOT, tag(FIRST)], ids=["blob", "tree", "tag"])
def test_a_branch_points_at_a_commit_only(wire: Wire, left: Left, target: Made) -> None:
    report = wire.push([(ZERO, target.oid, "refs/heads/odd")], pack(target))

    assert report.refs["refs/heads/odd"] == "a branch can only point at a commit"
    assert left.nothing()


@pytest.mark.parametrize("target", [FILE, ROOT, tag(FIRST)], ids=["blob", "tree", "tag"])
def test_a_tag_points_at_anything(wire: Wire, target: Made) -> None:
    report = wire.push([(ZERO, target.oid, "refs/tags/odd")], pack(target))

    assert report.refs["refs/tags/odd"] == "ok"


@pytest.mark.parametrize(
    "ref",
    [
        b"refs/heads/" + FIRST.oid.encode(),
        b"refs/heads/-x",
        b"refs/heads/HEAD",
        b"refs/heads/caf\xe9",
        b"refs/heads/a..b",
        b"refs/heads/a.lock",
        b"refs/heads/.a",
        b"refs/heads/a//b",
        b"refs/heads/a@{1}",
        b"refs/heads/a b",
        b"refs/heads/a~1",
        b"refs/heads/",
        b"refs/heads/" + b"n" * 257,
        b"refs/stash",
        b"HEAD",
        b"heads/main",
        b"refs/../config",
    ],
)
def test_a_funny_name_is_refused(wire: Wire, left: Left, ref: bytes) -> None:
    answer = wire.post(push_body([(ZERO, FIRST.oid, ref)], pack()))

    assert b"ng " + ref + b" funny refname\n" in answer.body
    assert left.nothing()


@pytest.mark.parametrize("ref", ["refs/pull/1/head", "refs/internal/keep"])
def test_reserved_names_are_refused(wire: Wire, ref: str) -> None:
    report = wire.push([(ZERO, FIRST.oid, ref)], pack())

    assert report.refs[ref] == "reserved refname"


@pytest.mark.parametrize(
    "ref", ["refs/heads/" + "n" * 256, "refs/heads/naïve/日本語", "refs/notes/commits", "refs/x/y"]
)
def test_other_names_are_taken(wire: Wire, ref: str) -> None:
    report = wire.push([(ZERO, FIRST.oid, ref)], pack())

    assert report.refs[ref] == "ok"


# Trees and .gitmodules

TREES = {
    "hasDotgit": raw_tree(("100644", b".git", FILE.oid)),
    "hasDotgit of NTFS": raw_tree(("100644", b"git~1", FILE.oid)),
    "hasDotgit of HFS": raw_tree(("100644", b".g\xe2\x80\x8cit", FILE.oid)),
    "hasDotdot": raw_tree(("100644", b"..", FILE.oid)),
    "hasDot": raw_tree(("100644", b".", FILE.oid)),
    "badTree, of an empty name": raw_tree(("100644", b"", FILE.oid)),
    "fullPathname": raw_tree(("100644", b"a/b", FILE.oid)),
    "duplicateEntries": raw_tree(("100644", b"a", FILE.oid), ("100644", b"a", FILE.oid)),
    "treeNotSorted": raw_tree(("100644", b"b", FILE.oid), ("100644", b"a", FILE.oid)),
    "gitmodulesSymlink": raw_tree(("120000", b".gitmodules", FILE.oid)),
}


@pytest.mark.parametrize("rule", TREES)
def test_a_tree_that_breaks_a_rule_is_refused_by_the_rules_name(wire: Wire, left: Left, rule: str) -> None:
    bad = TREES[rule]
    new = commit(bad, FIRST)

    report = wire.push([(FIRST.oid, new.oid, MAIN)], pack(bad, new))

    assert rule.split()[0].rstrip(",") in report.unpack
    assert report.refs[MAIN] != "ok"
    assert left.nothing()


@pytest.mark.parametrize(
    ("rule", "modules"),
    [
        ("gitmodulesName", '[submodule "../x"]\n\tpath = x\n\turl = https://example.com/x\n'),
        ("gitmodulesUrl", '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'),
        ("gitmodulesPath", '[submodule "x"]\n\tpath = -x\n\turl = https://example.com/x\n'),
    ],
)
def test_gitmodules_that_attack_are_refused(wire: Wire, left: Left, rule: str, modules: str) -> None:
    listed = blob(modules)
    bad = raw_tree(("100644", b".gitmodules", listed.oid))
    new = commit(bad, FIRST)

    report = wire.push([(FIRST.oid, new.oid, MAIN)], pack(listed, bad, new))

    assert rule in report.unpack
    assert left.nothing()


# Broken packs

THIRD = commit(ROOT, FIRST, message="Third\n")
SOUND = pack(THIRD)
DELTA = zlib.compress(b"\x05\x05\x90\x05")

BROKEN = {
    "bit flip": SOUND[:20] + bytes([SOUND[20] ^ 1]) + SOUND[21:],
    "truncated": SOUND[:-30],
    "no trailer": SOUND[:-20],
    "bad trailer": SOUND[:-1] + bytes([SOUND[-1] ^ 1]),
    "count too high": raw_pack(entry(THIRD), count=2),
    "count too low": raw_pack(entry(THIRD), entry(blob("more")), count=1),
    "trailing bytes": SOUND + b"more",
    "bad offset of a delta's base": raw_pack(entry_header(6, 4) + b"\x7f" + DELTA),
    "delta without a base": raw_pack(entry_header(7, 4) + bytes.fromhex(ABSENT) + DELTA),
    "unknown type": raw_pack(entry_header(5, 4) + DELTA),
    "version 9": SOUND[:7] + b"\x09" + SOUND[8:],
    "not a pack": b"GARBAGE" * 10,
    "nothing at all": b"",
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_pack_is_an_unpack_error_and_the_connection_survives(wire: Wire, left: Left, damage: str) -> None:
    report = wire.push([(FIRST.oid, THIRD.oid, MAIN)], BROKEN[damage])
    socket = wire.connection.sock

    assert report.unpack != "ok"
    assert report.refs[MAIN] != "ok"
    assert wire.refs()[MAIN] == FIRST.oid
    assert wire.connection.sock is socket, "the server closed the connection"
    assert left.nothing()


BOMBS = {
    "a file of three gigabytes": entry_header(3, 3 << 30) + zlib.compress(bytes(1000)),
    "a delta that makes 512 megabytes": entry_header(7, 11)
    + bytes.fromhex(FIRST.oid)
    + zlib.compress(b"\xf1\x01" + b"\x80\x80\x80\x80\x02" + b"\xb0\x10\xff\xff"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_by_a_cap(wire: Wire, left: Left, bomb: str) -> None:
    report = wire.push([(FIRST.oid, THIRD.oid, MAIN)], raw_pack(BOMBS[bomb]))

    assert "bytes are taken" in report.unpack or "are taken. Push with" in report.unpack
    assert left.nothing()


def test_a_delta_chain_of_5000_links_is_refused_by_a_cap(wire: Wire, left: Left) -> None:
    base = entry(blob("x" * 20))
    links = [base]
    for number in range(5000):
        data = zlib.compress(b"\x14\x14\x90\x10" + b"\x04%04d" % number)
        distance = len(links[-1])
        assert distance < 128
        links.append(entry_header(6, 9) + bytes([distance]) + data)

    report = wire.push([(FIRST.oid, THIRD.oid, MAIN)], raw_pack(*links))

    assert "chain" in report.unpack or "deep" in report.unpack
    assert left.nothing()


def test_ten_megabytes_of_headers_are_refused_by_a_cap(wire: Wire, left: Left) -> None:
    long = Made("commit", FIRST.data.replace(b"\n\n", b"\nx " + b"y" * 10_000_000 + b"\n\n", 1))

    report = wire.push([(FIRST.oid, long.oid, MAIN)], pack(long))

    assert "bytes of headers" in report.unpack
    assert left.nothing()


# Rules of the repository


def test_a_rule_forbids_rewinding(house: House, name: str, wire: Wire) -> None:
    house.services.repositories.set_rules(house.caller, name, PushRules(deny_non_fast_forwards=True))

    report = wire.push([(FIRST.oid, OTHER.oid, MAIN), (SECOND.oid, FIRST.oid, "refs/heads/second")], pack(OTHER))

    assert report.refs == {MAIN: "non-fast-forward", "refs/heads/second": "non-fast-forward"}
    assert wire.push([(FIRST.oid, SECOND.oid, MAIN)], pack()).refs == {MAIN: "ok"}


def test_a_rule_forbids_deleting(house: House, name: str, wire: Wire) -> None:
    house.services.repositories.set_rules(house.caller, name, PushRules(deny_deletes=True))

    report = wire.push([(SECOND.oid, ZERO, "refs/heads/second")])

    assert report.refs == {"refs/heads/second": "deletion prohibited"}


def test_the_default_branch_cannot_be_deleted(wire: Wire) -> None:
    report = wire.push([(FIRST.oid, ZERO, MAIN), (SECOND.oid, ZERO, "refs/heads/second")])

    assert report.refs == {MAIN: "deletion of the default branch prohibited", "refs/heads/second": "ok"}


# Many refs


def test_4000_refs_are_pushed_at_once_and_4001_are_not(house: House, name: str, wire: Wire, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    house.git("clone", "-q", "--bare", house.https_url(name), str(clone))
    lines = "".join(f"create refs/tags/t{number} {FIRST.oid}\n" for number in range(4001))
    house.git("update-ref", "--stdin", cwd=clone, stdin=lines)

    refused = house.git("push", "origin", "refs/tags/*:refs/tags/*", cwd=clone, check=False)
    assert refused.returncode != 0
    assert "at most 4000 refs" in refused.stderr
    assert len(wire.refs()) == 2

    house.git("push", "-q", "origin", "refs/tags/*:refs/tags/*", "^refs/tags/t4000", cwd=clone)
    assert len(wire.refs()) == 4002
