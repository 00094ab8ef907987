"""The ways of git to take only a part of a repository, through both doors, and in both families of protocol."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house import House, Key
from tests.scenarios.clients.sample import DAY_S, EPOCH

COMMITS = 20  # reachable from the sample's main


@dataclass
class Place:
    """A developer's folder, a door and a protocol version."""

    house: House
    key: Key
    door: str
    version: int
    room: Path
    sample: Path
    stocked: str

    @property
    def url(self) -> str:
        """Of the repository that holds the sample."""
        return self.url_of(self.stocked)

    def url_of(self, repository: str) -> str:
        """Of any repository."""
        return self.house.https_url(repository) if self.door == "https" else self.house.ssh_url(repository)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Git's output."""
        protocol = ("-c", f"protocol.version={self.version}")
        return self.house.git(*protocol, *arguments, cwd=cwd or self.room, key=self.key).stdout

    def clone(self, *options: str, url: str | None = None) -> Path:
        """Clone with options."""
        self.git("clone", "-q", *options, url or self.url, str(self.room / "clone"))
        return self.room / "clone"

    def sound(self, clone: Path) -> None:
        """Nothing is broken, and nothing missing that should be there."""
        done = self.house.git("fsck", "--full", "--no-dangling", cwd=clone, key=self.key)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("notice:")]

    def commits(self, clone: Path, *what: str) -> int:
        """How many commits there are."""
        return int(self.git("rev-list", "--count", *(what or ("HEAD",)), cwd=clone))

    def missing(self, clone: Path) -> list[str]:
        """Objects that a partial clone knows of and does not have."""
        lines = self.git("rev-list", "--objects", "--all", "--missing=print", cwd=clone).splitlines()
        return [line for line in lines if line.startswith("?")]


@pytest.fixture(scope="module")
def key(house: House) -> Key:
    return house.ssh_key(house.user())


@pytest.fixture(
    params=[("https", 2), ("https", 0), ("ssh", 2), ("ssh", 0)], ids=lambda param: f"{param[0]}-v{param[1]}"
)
def place(request: pytest.FixtureRequest, house: House, key: Key, tmp_path: Path, sample: Path, stocked: str) -> Place:
    door, version = request.param
    return Place(house, key, door, version, tmp_path, sample, stocked)


# Whole clones


def test_a_mirror_has_every_ref_and_every_object(place: Place) -> None:
    clone = place.clone("--mirror")

    place.sound(clone)
    assert place.git("for-each-ref", cwd=clone) == place.git("for-each-ref", cwd=place.sample)
    everything = ("rev-list", "--objects", "--all")
    assert set(place.git(*everything, cwd=clone).splitlines()) == set(
        place.git(*everything, cwd=place.sample).splitlines()
    )


def test_a_bare_clone_has_the_branches_as_its_own(place: Place) -> None:
    clone = place.clone("--bare")

    place.sound(clone)
    assert "refs/heads/topic/left" in place.git("for-each-ref", cwd=clone)
    assert place.git("symbolic-ref", "HEAD", cwd=clone) == "refs/heads/main\n"


def test_a_single_branch_clone_has_one_branch_and_its_tags(place: Place) -> None:
    clone = place.clone("--single-branch", "--branch", "topic/left")

    place.sound(clone)
    assert place.git("branch", "-r", "--format=%(refname)", cwd=clone) == "refs/remotes/origin/topic/left\n"
    assert place.git("tag", cwd=clone).split() == ["first", "light", "v1.0"]


def test_a_clone_of_a_tag_stands_at_the_tagged_commit(place: Place) -> None:
    clone = place.clone("--branch", "v2.0-signed-off", "--depth", "1")

    place.sound(clone)
    assert place.git("rev-parse", "HEAD", cwd=clone) == place.git("rev-parse", "v2.0^{commit}", cwd=place.sample)
    assert place.commits(clone) == 1


def test_cloned_without_tags_there_are_none(place: Place) -> None:
    clone = place.clone("--no-tags")

    place.sound(clone)
    assert place.git("tag", cwd=clone) == ""


# Shallow clones


def test_a_shallow_clone_is_deepened_by_steps_and_then_whole(place: Place) -> None:
    clone = place.clone("--depth", "1", "--no-single-branch")
    assert place.commits(clone) == 1

    place.git("fetch", "-q", "--deepen", "2", cwd=clone)
    place.sound(clone)
    few = place.commits(clone)
    assert 3 <= few < COMMITS

    place.git("fetch", "-q", "--depth", "2", cwd=clone)
    place.sound(clone)
    assert place.commits(clone) == 2

    place.git("fetch", "-q", "--unshallow", cwd=clone)
    place.sound(clone)
    assert place.commits(clone) == place.commits(place.sample, "main")
    assert not (clone / ".git" / "shallow").exists()


def test_a_clone_since_a_date_has_the_younger_commits(place: Place) -> None:
    clone = place.clone(f"--shallow-since={EPOCH + 10 * DAY_S - DAY_S // 2}", "--single-branch")

    place.sound(clone)
    expected = place.commits(place.sample, "main", f"--since={EPOCH + 10 * DAY_S - DAY_S // 2}")
    assert place.commits(clone) == expected


def test_a_clone_that_excludes_a_tag_has_what_came_after(place: Place) -> None:
    clone = place.clone("--shallow-exclude=v1.0", "--single-branch")

    place.sound(clone)
    assert place.commits(clone) == place.commits(place.sample, "v1.0..main")


def test_a_shallow_clone_is_moved_by_date_and_by_exclusion(place: Place) -> None:
    clone = place.clone("--depth", "1")

    place.git("fetch", "-q", "--shallow-exclude=v1.0", cwd=clone)
    place.sound(clone)
    assert place.commits(clone) == place.commits(place.sample, "v1.0..main")

    place.git("fetch", "-q", f"--shallow-since={EPOCH + 3 * DAY_S - 60}", cwd=clone)
    place.sound(clone)
    assert place.commits(clone) == place.commits(place.sample, "main", f"--since={EPOCH + 3 * DAY_S - 60}")


def test_a_shallow_clone_follows_new_commits(place: Place) -> None:
    name, work = place.house.repository(), place.room / "work"
    for message in ("one", "two", "three"):
        place.house.commit(work, {message: message}, message)
    place.git("push", "-q", place.url_of(name), "main", cwd=work)
    clone = place.clone("--depth", "1", url=place.url_of(name))
    place.house.commit(work, {"four": "4"}, "four")
    place.git("push", "-q", place.url_of(name), "main", cwd=work)

    place.git("pull", "-q", "--ff-only", cwd=clone)

    place.sound(clone)
    assert place.commits(clone) == 2
    assert (clone / "four").read_text() == "4"


def test_deepening_moves_every_end_whatever_is_fetched(place: Place) -> None:
    clone = place.clone("--depth", "1", "--branch", "main")

    place.git("fetch", "-q", "--deepen", "1", "origin", "unrelated", cwd=clone)

    place.sound(clone)
    assert place.commits(clone, "main") == 2


def test_cloning_a_shallow_clone_of_ours_is_still_sound(place: Place) -> None:
    clone = place.clone("--depth", "3", "--no-single-branch")

    place.git("clone", "-q", "--no-local", str(clone), "second")

    place.sound(place.room / "second")


# Partial clones


def test_a_blobless_clone_fetches_what_it_checks_out_and_no_more(place: Place) -> None:
    clone = place.clone("--filter=blob:none")

    place.sound(clone)
    assert (clone / "README.md").read_text() == "# Sample\n\nMore.\n"
    assert (clone / "big.bin").stat().st_size == 3_000_000
    assert len(place.missing(clone)) == _blobs_beside(place, "main")
    assert place.git("show", "main~4:README.md", cwd=clone) == "# Sample\n"


def test_a_treeless_clone_fetches_as_it_goes(place: Place) -> None:
    clone = place.clone("--filter=tree:0")

    place.sound(clone)
    log = ("log", "--stat", "--format=%H %s", "v1.0", "-3")
    assert place.git(*log, cwd=clone) == place.git(*log, cwd=place.sample)
    place.git("checkout", "-q", "topic/right", cwd=clone)
    assert (clone / "right").read_text() == "2\n"


@pytest.mark.parametrize("filters", [("tree:1",), ("tree:3",), ("blob:none", "tree:2"), ("blob:limit=100",)])
def test_filters_leave_out_what_gits_own_server_would(place: Place, filters: tuple[str, ...]) -> None:
    options = [f"--filter={one}" for one in filters]
    clone = place.clone("--bare", *options)

    place.git("-C", str(place.sample), "config", "uploadpack.allowFilter", "true")
    place.git("clone", "-q", "--bare", *options, f"file://{place.sample}", "theirs")

    here = ("-c", "fetch.negotiationAlgorithm=noop", "cat-file", "--batch-all-objects", "--batch-check")
    ours, theirs = (set(place.git(*here, cwd=where).splitlines()) for where in (clone, place.room / "theirs"))
    assert ours == theirs


def test_a_clone_without_large_files_lacks_only_those(place: Place) -> None:
    clone = place.clone("--filter=blob:limit=1m", "--no-checkout")

    assert place.missing(clone) == [f"?{place.git('rev-parse', 'main:big.bin', cwd=place.sample).strip()}"]


def test_a_sparse_partial_clone_has_its_cone(place: Place) -> None:
    clone = place.clone("--filter=blob:none", "--sparse")

    place.git("sparse-checkout", "set", "src/package1", cwd=clone)

    assert sorted(path.name for path in (clone / "src").iterdir()) == ["package1"]
    assert (clone / "src" / "package1" / "module1.txt").read_text() == "line 1\n" * 9
    assert not (clone / "bin").exists()
    assert len(place.missing(clone)) > 250


def test_a_partial_clone_pushes_and_is_made_whole(place: Place) -> None:
    name = place.house.repository()
    place.git("push", "-q", place.url_of(name), "main", cwd=place.sample)
    clone = place.clone("--filter=blob:none", url=place.url_of(name))
    commit = place.house.commit(clone, {"src/package2/module2.txt": "changed\n"})

    place.git("push", "-q", "origin", "main", cwd=clone)

    place.git("fetch", "-q", "--refetch", "--no-filter", "origin", cwd=clone)
    assert place.missing(clone) == []
    whole = place.room / "whole"
    place.git("clone", "-q", place.url_of(name), str(whole))
    place.sound(whole)
    assert place.git("rev-parse", "HEAD", cwd=whole).strip() == commit


def test_filters_that_are_not_offered_are_refused(place: Place) -> None:
    done = place.house.git(
        "-c", f"protocol.version={place.version}", "clone", "--filter=sparse:oid=main:README.md", place.url, "clone",
        cwd=place.room, key=place.key, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert "sparse" in done.stderr


# Listing


def test_refs_are_listed_by_pattern_with_peeled_tags_and_head(place: Place) -> None:
    def names(*arguments: str) -> list[str]:
        return [line.split("\t")[1] for line in place.git("ls-remote", *arguments).splitlines()]

    assert names(place.url, "v1*") == ["refs/tags/v1.0", "refs/tags/v1.0^{}"]
    assert names("--heads", place.url, "refs/heads/topic/*") == ["refs/heads/topic/left", "refs/heads/topic/right"]
    assert names("--refs", "--tags", place.url) == [
        f"refs/tags/{tag}" for tag in ("first", "light", "v1.0", "v2.0", "v2.0-signed-off")
    ]
    assert names(place.url, "HEAD") == ["HEAD"]
    assert place.git("ls-remote", "--symref", place.url, "HEAD").startswith("ref: refs/heads/main\tHEAD\n")
    assert place.house.git("ls-remote", "--exit-code", place.url, "nothing", key=place.key, check=False).returncode == 2


def test_the_remotes_head_is_found(place: Place) -> None:
    clone = place.clone()
    place.git("remote", "set-head", "origin", "--delete", cwd=clone)

    place.git("remote", "set-head", "origin", "--auto", cwd=clone)

    assert place.git("symbolic-ref", "refs/remotes/origin/HEAD", cwd=clone) == "refs/remotes/origin/main\n"
    assert "HEAD branch: main" in place.git("remote", "show", "origin", cwd=clone)


def test_a_commit_is_fetched_by_its_id_and_an_unknown_id_is_not(place: Place) -> None:
    clone = place.room / "clone"
    place.git("init", "-q", str(clone))
    wanted = place.git("rev-parse", "main~5", cwd=place.sample).strip()

    place.git("fetch", "-q", "--depth", "1", place.url, f"{wanted}:refs/heads/wanted", cwd=clone)
    absent = place.house.git("fetch", place.url, "ab" * 20, cwd=clone, key=place.key, check=False)

    assert place.git("rev-parse", "wanted", cwd=clone).strip() == wanted
    assert absent.returncode != 0
    assert "not our ref" in absent.stderr


def test_server_options_are_let_pass(place: Place) -> None:
    if place.version != 2:
        pytest.skip("server options came with protocol version 2")

    assert place.git("ls-remote", "--server-option=trace=1", place.url, "HEAD").endswith("\tHEAD\n")


def test_pruning_forgets_branches_that_are_gone(place: Place) -> None:
    name, work = place.house.repository(), place.room / "work"
    place.house.commit(work)
    place.git("push", "-q", place.url_of(name), "main", "main:refs/heads/old", cwd=work)
    clone = place.clone(url=place.url_of(name))
    place.git("push", "-q", place.url_of(name), ":refs/heads/old", cwd=work)

    place.git("fetch", "-q", "--prune", cwd=clone)

    assert "origin/old" not in place.git("branch", "-r", cwd=clone)


def test_submodules_are_cloned_with_their_parent(place: Place) -> None:
    library, parent = place.house.repository(), place.house.repository()
    commit = place.house.commit(place.room / "library", {"library.txt": "text\n"})
    place.git("push", "-q", place.url_of(library), "main", cwd=place.room / "library")
    work = place.room / "parent"
    place.git("init", "-q", str(work))
    place.git("remote", "add", "origin", place.url_of(parent), cwd=work)
    place.git("submodule", "--quiet", "add", f"../{library}", "lib", cwd=work)
    place.git("commit", "-q", "-m", "Add the library", cwd=work)
    place.git("push", "-q", "origin", "main", cwd=work)

    clone = place.clone("--recurse-submodules", url=place.url_of(parent))

    assert (clone / "lib" / "library.txt").read_text() == "text\n"
    assert place.git("rev-parse", "HEAD", cwd=clone / "lib").strip() == commit


def _blobs_beside(place: Place, revision: str) -> int:
    """How many files the sample's history has that *revision* has not."""
    return len(_blobs(place.sample, "--all") - _blobs(place.sample, f"{revision}^{{tree}}"))


def _blobs(repository: Path, what: str) -> set[str]:
    command = ["git", "rev-list", "--objects", "--filter=object:type=blob", "--filter-provided-objects", what]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    return {line.split()[0] for line in done.stdout.splitlines()}
