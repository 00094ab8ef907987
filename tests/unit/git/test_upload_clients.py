"""Clients other than C git: dulwich, libgit2, JGit."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest
from dulwich import porcelain

from tests.unit.git.test_upload_clone import criss_cross, odd_tags
from tests.unit.git.upload_house import Doors, Origin, free_of_faults, objects_in

JGIT_JARS = Path("/usr/share/java")
HAS_JGIT = shutil.which("java") is not None and (JGIT_JARS / "org.eclipse.jgit.pgm.jar").exists()


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin")


@pytest.fixture
def doors(origin: Origin) -> Iterator[Doors]:
    doors = Doors(origin)
    yield doors
    doors.close()


def history(origin: Origin) -> None:
    odd_tags(origin)
    origin.git("tag", "-d", "lightblob")
    criss_cross(origin, 9)
    origin.commits(10, start=6)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("door", ["git", "http"])
def test_dulwich_clones_fetches_and_takes_little(
    origin: Origin, doors: Doors, tmp_path: Path, door: str, version: int
) -> None:
    history(origin)
    target, shallow = tmp_path / "target", tmp_path / "shallow"
    quiet = io.BytesIO()
    porcelain.clone(doors.url(door), target, errstream=quiet, checkout=False, protocol_version=version).close()
    porcelain.clone(
        doors.url(door), shallow, errstream=quiet, checkout=False, protocol_version=version, depth=2
    ).close()
    origin.commits(3, start=16)

    porcelain.fetch(str(target), doors.url(door), errstream=quiet, outstream=io.StringIO())

    assert objects_in(target) == origin.objects_of("--all")
    assert len(objects_in(shallow)) < len(objects_in(target)) // 2
    free_of_faults(target)
    free_of_faults(shallow)


@pytest.mark.parametrize("version", [0, 2])
def test_dulwich_clones_an_empty_repository(doors: Doors, tmp_path: Path, version: int) -> None:
    clone = porcelain.clone(doors.url("git"), tmp_path / "empty", errstream=io.BytesIO(), protocol_version=version)

    assert clone.get_refs() == {}
    clone.close()


@pytest.mark.parametrize("door", ["git", "http"])
def test_libgit2_clones(origin: Origin, doors: Doors, tmp_path: Path, door: str) -> None:
    history(origin)

    pygit2.clone_repository(doors.url(door), str(tmp_path / "target")).free()

    assert objects_in(tmp_path / "target") == origin.objects_of("--all")
    free_of_faults(tmp_path / "target")


@pytest.mark.skipif(not HAS_JGIT, reason="JGit is not installed")
@pytest.mark.parametrize("door", ["git", "http"])
def test_jgit_clones_and_fetches(origin: Origin, doors: Doors, tmp_path: Path, door: str) -> None:
    history(origin)
    target = tmp_path / "target"
    jgit(tmp_path, "clone", doors.url(door), str(target))
    origin.commits(3, start=16)

    jgit(tmp_path, "--git-dir", str(target / ".git"), "fetch")

    assert objects_in(target) == origin.objects_of("--all")
    free_of_faults(target)


def jgit(where: Path, *arguments: str) -> None:
    # Debian's own start script forgets the jars that JGit 4.11 needs.
    command = ["java", "-cp", f"{JGIT_JARS}/*", "org.eclipse.jgit.pgm.Main", *arguments]
    subprocess.run(command, cwd=where, check=True, capture_output=True, timeout=60)
