"""Everything a developer does, with every client, through every door that the client has.

Each column is a client at a door; each test is a row. What a client did is judged by real git: clones with
``git fsck --full`` and by their objects, pushes by a fresh clone of what the server then holds.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from gitserver.git.rules import PushRules
from tests.house import Credential, House, Key
from tests.scenarios.clients.client import Client, Door
from tests.scenarios.clients.dulwich_client import Dulwich
from tests.scenarios.clients.git_client import Git, GitOverParamiko, GitV0, GitV1
from tests.scenarios.clients.isomorphic_client import Isomorphic
from tests.scenarios.clients.jgit_client import JGit
from tests.scenarios.clients.pygit2_client import Pygit2

CLIENTS: tuple[type[Client], ...] = (Git, GitV1, GitV0, GitOverParamiko, Dulwich, Pygit2, JGit, Isomorphic)
COLUMNS = [(client, door) for client in CLIENTS for door in client.doors]


# What clients print; JGit over SSH says "does not exist" whatever the reason.
ABSENT = "404|not found|there is no repository|does not exist|NotGitRepository"
DENIED = "403|not authorized|not permitted|forbidden|does not exist"


@dataclass
class Desk:
    """One developer's place: a client, a door, and room to work."""

    house: House
    client: Client
    room: Path
    sample: Path
    stocked: str  # a repository that holds the sample; read only

    def can(self, word: str) -> None:
        """Skip the row where the client has no such thing."""
        if word in self.client.cannot:
            pytest.skip(self.client.cannot[word])

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Real git's output, on this machine only or as the reference client."""
        return self.house.git(*arguments, cwd=cwd or self.room).stdout

    def cloned(self, repository: str, name: str = "clone", *, depth: int = 0) -> Path:
        """What the client makes of a repository."""
        said = self.client.clone(self.client.url(repository), self.room / name, depth=depth)
        assert said.ok, said.text
        return self.room / name

    def seeded(self, *commits: str) -> tuple[str, Path]:
        """A small repository with a few commits on ``main``, and the work tree they came from."""
        name, work = self.house.repository(), self.room / "seed"
        for message in commits or ("one", "two", "three"):
            self.house.commit(work, {message: message}, message)
        self.git("push", "-q", self.house.https_url(name), "main", cwd=work)
        return name, work

    def served(self, repository: str) -> dict[str, str]:
        """The refs that the server shows to real git."""
        lines = self.git("ls-remote", self.house.https_url(repository)).splitlines()
        return {name: oid for oid, name in (line.split("\t") for line in lines)}

    def reference(self, repository: str, name: str = "reference") -> Path:
        """A fresh mirror by real git, checked."""
        self.git("clone", "-q", "--mirror", self.house.https_url(repository), str(self.room / name))
        self.sound(self.room / name)
        return self.room / name

    def sound(self, directory: Path) -> None:
        """Nothing in *directory* is missing or broken."""
        done = self.house.git("fsck", "--full", "--strict", "--no-dangling", cwd=directory)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("notice:")]

    def objects(self, directory: Path) -> set[str]:
        """Every object: id, kind and size."""
        return set(self.git("cat-file", "--batch-all-objects", "--batch-check", cwd=directory).splitlines())

    def head(self, directory: Path, revision: str = "HEAD") -> str:
        """A commit's id."""
        return self.git("rev-parse", revision, cwd=directory).strip()


@pytest.fixture(scope="session")
def key(house: House) -> Key:
    return house.ssh_key()


@dataclass(frozen=True)
class Stranger:
    """A user who may do nothing."""

    key: Key
    credential: Credential


@pytest.fixture(scope="session")
def stranger(house: House) -> Stranger:
    user = house.user(administrator=False)
    return Stranger(house.ssh_key(user), house.git_credential(user))


@pytest.fixture(params=COLUMNS, ids=[f"{client.name}-{door}" for client, door in COLUMNS])
def desk(request: pytest.FixtureRequest, house: House, key: Key, tmp_path: Path, sample: Path, stocked: str) -> Desk:
    client: type[Client]
    door: Door
    client, door = request.param
    return Desk(house, client(house, door, key, house.git_credential()), tmp_path, sample, stocked)


def test_the_documents_tell_of_every_client_and_every_exception() -> None:
    told = " ".join((Path(__file__).parents[2] / "docs" / "clients.md").read_text().split())

    for client in CLIENTS:
        assert f"| {client.title}" in told
        assert all(reason in told for reason in client.cannot.values())


# Reading


def test_a_clone_holds_the_same_objects_branches_and_files(desk: Desk) -> None:
    clone = desk.cloned(desk.stocked)

    desk.sound(clone)
    assert desk.objects(clone) == desk.objects(desk.sample)
    tags = ("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags")
    assert desk.git(*tags, cwd=clone) == desk.git(*tags, cwd=desk.sample)
    assert desk.head(clone) == desk.head(desk.sample, "main")
    assert (clone / "ångström" / "日本語 имя.txt").read_text() == "naïve\n"
    assert (clone / "link").is_symlink()


def test_the_refs_listed_are_those_there(desk: Desk) -> None:
    said = desk.client.list_refs(desk.client.url(desk.stocked))

    assert said.ok, said.text
    for line in desk.git("for-each-ref", "--format=%(objectname) %(refname)", cwd=desk.sample).splitlines():
        oid, name = line.split()
        assert any(oid in shown and name in shown for shown in said.text.splitlines()), name


def test_a_fetch_brings_new_commits_branches_and_tags(desk: Desk) -> None:
    name, work = desk.seeded()
    clone = desk.cloned(name)
    desk.house.commit(work, {"four": "4"}, "four")
    desk.git("tag", "-a", "-m", "Four", "v4", cwd=work)
    desk.git("push", "-q", desk.house.https_url(name), "main", "main~1:refs/heads/other", "v4", cwd=work)

    said = desk.client.fetch(clone)

    assert said.ok, said.text
    desk.sound(clone)
    assert desk.head(clone, "origin/main") == desk.head(work)
    assert desk.head(clone, "origin/other") == desk.head(work, "main~1")
    assert desk.head(clone, "v4") == desk.head(work, "v4")
    assert desk.objects(clone) == desk.objects(work)


def test_a_fetch_follows_a_branch_that_was_rewritten(desk: Desk) -> None:
    name, work = desk.seeded()
    clone = desk.cloned(name)
    desk.git("reset", "-q", "--hard", "HEAD~2", cwd=work)
    desk.house.commit(work, {"another": "way"}, "another way")
    desk.git("push", "-q", "--force", desk.house.https_url(name), "main", cwd=work)

    said = desk.client.fetch(clone)

    assert said.ok, said.text
    desk.sound(clone)
    assert desk.head(clone, "origin/main") == desk.head(work)


def test_a_fetch_with_nothing_new_changes_nothing(desk: Desk) -> None:
    name, _ = desk.seeded()
    clone = desk.cloned(name)
    before = desk.objects(clone)

    said = desk.client.fetch(clone)

    assert said.ok, said.text
    assert desk.objects(clone) == before


def test_a_fetch_into_a_long_history_of_ones_own_finds_what_is_common(desk: Desk) -> None:
    name, work = desk.seeded()
    clone = desk.cloned(name)
    desk.git("update-ref", "refs/heads/mine", _history(desk, clone, 700), cwd=clone)
    desk.house.commit(work, {"four": "4"}, "four")
    desk.git("push", "-q", desk.house.https_url(name), "main", cwd=work)

    said = desk.client.fetch(clone)

    assert said.ok, said.text
    desk.sound(clone)
    assert desk.head(clone, "origin/main") == desk.head(work)


def test_an_empty_repository_is_cloned_and_then_pushed_to(desk: Desk) -> None:
    desk.can("clone nothing")
    name = desk.house.repository()
    said = desk.client.clone(desk.client.url(name), desk.room / "clone")
    clone = desk.room / "clone"
    assert said.ok, said.text
    desk.git("symbolic-ref", "HEAD", "refs/heads/trunk", cwd=clone)
    commit = desk.house.commit(clone, {"first": "file"})

    said = desk.client.push(clone, "refs/heads/trunk:refs/heads/trunk")

    assert said.ok, said.text
    assert desk.served(name) == {"HEAD": commit, "refs/heads/trunk": commit}


# Shallow


def test_a_shallow_clone_has_one_commit_and_deepens(desk: Desk) -> None:
    desk.can("shallow")
    name, work = desk.seeded("one", "two", "three", "four")

    clone = desk.cloned(name, depth=1)
    desk.sound(clone)
    assert desk.git("rev-list", "--count", "origin/main", cwd=clone).strip() == "1"

    said = desk.client.fetch(clone, depth=3)
    assert said.ok, said.text
    desk.sound(clone)
    assert desk.git("rev-list", "--count", "origin/main", cwd=clone).strip() == "3"
    assert desk.head(clone, "origin/main") == desk.head(work)


def test_a_shallow_clone_of_the_sample_is_sound(desk: Desk) -> None:
    desk.can("shallow")

    clone = desk.cloned(desk.stocked, depth=2)

    desk.sound(clone)
    assert desk.head(clone) == desk.head(desk.sample, "main")
    assert (clone / ".git" / "shallow").read_text()


def test_a_push_from_a_shallow_clone_arrives_whole(desk: Desk) -> None:
    desk.can("shallow")
    name, _ = desk.seeded("one", "two", "three")
    clone = desk.cloned(name, depth=1)
    commit = desk.house.commit(clone, {"from": "shallow"})

    said = desk.client.push(clone, "refs/heads/main:refs/heads/main")

    assert said.ok, said.text
    reference = desk.reference(name)
    assert desk.head(reference) == commit
    assert desk.git("rev-list", "--count", "HEAD", cwd=reference).strip() == "4"


# Writing


def test_a_first_push_stores_every_object_branch_and_tag(desk: Desk) -> None:
    work, name = desk.room / "work", desk.house.repository()
    desk.git("clone", "-q", "--mirror", str(desk.sample), str(work / ".git"))
    desk.git("config", "core.bare", "false", cwd=work)
    desk.git("config", "--unset-all", "remote.origin.mirror", cwd=work)
    desk.git("config", "--unset-all", "remote.origin.fetch", cwd=work)
    desk.git("config", "remote.origin.url", desk.client.url(name), cwd=work)
    refs = desk.git("for-each-ref", "--format=%(refname)", cwd=work).split()
    refs.sort(key=lambda ref: ref != "refs/heads/main")  # some clients push one by one, and the first becomes HEAD

    said = desk.client.push(work, *(f"{ref}:{ref}" for ref in refs))

    assert said.ok, said.text
    reference = desk.reference(name)
    assert desk.objects(reference) == desk.objects(desk.sample)
    assert desk.git("for-each-ref", cwd=reference) == desk.git("for-each-ref", cwd=desk.sample)
    assert desk.git("symbolic-ref", "HEAD", cwd=reference) == "refs/heads/main\n"


def test_a_push_of_a_new_commit_moves_the_branch(desk: Desk) -> None:
    name, _ = desk.seeded()
    clone = desk.cloned(name)
    commit = desk.house.commit(clone, {"new": "file", "one": "changed"})

    said = desk.client.push(clone, "refs/heads/main:refs/heads/main")

    assert said.ok, said.text
    reference = desk.reference(name)
    assert desk.head(reference) == commit
    assert desk.objects(reference) == desk.objects(clone)


def test_a_push_of_a_merge_and_a_new_branch(desk: Desk) -> None:
    name, _ = desk.seeded()
    clone = desk.cloned(name)
    desk.git("checkout", "-q", "-b", "side", "HEAD~1", cwd=clone)
    desk.house.commit(clone, {"side": "line"})
    desk.git("checkout", "-q", "main", cwd=clone)
    desk.git("merge", "-q", "--no-ff", "-m", "Merge side", "side", cwd=clone)

    said = desk.client.push(clone, "refs/heads/main:refs/heads/main", "refs/heads/side:refs/heads/topics/side")

    assert said.ok, said.text
    reference = desk.reference(name)
    assert desk.head(reference, "main") == desk.head(clone, "main")
    assert desk.head(reference, "topics/side") == desk.head(clone, "side")
    assert desk.objects(reference) == desk.objects(clone)


def test_a_push_that_is_not_a_fast_forward_needs_force(desk: Desk) -> None:
    name, work = desk.seeded()
    clone = desk.cloned(name)
    desk.git("reset", "-q", "--hard", "HEAD~1", cwd=clone)
    commit = desk.house.commit(clone, {"rewritten": "history"})

    refused = desk.client.push(clone, "refs/heads/main:refs/heads/main")
    assert not refused.ok, refused.text
    assert desk.served(name)["refs/heads/main"] == desk.head(work)

    said = desk.client.push(clone, "refs/heads/main:refs/heads/main", force=True)
    assert said.ok, said.text
    assert desk.served(name)["refs/heads/main"] == commit
    desk.reference(name)


def test_a_force_push_that_the_repository_forbids_tells_why(desk: Desk) -> None:
    name, work = desk.seeded()
    clone = desk.cloned(name)
    desk.house.services.repositories.set_rules(desk.house.caller, name, PushRules(deny_non_fast_forwards=True))
    desk.git("commit", "-q", "--amend", "-m", "Amended", cwd=clone)

    said = desk.client.push(clone, "refs/heads/main:refs/heads/main", force=True)

    assert not said.ok, said.text
    assert "non-fast-forward" in said.text
    assert desk.served(name)["refs/heads/main"] == desk.head(work)


def test_a_branch_is_deleted(desk: Desk) -> None:
    name, work = desk.seeded()
    desk.git("push", "-q", desk.house.https_url(name), "main~1:refs/heads/old", cwd=work)
    clone = desk.cloned(name)

    said = desk.client.push(clone, ":refs/heads/old")

    assert said.ok, said.text
    assert set(desk.served(name)) == {"HEAD", "refs/heads/main"}


def test_tags_of_every_kind_are_pushed_and_deleted(desk: Desk) -> None:
    name, _ = desk.seeded()
    clone = desk.cloned(name)
    desk.git("tag", "light", "HEAD~1", cwd=clone)
    desk.git("tag", "-a", "-m", "Heavy", "heavy", cwd=clone)
    desk.git("tag", "-a", "-m", "Tag of a tag", "twice", "heavy", cwd=clone)
    tags = [f"refs/tags/{tag}" for tag in ("light", "heavy", "twice")]

    said = desk.client.push(clone, *(f"{tag}:{tag}" for tag in tags))

    assert said.ok, said.text
    served = desk.served(name)
    assert [served[tag] for tag in tags] == [desk.head(clone, tag) for tag in tags]
    assert served["refs/tags/twice^{}"] == served["refs/tags/heavy^{}"] == desk.head(clone)
    said = desk.client.push(clone, ":refs/tags/twice", ":refs/tags/light")
    assert said.ok, said.text
    assert set(desk.served(name)) == {"HEAD", "refs/heads/main", "refs/tags/heavy", "refs/tags/heavy^{}"}


# Being refused


def test_a_repository_that_is_not_there_is_an_error(desk: Desk) -> None:
    said = desk.client.clone(desk.client.url("nowhere"), desk.room / "clone")

    assert not said.ok, said.text
    assert re.search(ABSENT, said.text, re.IGNORECASE), said.text


def test_a_user_without_permission_gets_nothing(desk: Desk, stranger: Stranger) -> None:
    client = type(desk.client)(desk.house, desk.client.door, stranger.key, stranger.credential)

    said = client.clone(client.url(desk.stocked), desk.room / "clone")

    assert not said.ok, said.text
    assert re.search(DENIED, said.text, re.IGNORECASE), said.text


# After all that


def test_the_server_finds_nothing_wrong_with_what_came(house: House, stocked: str) -> None:
    done = house.cli("verify", check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def _history(desk: Desk, clone: Path, length: int) -> str:
    """Commits on top of HEAD that the server has never seen; the last one's id."""
    who = "committer Tester <tester@example.com> 1800000000 +0000\n"
    parts = [f"commit refs/heads/own\n{who}data 0\nfrom {desk.head(clone)}\n"]
    parts += [f"commit refs/heads/own\n{who}data {len(str(n))}\n{n}\n" for n in range(1, length)]
    desk.house.git("fast-import", "--quiet", cwd=clone, stdin="\n".join(parts))
    return desk.head(clone, "own")
