"""receive-pack, with real git as the client."""

import threading
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha1
from pathlib import Path
from random import randbytes

import pytest

from gitserver.core.errors import Unavailable
from gitserver.git.fsck import FsckPolicy
from gitserver.git.limits import MIB, PackLimits, PushLimits
from gitserver.git.objects import ZERO_OID, Kind, ObjectId, object_id
from gitserver.git.pack_format import entry_header, pack_header
from gitserver.git.protocol import FLUSH_PACKET, pkt
from gitserver.git.refs import RefUpdate, RepositoryGone
from gitserver.git.rules import PushRules
from gitserver.storage.database import Database
from gitserver.storage.vault import Owner
from tests.unit.git.depot import ACCOUNT, Depot, commit, git, new_work

MAIN = "refs/heads/main"


@pytest.fixture
def depot(database: Database, tmp_path: Path) -> Depot:
    return Depot(database, tmp_path)


@pytest.fixture
def url(depot: Depot) -> Iterator[str]:
    with depot.served() as url:
        yield url


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return new_work(tmp_path / "work")


class Body:
    """A request body."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


class Slow:
    """A body of which little comes at a time."""

    def __init__(self, body: Body, read_bytes: int) -> None:
        self._body, self._read_bytes = body, read_bytes

    def read(self, size: int, /) -> bytes:
        return self._body.read(min(size, self._read_bytes))


def pack(*objects: tuple[Kind, bytes]) -> bytes:
    body = pack_header(len(objects)) + b"".join(
        entry_header(kind, len(data)) + zlib.compress(data) for kind, data in objects
    )
    return body + sha1(body).digest()


def commit_object(tree: ObjectId, *parents: ObjectId) -> bytes:
    lines = [b"tree " + tree.hex().encode()] + [b"parent " + parent.hex().encode() for parent in parents]
    person = b"A <a@example.com> 1700000000 +0000"
    return b"\n".join([*lines, b"author " + person, b"committer " + person, b"", b"message\n"])


EMPTY_TREE = (Kind.TREE, b"")
EMPTY_TREE_ID = object_id(*EMPTY_TREE)


def request(*commands: RefUpdate, capabilities: bytes = b"report-status", body: bytes = b"") -> Body:
    lines = [f"{one.old.hex()} {one.new.hex()} ".encode() + one.name for one in commands]
    lines[0] += b"\0" + capabilities
    return Body(b"".join(map(pkt, lines)) + FLUSH_PACKET + body)


def push(depot: Depot, *commands: RefUpdate, capabilities: bytes = b"report-status", body: bytes = b"") -> list[str]:
    """One stateless push; the report's lines."""
    conversation = depot.receive_pack()
    try:
        stream = request(*commands, capabilities=capabilities, body=body)
        answer = b"".join(conversation.answer(stream, stateless=True))
    finally:
        conversation.close()
    lines = []
    while answer[:4] != FLUSH_PACKET:
        length = int(answer[:4], 16)
        lines.append(answer[4:length].decode().strip())
        answer = answer[length:]
    return lines


def create(name: str, new: ObjectId) -> RefUpdate:
    return RefUpdate(name.encode(), ZERO_OID, new)


def test_what_was_pushed_can_be_cloned(depot: Depot, url: str, work: Path, tmp_path: Path) -> None:
    head = commit(work, "one", a="1\n", sub__b="2\n")

    git("push", url, "main", cwd=work)

    assert depot.refs() == {MAIN: head}
    git("clone", "-q", url, tmp_path / "clone")
    assert git("rev-parse", "HEAD", cwd=tmp_path / "clone") == head
    assert git("fsck", "--full", "--strict", cwd=tmp_path / "clone") == ""


def test_a_thin_pack_is_completed(depot: Depot, url: str, work: Path, tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(2000))
    commit(work, "one", a=text)
    git("push", url, "main", cwd=work)

    commit(work, "two", a=text + "one more\n")
    git("push", url, "main", cwd=work)

    assert len(depot.blob_names()) == 2
    git("clone", "-q", url, tmp_path / "clone")
    assert (tmp_path / "clone" / "a").read_text() == text + "one more\n"
    assert git("fsck", "--full", cwd=tmp_path / "clone") == ""


def test_a_large_push_waits_in_a_file(depot: Depot, url: str, work: Path, tmp_path: Path) -> None:
    depot.limits = PushLimits(spool_memory_bytes=1 << 16)
    data = b"".join(sha1(bytes([number % 256, number // 256])).digest() for number in range(40_000))
    commit(work, "one", a=data, b=data[::-1])

    git("push", url, "main", cwd=work)

    git("clone", "-q", url, tmp_path / "clone")
    assert (tmp_path / "clone" / "b").read_bytes() == data[::-1]


def test_the_first_branch_pushed_is_the_default(depot: Depot, url: str, work: Path, tmp_path: Path) -> None:
    commit(work, "one", a="1")

    git("push", url, "main:refs/heads/trunk", cwd=work)
    git("push", url, "main:refs/heads/main", cwd=work)

    git("clone", "-q", url, tmp_path / "clone")
    assert git("branch", "--show-current", cwd=tmp_path / "clone") == "trunk"


def test_main_is_the_default_of_branches_pushed_together(url: str, work: Path, tmp_path: Path) -> None:
    commit(work, "one", a="1")
    git("branch", "a-topic", cwd=work)

    git("push", "--all", url, cwd=work)

    git("clone", "-q", url, tmp_path / "clone")
    assert git("branch", "--show-current", cwd=tmp_path / "clone") == "main"


def test_the_default_branch_cannot_be_deleted(depot: Depot, url: str, work: Path) -> None:
    head = commit(work, "one", a="1")
    git("push", url, "main", "main:other", cwd=work)

    output = git("push", url, ":main", ":other", cwd=work, check=False)

    assert "deletion of the default branch prohibited" in output
    assert depot.refs() == {MAIN: head}


def test_a_push_that_lost_the_race_is_refused(depot: Depot) -> None:
    first = commit_object(EMPTY_TREE_ID)
    second = commit_object(EMPTY_TREE_ID, object_id(Kind.COMMIT, first))
    body = pack(EMPTY_TREE, (Kind.COMMIT, first))
    one, two = object_id(Kind.COMMIT, first), object_id(Kind.COMMIT, second)
    conversation = depot.receive_pack()  # opened before the other push
    push(depot, create(MAIN, one), body=body)

    answer = b"".join(
        conversation.answer(
            request(create(MAIN, two), body=pack(EMPTY_TREE, (Kind.COMMIT, first), (Kind.COMMIT, second))),
            stateless=True,
        )
    )
    conversation.close()

    assert b"ng refs/heads/main stale info: refs/heads/main is now at " in answer
    assert depot.refs() == {MAIN: one.hex()}
    assert len(depot.blob_names()) == 1


def test_an_atomic_push_with_one_stale_ref_moves_nothing(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    oid = object_id(Kind.COMMIT, data)
    wrong = RefUpdate(b"refs/heads/b", ObjectId(b"\x11" * 20), oid)

    lines = push(
        depot,
        create("refs/heads/a", oid),
        wrong,
        capabilities=b"report-status atomic",
        body=pack(EMPTY_TREE, (Kind.COMMIT, data)),
    )

    assert lines[:2] == ["unpack ok", "ng refs/heads/a atomic push failure"]
    assert lines[2].startswith("ng refs/heads/b stale info")
    assert depot.refs() == {}
    assert depot.blob_names() == []
    assert depot.finished == []


def test_without_atomic_each_ref_gets_its_own_verdict(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    oid = object_id(Kind.COMMIT, data)
    depot.judge = lambda change: "not you" if change.name.endswith(b"b") else None

    lines = push(
        depot,
        create("refs/heads/a", oid),
        create("refs/heads/b", oid),
        body=pack(EMPTY_TREE, (Kind.COMMIT, data)),
    )

    assert lines == ["unpack ok", "ok refs/heads/a", "ng refs/heads/b not you"]
    assert depot.finished == [(create("refs/heads/a", oid),)]


def test_a_ref_and_its_directory_cannot_both_be(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    oid = object_id(Kind.COMMIT, data)
    body = pack(EMPTY_TREE, (Kind.COMMIT, data))

    assert push(depot, create("refs/heads/a", oid), create("refs/heads/a/b", oid), body=body) == [
        "unpack ok",
        "ok refs/heads/a",
        "ng refs/heads/a/b refs/heads/a/b cannot stand beside refs/heads/a",
    ]
    assert push(depot, create("refs/heads/x/y", oid), create("refs/heads/x", oid), body=body)[2] == (
        "ng refs/heads/x refs/heads/x cannot stand beside refs/heads/x/y"
    )


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda: pack((Kind.COMMIT, commit_object(EMPTY_TREE_ID))), id="tree"),
        pytest.param(
            lambda: pack(EMPTY_TREE, (Kind.COMMIT, commit_object(EMPTY_TREE_ID, ObjectId(b"\x22" * 20)))), id="parent"
        ),
        pytest.param(
            lambda: pack(
                (Kind.TREE, b"100644 a\0" + b"\x33" * 20),
                (Kind.COMMIT, commit_object(object_id(Kind.TREE, b"100644 a\0" + b"\x33" * 20))),
            ),
            id="blob",
        ),
    ],
)
def test_a_history_with_a_hole_is_refused(depot: Depot, broken: Callable[[], bytes]) -> None:
    commits = {
        object_id(Kind.COMMIT, data)
        for data in (
            commit_object(EMPTY_TREE_ID),
            commit_object(EMPTY_TREE_ID, ObjectId(b"\x22" * 20)),
            commit_object(object_id(Kind.TREE, b"100644 a\0" + b"\x33" * 20)),
        )
    }

    reports = [push(depot, create(MAIN, oid), body=broken()) for oid in sorted(commits)]

    assert reports == [["unpack ok", "ng refs/heads/main missing necessary objects"]] * 3
    assert depot.blob_names() == []


def test_a_pack_with_a_hole_is_not_kept_for_a_ref_that_does_without_it(depot: Depot) -> None:
    good = commit_object(EMPTY_TREE_ID)
    good_id = object_id(Kind.COMMIT, good)
    push(depot, create(MAIN, good_id), body=pack(EMPTY_TREE, (Kind.COMMIT, good)))
    bad = commit_object(ObjectId(b"\x11" * 20), good_id)
    bad_id = object_id(Kind.COMMIT, bad)

    beside = push(depot, create("refs/heads/innocent", good_id), body=pack((Kind.COMMIT, bad)))
    after = push(depot, create("refs/heads/broken", bad_id), body=pack())

    assert beside == ["unpack ok", "ok refs/heads/innocent"]
    assert after == ["unpack ok", "ng refs/heads/broken missing necessary objects"]
    assert len(depot.blob_names()) == 1


def test_a_ref_to_nothing_is_refused(depot: Depot) -> None:
    lines = push(depot, create(MAIN, ObjectId(b"\x44" * 20)), body=pack())

    assert lines == ["unpack ok", "ng refs/heads/main missing necessary objects"]


@pytest.mark.parametrize("kind", [Kind.BLOB, Kind.TREE])
def test_a_branch_points_at_a_commit_only(depot: Depot, kind: Kind) -> None:
    oid = object_id(kind, b"")

    lines = push(depot, create(MAIN, oid), create("refs/tags/t", oid), body=pack((kind, b"")))

    assert lines == [
        "unpack ok",
        "ng refs/heads/main a branch can only point at a commit",
        "ok refs/tags/t",
    ]


def test_a_delete_with_a_wrong_old_id_is_refused(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    oid = object_id(Kind.COMMIT, data)
    push(depot, create(MAIN, oid), create("refs/heads/b", oid), body=pack(EMPTY_TREE, (Kind.COMMIT, data)))

    lines = push(depot, RefUpdate(b"refs/heads/b", ObjectId(b"\x55" * 20), ZERO_OID))

    assert lines[1].startswith("ng refs/heads/b stale info")
    assert "refs/heads/b" in depot.refs()


def test_the_same_ref_twice_is_refused_both_times(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    oid = object_id(Kind.COMMIT, data)

    lines = push(depot, create(MAIN, oid), create(MAIN, oid), body=pack(EMPTY_TREE, (Kind.COMMIT, data)))

    assert lines[1:] == ["ng refs/heads/main multiple updates for one ref"] * 2


def test_a_rule_forbids_forced_pushes(depot: Depot, url: str, work: Path) -> None:
    depot.rules = PushRules(deny_non_fast_forwards=True)
    commit(work, "one", a="1")
    git("push", url, "main", cwd=work)
    two = commit(work, "two", a="2")
    git("push", url, "main", cwd=work)
    git("commit", "--amend", "-qm", "other", cwd=work)

    output = git("push", "--force", url, "main", cwd=work, check=False)

    assert "non-fast-forward" in output
    assert depot.refs() == {MAIN: two}


def test_a_push_whose_journal_fails_leaves_nothing(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)

    def refuse() -> None:
        raise Unavailable("the journal is full")

    depot.before_finish = refuse
    lines = push(depot, create(MAIN, object_id(Kind.COMMIT, data)), body=pack(EMPTY_TREE, (Kind.COMMIT, data)))

    assert lines == ["unpack the journal is full", "ng refs/heads/main unpacker error"]
    assert depot.refs() == {}
    assert depot.blob_names() == []


def test_rights_taken_away_while_the_pack_came_in_count(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    answers: list[str | None] = [None, "no longer"]
    depot.judge = lambda change: answers.pop(0)

    lines = push(depot, create(MAIN, object_id(Kind.COMMIT, data)), body=pack(EMPTY_TREE, (Kind.COMMIT, data)))

    assert lines == ["unpack ok", "ng refs/heads/main no longer"]
    assert depot.blob_names() == []


def test_push_options_reach_the_service(depot: Depot, url: str, work: Path) -> None:
    commit(work, "one", a="1")

    git("push", "-o", "ci.skip", "-o", "reviewer=bob", url, "main", cwd=work)

    assert depot.options == ["ci.skip", "reviewer=bob"]


def test_a_damaged_pack_is_told_and_leaves_nothing(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    body = bytearray(pack(EMPTY_TREE, (Kind.COMMIT, data)))
    body[-1] ^= 1

    lines = push(depot, create(MAIN, object_id(Kind.COMMIT, data)), body=bytes(body))

    assert lines == ["unpack the pack's checksum does not match its bytes", "ng refs/heads/main unpacker error"]
    assert depot.blob_names() == []


def test_more_refs_than_the_limit_are_refused_with_a_report(depot: Depot) -> None:
    depot.limits = PushLimits(commands=2)
    data = commit_object(EMPTY_TREE_ID)
    oid = object_id(Kind.COMMIT, data)

    lines = push(
        depot,
        *(create(f"refs/heads/{name}", oid) for name in "abc"),
        body=pack(EMPTY_TREE, (Kind.COMMIT, data)),
    )

    assert lines[0] == "unpack a push changes at most 2 refs; push them in several steps"
    assert depot.refs() == {}


def test_a_push_larger_than_the_limit_is_refused(depot: Depot, url: str, work: Path) -> None:
    depot.limits = PushLimits(pack=PackLimits(blob_bytes=MIB))
    commit(work, "one", a=b"x" * (MIB + 1))

    output = git("push", url, "main", cwd=work, check=False)

    assert f"a blob of {MIB + 1} bytes is too large; at most {MIB} bytes are taken" in output
    assert depot.refs() == {}


@pytest.mark.parametrize("read_bytes", [997, 65_536, 1 << 20])
def test_large_files_that_compress_well_are_taken(depot: Depot, read_bytes: int) -> None:
    blobs = [bytes(3 * MIB) + bytes(range(256)) * 4096, bytes(MIB + 1), b"ab" * (2 * MIB), bytes(2 * MIB + (1 << 18))]
    tree = b"".join(b"100644 %d\0" % number + object_id(Kind.BLOB, blob) for number, blob in enumerate(blobs))
    data = commit_object(object_id(Kind.TREE, tree))
    oid = object_id(Kind.COMMIT, data)
    body = pack(*((Kind.BLOB, blob) for blob in blobs), (Kind.TREE, tree), (Kind.COMMIT, data))
    stream = request(create(MAIN, oid), body=body)
    conversation = depot.receive_pack()

    answer = b"".join(conversation.answer(Slow(stream, read_bytes), stateless=True))

    conversation.close()
    assert b"ok refs/heads/main" in answer
    repository = depot.storage.open(depot.repository_id)
    stored = [b"".join(repository.objects.stream(object_id(Kind.BLOB, blob))[2]) for blob in blobs]
    repository.close()
    assert stored == blobs


def test_a_file_larger_than_the_floor_of_the_inflation_cap_is_taken(depot: Depot, url: str, work: Path) -> None:
    depot.limits = PushLimits(pack=PackLimits(inflated_floor_bytes=MIB, inflated_ratio=2))
    head = commit(work, "one", a=randbytes(3 * MIB))

    git("push", url, "main", cwd=work)

    assert depot.refs() == {MAIN: head}


@pytest.mark.parametrize("name", ["refs/pull/1/head", "refs/internal/x"])
def test_reserved_refs_are_refused(depot: Depot, name: str) -> None:
    data = commit_object(EMPTY_TREE_ID)

    lines = push(depot, create(name, object_id(Kind.COMMIT, data)), body=pack(EMPTY_TREE, (Kind.COMMIT, data)))

    assert lines[1] == f"ng {name} reserved refname"


def test_what_is_not_git_is_answered_with_an_error_packet(depot: Depot) -> None:
    conversation = depot.receive_pack()

    answer = b"".join(conversation.answer(Body(b"GET / HTTP/1.1\r\n"), stateless=True))

    conversation.close()
    assert answer.startswith(b"0021ERR bad packet length")


def old_tree() -> tuple[bytes, ObjectId, bytes]:
    """A pack with a mode that early tools wrote, its commit's id, and the tree's id."""
    tree = b"040000 sub\0" + EMPTY_TREE_ID
    oid = object_id(Kind.TREE, tree)
    data = commit_object(oid)
    return pack(EMPTY_TREE, (Kind.TREE, tree), (Kind.COMMIT, data)), object_id(Kind.COMMIT, data), oid


def test_an_old_history_is_refused_by_the_rule_it_breaks(depot: Depot) -> None:
    body, oid, tree = old_tree()

    lines = push(depot, create(MAIN, oid), body=body)

    assert lines[0] == (f"unpack object {tree.hex()}: zeroPaddedFilemode: contains zero-padded file modes")


def test_an_old_history_is_taken_where_the_rule_is_ignored(depot: Depot) -> None:
    body, oid, _ = old_tree()
    depot.policy = FsckPolicy(ignored=frozenset(["zeroPaddedFilemode"]))

    assert push(depot, create(MAIN, oid), body=body) == ["unpack ok", "ok refs/heads/main"]


def test_a_single_old_object_can_be_let_through(depot: Depot) -> None:
    body, oid, tree = old_tree()
    depot.policy = FsckPolicy(skipped=frozenset([tree]))

    assert push(depot, create(MAIN, oid), body=body) == ["unpack ok", "ok refs/heads/main"]


def test_everything_stored_verifies(depot: Depot, url: str, work: Path) -> None:
    from gitserver.git.verify import verify_repository

    for number in range(5):
        commit(work, str(number), a="x\n" * 500 + str(number), b=str(number))
        git("tag", "-am", "t", f"v{number}", cwd=work)
        git("push", "--tags", url, "main", cwd=work)
    repository = depot.storage.open(depot.repository_id)

    problems = list(verify_repository(repository))

    repository.close()
    assert problems == []


def test_an_object_that_is_in_many_packs_is_found_in_one(depot: Depot, url: str, work: Path, tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(400))
    for number in range(8):  # each push brings what the one before brought, since the client is not told of it
        commit(work, str(number), a=text + str(number), b=text * 2 + str(number))
        git("push", url, f"main:refs/heads/b{number}", cwd=work)
    git("repack", "-adfq", "--depth=50", cwd=work)
    conversation = depot.receive_pack()
    git("pack-objects", "--all", "--delta-base-offset", "-q", tmp_path / "all", cwd=work)
    everything = next(tmp_path.glob("all-*.pack")).read_bytes()
    head = ObjectId(bytes.fromhex(git("rev-parse", "HEAD", cwd=work)))
    assert b"ok refs/heads/all" in b"".join(
        conversation.answer(request(create("refs/heads/all", head), body=everything), stateless=True)
    )
    conversation.close()

    git("clone", "-q", "--mirror", url, tmp_path / "clone")

    assert git("fsck", "--full", "--strict", cwd=tmp_path / "clone") == ""


def test_a_repository_deleted_while_a_push_commits_is_gone_whole(depot: Depot) -> None:
    data = commit_object(EMPTY_TREE_ID)
    inside, go = threading.Event(), threading.Event()
    answers: list[list[str]] = []

    def pause() -> None:
        inside.set()
        go.wait(10)

    def pushes() -> None:
        body = pack(EMPTY_TREE, (Kind.COMMIT, data))
        answers.append(push(depot, create(MAIN, object_id(Kind.COMMIT, data)), body=body))

    def deletes() -> None:
        with depot.database.transaction() as tx:
            depot.storage.delete(tx, Owner(ACCOUNT, depot.repository_id))

    depot.before_finish = pause
    pushing, deleting = threading.Thread(target=pushes), threading.Thread(target=deletes)
    pushing.start()
    assert inside.wait(10)
    deleting.start()
    deleting.join(0.3)  # it waits for the push
    go.set()
    pushing.join(20)
    deleting.join(20)

    assert answers == [["unpack ok", "ok refs/heads/main"]]
    with pytest.raises(RepositoryGone):
        depot.storage.open(depot.repository_id)
