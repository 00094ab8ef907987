"""``git archive --remote`` from our server, against C git's own archives of the same trees."""

import gzip
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.git.upload_house import ENVIRONMENT, EPOCH, Doors, Origin, commit_lines

LONG = "/".join(["a-long-directory-name-to-fill-the-header"] * 5)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin")
    files = {
        "plain": "text\n",
        "empty": "",
        "dir/one": "1\n" * 400,
        "dir/sub/two": "2\n",
        "other/three": "3\n",
        "n" * 100: "exactly 100",
        "n" * 101: "more than 100",
        f"{LONG}/file": "fits the prefix or not",
        f"dir/{'p' * 60}/{'q' * 60}": "prefix",
        "umläut": "utf-8\n",
        "x" * 512: "block",
    }
    lines = commit_lines("main", EPOCH, files)
    lines[-1:] = [
        "M 100755 inline run", "data 3", "#!\n",
        "M 120000 inline link", "data 5", "plain",
        "M 120000 inline longlink", "data 150", "t" * 150,
        f"M 160000 {'5' * 40} dir/module",
        "",
    ]  # fmt: skip
    origin.stream(*lines)
    origin.git("tag", "-a", "-m", "x", "v1", "main")
    return origin


@pytest.fixture
def doors(origin: Origin) -> Iterator[Doors]:
    doors = Doors(origin)
    yield doors
    doors.close()


def archive(where: Path, url: str, *arguments: str, ok: bool = True) -> bytes:
    command = ["git", "archive", f"--remote={url}", *arguments]
    done = subprocess.run(command, cwd=where, env=ENVIRONMENT, capture_output=True, check=False, timeout=30)
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout if ok else done.stderr


REQUESTS = [
    ("main",),
    ("v1",),
    ("HEAD",),
    ("refs/heads/main",),
    ("--prefix=top/", "main"),
    ("--prefix=top-", "main"),
    ("--prefix=" + "p" * 90 + "/", "main"),
    ("main", "dir"),
    ("main", "dir/sub/", "plain"),
    ("main", "dir/sub/two"),
    ("-v", "--format=tar", "main"),
]


@pytest.mark.parametrize("arguments", REQUESTS, ids=" ".join)
def test_a_tar_file_is_gits_byte_for_byte(
    origin: Origin, doors: Doors, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ours = archive(tmp_path, doors.url("git"), *arguments)

    assert ours == archive(tmp_path, f"file://{origin.path}", *arguments)


@pytest.mark.parametrize("suffix", ["tgz", "tar.gz"])
def test_a_compressed_tar_file_holds_the_same(origin: Origin, doors: Doors, tmp_path: Path, suffix: str) -> None:
    ours = archive(tmp_path, doors.url("git"), f"--format={suffix}", "-9", "main")

    assert gzip.decompress(ours) == archive(tmp_path, f"file://{origin.path}", "main")


def test_a_zip_file_holds_the_same(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    ours = zipfile.ZipFile(io.BytesIO(archive(tmp_path, doors.url("git"), "--format=zip", "--prefix=z/", "main")))
    theirs = zipfile.ZipFile(
        io.BytesIO(archive(tmp_path, f"file://{origin.path}", "--format=zip", "--prefix=z/", "main"))
    )

    assert ours.namelist() == theirs.namelist()
    assert ours.comment == theirs.comment
    assert all(ours.read(name) == theirs.read(name) for name in ours.namelist())
    assert ours.testzip() is None
    assert ours.getinfo("z/run").external_attr >> 16 == 0o100755
    assert ours.getinfo("z/link").external_attr >> 16 == theirs.getinfo("z/link").external_attr >> 16


def test_a_directory_behind_a_ref_can_be_named(doors: Doors, tmp_path: Path) -> None:
    ours = archive(tmp_path, doors.url("git"), "main:dir")

    with tarfile.open(fileobj=io.BytesIO(ours)) as tar:
        assert "sub/two" in tar.getnames()
        assert not tar.pax_headers


def test_the_formats_are_listed(doors: Doors, tmp_path: Path) -> None:
    assert archive(tmp_path, doors.url("git"), "--list").split() == [b"tar", b"tgz", b"tar.gz", b"zip"]


REFUSED = {
    "no such ref": (("nothing",), b"no such ref: nothing"),
    "an id": (("1" * 40,), b"no such ref"),
    "no such path": (("main", "nowhere"), b"pathspec 'nowhere' did not match any files"),
    "a pattern": (("main", "*.c"), b"only plain paths can be asked for"),
    "outside": (("main", "../x"), b"is outside the repository"),
    "a format": (("--format=rar", "main"), b"Unknown archive format 'rar'"),
    "nothing": ((), b"has to be named"),
}


@pytest.mark.parametrize(("arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_archived_is_refused_in_words(
    doors: Doors, tmp_path: Path, arguments: tuple[str, ...], reason: bytes
) -> None:
    assert reason in archive(tmp_path, doors.url("git"), *arguments, ok=False)


def test_ids_and_hidden_refs_are_not_archived(origin: Origin, doors: Doors, tmp_path: Path) -> None:
    tip = origin.git("rev-parse", "main")
    origin.git("update-ref", "refs/internal/secret", tip)

    for name in (tip, "refs/internal/secret", "internal/secret"):
        assert b"no such ref" in archive(tmp_path, doors.url("git"), name, ok=False)


def test_a_large_file_streams(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "large")
    origin.stream(*commit_lines("main", EPOCH, {"large": "0123456789abcdef" * 300_000}))
    doors = Doors(origin)

    ours = archive(tmp_path, doors.url("git"), "--format=zip", "main")
    tar = archive(tmp_path, doors.url("git"), "main")
    doors.close()

    assert len(zipfile.ZipFile(io.BytesIO(ours)).read("large")) == 4_800_000
    assert tar == archive(tmp_path, f"file://{origin.path}", "main")
