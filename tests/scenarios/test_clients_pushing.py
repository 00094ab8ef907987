"""The ways of git to push, through both doors."""

import gzip
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import House, Key
from tests.scenarios.clients.sample import make_sample
from tests.scenarios.clients.smart_http import (
    CAPABILITIES,
    ZERO,
    Wire,
    blob,
    commit,
    pack,
    push_body,
    read_report,
    tree,
)

FILE = blob("hello\n")
ROOT = tree(file=FILE)
FIRST = commit(ROOT)
MAIN = "refs/heads/main"

TRACE = {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"}


@pytest.fixture(scope="module")
def key(house: House) -> Key:
    return house.ssh_key(house.user())


class Developer:
    """A work tree with one commit, its repository at the server, and a door."""

    def __init__(self, house: House, door: str, key: Key, room: Path) -> None:
        self.house, self.key, self.room = house, key, room
        self.repository = house.repository()
        self.url = house.https_url(self.repository) if door == "https" else house.ssh_url(self.repository)
        self.work = room / "work"
        self.first = house.commit(self.work, {"a": "a"}, "first")
        self.git("remote", "add", "origin", self.url)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Git in the work tree; its standard output and error."""
        done = self.house.git(*arguments, cwd=cwd or self.work, key=self.key)
        return done.stdout + done.stderr

    def refused(self, *arguments: str) -> str:
        """What git says when it fails, as it must."""
        done = self.house.git(*arguments, cwd=self.work, key=self.key, check=False)
        assert done.returncode != 0, done.stderr
        return done.stderr

    def commit(self, text: str = "more") -> str:
        """One more commit."""
        return self.house.commit(self.work, {secrets.token_hex(4): text})

    def served(self) -> dict[str, str]:
        """The refs at the server."""
        lines = self.house.git("ls-remote", self.house.https_url(self.repository)).stdout.splitlines()
        return {name: oid for oid, name in (line.split("\t") for line in lines)}


@pytest.fixture(params=["https", "ssh"])
def developer(request: pytest.FixtureRequest, house: House, key: Key, tmp_path: Path) -> Developer:
    return Developer(house, request.param, key, tmp_path)


@pytest.fixture
def wire(house: House) -> Iterator[Wire]:
    with Wire(house, house.repository()) as opened:
        yield opened


# Git's own ways


def test_a_mirror_push_makes_both_sides_equal(developer: Developer, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "sample.git")
    developer.git("push", "-q", "--mirror", developer.url, cwd=sample)
    developer.git("update-ref", "-d", "refs/heads/unrelated", cwd=sample)
    developer.git("branch", "-f", "topic/left", "main~5", cwd=sample)
    developer.git("tag", "new", "main", cwd=sample)

    developer.git("push", "-q", "--mirror", developer.url, cwd=sample)

    developer.git("clone", "-q", "--mirror", developer.url, str(tmp_path / "mirror"))
    developer.git("fsck", "--full", cwd=tmp_path / "mirror")
    assert developer.git("for-each-ref", cwd=tmp_path / "mirror") == developer.git("for-each-ref", cwd=sample)


def test_the_first_branch_pushed_becomes_head(developer: Developer, tmp_path: Path) -> None:
    developer.git("push", "-q", "origin", "main:refs/heads/trunk")
    developer.git("push", "-q", "origin", "main")

    developer.git("clone", "-q", developer.url, str(tmp_path / "clone"))
    assert developer.git("branch", "--show-current", cwd=tmp_path / "clone") == "trunk\n"


def test_tags_alone_leave_head_unborn(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main:refs/tags/only")

    assert developer.served() == {"refs/tags/only": developer.first}


def test_a_push_that_only_deletes(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main", "main:old", "main:refs/tags/older")

    said = developer.git("push", "origin", "--delete", "old", "refs/tags/older")

    assert said.count("[deleted]") == 2
    assert set(developer.served()) == {"HEAD", MAIN}


def test_a_force_with_lease_holds_only_if_nobody_was_there(developer: Developer) -> None:
    developer.git("push", "-q", "-u", "origin", "main")
    developer.git("commit", "-q", "--amend", "-m", "Amended")
    developer.git("push", "-q", "--force-with-lease")
    amended = developer.served()[MAIN]
    developer.git("update-ref", "refs/remotes/origin/main", developer.first)
    developer.git("commit", "-q", "--amend", "-m", "Amended again")

    said = developer.refused("push", "--force-with-lease")

    assert "stale info" in said
    assert developer.served()[MAIN] == amended


def test_a_signed_push_falls_back_if_asked_and_fails_if_demanded(developer: Developer) -> None:
    developer.git("push", "-q", "--signed=if-asked", "origin", "main")

    assert developer.served()[MAIN] == developer.first
    assert "--signed" in developer.refused("push", "--signed=yes", "origin", "main:other")


def test_push_options_are_taken(developer: Developer) -> None:
    developer.git("push", "-q", "-o", "ci.skip", "-o", "topic=naïve", "origin", "main")

    assert developer.served()[MAIN] == developer.first
    services = developer.house.services
    repository = services.repositories.describe(developer.house.caller, developer.repository).id
    (entry,) = services.journal.entries(event="RefsUpdated", repository=repository)
    assert json.loads(entry.detail)["push_options"] == ["ci.skip", "topic=naïve"]


def test_an_atomic_push_with_one_refused_ref_moves_nothing(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main")
    developer.commit()

    said = developer.refused("push", "--atomic", "origin", "main", "main:refs/pull/1/head")

    assert "! [remote rejected] main -> refs/pull/1/head (reserved refname)" in said
    assert "! [remote rejected] main -> main (atomic push failure)" in said
    assert developer.served() == {"HEAD": developer.first, MAIN: developer.first}


def test_an_atomic_push_moves_all(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main")
    new = developer.commit()

    developer.git("push", "-q", "--atomic", "origin", "main", "main:second")

    assert developer.served() == {"HEAD": new, MAIN: new, "refs/heads/second": new}


def test_the_default_branch_is_kept(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main")

    said = developer.refused("push", "origin", ":main")

    assert "! [remote rejected] main (deletion of the default branch prohibited)" in said
    assert developer.served()[MAIN] == developer.first


def test_notes_and_other_refs_are_kept(developer: Developer, tmp_path: Path) -> None:
    developer.git("notes", "add", "-m", "A note", "HEAD")

    developer.git("push", "-q", "origin", "main", "refs/notes/commits", "main:refs/archive/2024/main")

    developer.git("clone", "-q", "--mirror", developer.url, str(tmp_path / "mirror"))
    assert developer.git("notes", "show", "main", cwd=tmp_path / "mirror") == "A note\n"


def test_a_push_that_leans_on_what_the_server_has_is_thin(developer: Developer, tmp_path: Path) -> None:
    lines = "\n".join(secrets.token_hex(20) for _ in range(5000))
    developer.house.commit(developer.work, {"lines": lines})
    developer.git("push", "-q", "origin", "main")
    new = developer.house.commit(developer.work, {"lines": lines + "\nlast"})

    said = developer.git("push", "--progress", "origin", "main")

    assert developer.served()[MAIN] == new
    assert "(delta 1)" in said
    developer.git("clone", "-q", developer.url, str(tmp_path / "clone"))
    developer.git("fsck", "--full", cwd=tmp_path / "clone")


def test_git_lfs_is_told_that_there_is_none(wire: Wire) -> None:
    answer = wire.request("POST", ".git/info/lfs/locks/verify", b"{}", {"Content-Type": "application/vnd.git-lfs+json"})

    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_annotated_tags_follow_their_commits(developer: Developer) -> None:
    developer.git("tag", "-a", "-m", "Follows", "follows")
    developer.git("tag", "stays")

    developer.git("push", "-q", "--follow-tags", "origin", "main")

    assert set(developer.served()) == {"HEAD", MAIN, "refs/tags/follows", "refs/tags/follows^{}"}


def test_branches_that_are_gone_here_are_pruned_there(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main", "main:one", "main:two")
    developer.git("branch", "one")

    developer.git("push", "-q", "--prune", "origin", "refs/heads/*:refs/heads/*")

    assert set(developer.served()) == {"HEAD", MAIN, "refs/heads/one"}


def test_a_push_may_negotiate_first(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main")
    developer.git("update-ref", "-d", "refs/remotes/origin/main")
    new = developer.commit()

    said = developer.git("-c", "push.negotiate=true", "push", "origin", "main:negotiated")

    assert "warning" not in said
    assert developer.served()["refs/heads/negotiated"] == new


def test_a_branch_and_a_directory_of_its_name_cannot_come_at_once(developer: Developer) -> None:
    said = developer.refused("push", "origin", "main:a", "main:a/b")

    assert "cannot stand beside" in said
    assert len([name for name in developer.served() if name.startswith("refs/heads/a")]) == 1


def test_a_branch_makes_room_for_a_directory_of_its_name(developer: Developer) -> None:
    developer.git("push", "-q", "origin", "main", "main:a")

    developer.git("push", "-q", "--atomic", "origin", ":a", "main:a/b")

    assert set(developer.served()) == {"HEAD", MAIN, "refs/heads/a/b"}


def test_a_shallow_clone_of_another_repository_is_not_a_whole_one(developer: Developer, tmp_path: Path) -> None:
    developer.commit()
    developer.commit()
    developer.git("clone", "-q", "--depth", "1", f"file://{developer.work}", str(tmp_path / "shallow"))

    done = developer.house.git("push", developer.url, "main", cwd=tmp_path / "shallow", key=developer.key, check=False)

    assert done.returncode != 0
    assert "! [remote rejected] main -> main (missing necessary objects)" in done.stderr
    assert developer.served() == {}


def test_a_shallow_and_partial_clone_pushes(developer: Developer, tmp_path: Path) -> None:
    for _ in range(3):
        developer.commit()
    developer.git("push", "-q", "origin", "main")
    clone = tmp_path / "clone"
    developer.git("clone", "-q", "--depth", "1", "--filter=tree:0", developer.url, str(clone))
    new = developer.house.commit(clone, {"deep/er/file": "text"})

    developer.git("push", "-q", "origin", "main", cwd=clone)

    developer.git("clone", "-q", developer.url, str(tmp_path / "whole"))
    developer.git("fsck", "--full", cwd=tmp_path / "whole")
    assert developer.git("rev-parse", "HEAD", cwd=tmp_path / "whole").strip() == new


# The body of a push


def test_a_large_push_goes_out_chunked(house: House, tmp_path: Path) -> None:
    name, work = house.repository(), tmp_path / "work"
    new = house.commit(work, {"big": secrets.token_bytes(1_000_000)})

    small = ("-c", "http.postBuffer=65536")
    done = house.git(*small, "push", house.https_url(name), "main", cwd=work, environment=TRACE)

    assert "Transfer-Encoding: chunked" in done.stderr
    assert new in house.git("ls-remote", house.https_url(name)).stdout


def test_a_small_push_may_be_chunked_in_any_way(wire: Wire) -> None:
    body = push_body([(ZERO, FIRST.oid, MAIN)], pack(FILE, ROOT, FIRST))

    answer = wire.post(bytes([byte]) for byte in body)

    assert read_report(answer.body).refs == {MAIN: "ok"}


def test_a_push_may_be_gzipped(wire: Wire) -> None:
    body = gzip.compress(push_body([(ZERO, FIRST.oid, MAIN)], pack(FILE, ROOT, FIRST)))

    answer = wire.post(body, {"Content-Encoding": "gzip"})

    assert read_report(answer.body).refs == {MAIN: "ok"}


def test_a_fetch_with_many_haves_is_gzipped_by_git(house: House, tmp_path: Path) -> None:
    name, work = house.repository(), tmp_path / "work"
    house.commit(work, {"a": "a"})
    house.git("push", "-q", house.https_url(name), "main", cwd=work)
    clone = tmp_path / "clone"
    house.git("clone", "-q", house.https_url(name), str(clone))
    for number in range(40):  # each newer than the one before, so that git names them in one order
        newer = {"GIT_COMMITTER_DATE": f"{1_900_000_000 + number} +0000"}
        house.git("commit", "-q", "--allow-empty", "-m", str(number), cwd=clone, environment=newer)
    house.commit(work, {"b": "b"})
    house.git("push", "-q", house.https_url(name), "main", cwd=work)

    done = house.git("fetch", cwd=clone, environment=TRACE)

    assert "Content-Encoding: gzip" in done.stderr
    house.git("fsck", "--full", cwd=clone)


def test_a_connection_serves_many_requests(wire: Wire) -> None:
    wire.refs()
    first = wire.connection.sock

    for number in range(3):
        assert wire.push([(ZERO, FIRST.oid, f"refs/heads/b{number}")], pack(FILE, ROOT, FIRST)).unpack == "ok"
        assert len(wire.refs()) == number + 1

    assert wire.connection.sock is first


def test_a_client_that_wants_no_report_gets_none(wire: Wire) -> None:
    answer = wire.post(push_body([(ZERO, FIRST.oid, MAIN)], pack(FILE, ROOT, FIRST), "ofs-delta"))

    assert answer.body == b""
    assert wire.refs() == {MAIN: FIRST.oid}


def test_a_client_without_side_band_gets_a_bare_report(wire: Wire) -> None:
    answer = wire.post(push_body([(ZERO, FIRST.oid, MAIN)], pack(FILE, ROOT, FIRST), "report-status"))

    assert answer.body == b"000eunpack ok\n0017ok refs/heads/main\n0000"


def test_objects_that_the_server_has_may_come_again(wire: Wire) -> None:
    everything = pack(FILE, ROOT, FIRST)
    wire.push([(ZERO, FIRST.oid, MAIN)], everything)

    report = wire.push([(ZERO, FIRST.oid, "refs/heads/again")], everything, capabilities=f"{CAPABILITIES} quiet")

    assert report.refs == {"refs/heads/again": "ok"}
