"""What .gitmodules may say: judged as git judges it, however the file is spelled."""

import random
import time
from pathlib import Path

import pytest

from gitserver.git.gitmodules import MAX_GITMODULES_BYTES, check_gitattributes, check_gitmodules
from gitserver.git.objects import Kind
from tests.unit.git.pack_forge import forge, git_findings, oid, tree, whole

FILES: list[tuple[str | None, bytes]] = [
    (None, b""),
    (None, b'[submodule "a"]\n\tpath = a\n\turl = https://example.com/a.git\n\tupdate = rebase\n'),
    (None, b'[submodule "a/..b"]\npath = a-b\nurl = ../a\n'),
    (None, b'[submodule "../x"]\n'),  # a section without a setting is nothing
    (None, b'[other "../x"]\nurl = -u\n'),
    (None, b"[submodule]\nurl = -u\n"),
    (None, b'[submodule "a"]\nurl\npath\nupdate\n'),
    (None, b'[submodule "a"]\nurl = ""\nurl = git@example.com:a.git\nurl = ssh://-x/\n'),
    (None, b'[submodule "a\n"]\nurl = -u\n'),
    (None, b'! rubbish\n[submodule "a"]\nurl = -u\n'),
    (None, b'\xef\xbb[submodule "a"]\nurl = -u\n'),
    (None, b'[submodule "a"]\nurl = # -u\n'),
    (None, b'[submodule "a"]\nurl = "unclosed\nurl = -u\n'),
    (None, b'[submodule "a"]\nx = \\q\nurl = -u\n'),
    (None, b'[submodule "a\0"]\nurl = -u\n'),
    (None, b'[submodule "a"]\nurl = x\0\n-u\n'),
    (None, b'[submodule "a"]\nurl = ./:x\nurl = .../:\nurl = ..\\\\\\\\x\n'),
    (None, b'[submodule "a"]\nurl = https://u%0@h/x\nurl = file:///x\nurl = https://a:b@h\n'),
    ("gitmodulesName", b'[submodule "../x"]\nurl = a\n'),
    ("gitmodulesName", b'[submodule "a/../../x"]\nurl = a\n'),
    ("gitmodulesName", b'[submodule "a/.."]\nx = y\n'),
    ("gitmodulesName", b'[submodule ".."]\nx\n'),
    ("gitmodulesName", b'[submodule "a\\\\..\\\\x"]\nurl = a\n'),
    ("gitmodulesName", b'[submodule ".\\."]\nurl = a\n'),  # an escaped dot is a dot
    ("gitmodulesName", b'[submodule ""]\nurl = a\n'),
    ("gitmodulesName", b"[submodule.]\nurl = a\n"),
    ("gitmodulesName", b"[submodule...]\nurl = a\n"),
    ("gitmodulesName", b'[SubModule "../x"]\nURL = a\n'),
    ("gitmodulesName", b'[submodule\t \t"../x"]url=a'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = -u./payload\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = --upload-pack=touch x\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = "-u"\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = ""-u\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = \\\n   -u\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = -u\nurl = https://example.com/\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = https://example.com/\nurl = -u\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = -u\nrubbish ! here\n'),
    ("gitmodulesUrl", b'[submodule "a"] url = -u\n'),
    ("gitmodulesUrl", b'[submodule "a"]\r\nUrl = -u\r\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = -u\\'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = -u\xff"'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = \\\xff-u'),
    ("gitmodulesUrl", b"[submodule.a]\nurl = -u\n"),
    ("gitmodulesUrl", b'[submodule.a "b"]\nurl = -u\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = ../../:evil/\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = ./../:evil/\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = ..//evil\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = ..\\\\:evil\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = ./%0ahost=evil\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = "./\\nhost=evil"\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = git://host/%0a\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = https://one.example.com?%0ahost=two.example.com/foo.git\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = https:///example.com/foo.git\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = https://\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = https://user@/x\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = http::git\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = https::://x\n'),
    ("gitmodulesUrl", b'[submodule "a"]\nurl = ftp::http://%0a\n'),
    ("gitmodulesPath", b'[submodule "a"]\npath = -x\n'),
    ("gitmodulesPath", b'[submodule "a"]\npath = a\npath = "-x"\npath = a\n'),
    ("gitmodulesUpdate", b'[submodule "a"]\nupdate = !touch x\n'),
    ("gitmodulesUpdate", b'[submodule "a"]\nupdate = "!"\n'),
]

_TOKENS = (
    b"[submodule ", b'[submodule "a"]', b'"', b"]", b"[", b"\n", b"\n", b"\r\n", b"\r", b" ", b"\t", b"=", b" = ",
    b"url", b"url = ", b"path = ", b"update = ", b"-u", b"!x", b"..", b"/", b"\\", b"\\\\", b"\\n", b'\\"', b"\\\n",
    b"#", b";", b".", b"submodule.a]", b"x", b"../", b"https://", b"http::", b"%0a", b":", b"@", b"\0",
    b"\xef\xbb\xbf", b"\xff", b"-", b"1", b"\\b", b"\\t", b"?",
)  # fmt: skip


def judged(directory: Path, files: list[bytes]) -> list[set[str]]:
    """What git fsck says of each of *files* as a .gitmodules."""
    objects = [whole(Kind.BLOB, data) for data in set(files)]
    objects += [whole(Kind.TREE, tree((b"100644", b".gitmodules", oid(Kind.BLOB, data)))) for data in set(files)]
    found = git_findings(directory, forge(objects))
    return [found.get(oid(Kind.BLOB, data), set()) for data in files]


def test_each_file_is_judged_as_git_judges_it(tmp_path: Path) -> None:
    theirs = judged(tmp_path, [data for _, data in FILES])

    for (message_id, data), said in zip(FILES, theirs, strict=True):
        finding = check_gitmodules(Kind.BLOB, data)
        assert (finding and finding.message_id) == message_id, data
        assert (message_id in said) if message_id else not said, data


@pytest.mark.parametrize("seed", range(3))
def test_files_of_random_tokens_are_judged_as_git_judges_them(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    files = []
    for _ in range(2000):
        tokens = chance.choices(_TOKENS, k=chance.randrange(1, 12))
        start = chance.choice((b'[submodule "a"]\n', b'[submodule "a"]\nurl = ', b'[submodule "', b""))
        files.append(start + b"".join(tokens))

    theirs = judged(tmp_path, files)

    for data, said in zip(files, theirs, strict=True):
        finding = check_gitmodules(Kind.BLOB, data)
        if b"\xff" in data or data.startswith(b"\xef\xbb\xbf"):
            assert finding is not None or not said, (data, said)  # the next test says why ours may be stricter
        else:
            assert (finding.message_id in said) if finding else not said, (data, said, finding)


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf[submodule "a"]\nurl = -u\n',  # git skips this mark in a file, but not in an object
        b'[submodule "a"]\nx = \xff\nurl = -u\n',  # and in an object, this byte ends the file
        b'# \xff\n[submodule "../x"]\nurl = y\n',
    ],
)
def test_what_only_a_file_on_disk_would_say_is_refused_though_git_fsck_overlooks_it(
    tmp_path: Path, data: bytes
) -> None:
    said = judged(tmp_path, [data])

    assert check_gitmodules(Kind.BLOB, data) is not None
    assert said == [set()]


@pytest.mark.parametrize("filling", [b"a = b\n", b"\\t", b'""', b"# x\n", b"\n", b"[a]", b" ", b"\\\\", b'"x" ', b"a"])
def test_the_largest_file_is_read_within_seconds(filling: bytes) -> None:
    data = b'[submodule "a"]\nurl = ' + filling * (MAX_GITMODULES_BYTES // len(filling))
    begun = time.process_time()

    check_gitmodules(Kind.BLOB, data[:MAX_GITMODULES_BYTES])

    assert time.process_time() - begun < 5


def test_a_file_too_large_to_be_read_is_refused() -> None:
    for data in (None, bytes(MAX_GITMODULES_BYTES + 1)):
        finding = check_gitmodules(Kind.BLOB, data)
        assert finding is not None
        assert finding.message_id == "gitmodulesLarge"


def test_a_message_shows_only_the_beginning_of_a_long_value() -> None:
    finding = check_gitmodules(Kind.BLOB, b'[submodule "a"]\nurl = -' + b"u" * 100_000)

    assert finding is not None
    assert len(finding.what) < 300


@pytest.mark.parametrize(
    ("message_id", "data"),
    [
        (None, b""),
        (None, b"x" * 2047),
        (None, b"x" * 2047 + b"\n" + b"x" * 2047),
        (None, b"\0" + b"x" * 5000),
        ("gitattributesLineLength", b"x" * 2048),
        ("gitattributesLineLength", b"ok\n" + b"x" * 2048 + b"\n"),
    ],
)
def test_lines_of_gitattributes_are_measured_as_git_measures_them(
    tmp_path: Path, message_id: str | None, data: bytes
) -> None:
    blob = oid(Kind.BLOB, data)
    found = git_findings(
        tmp_path, forge([whole(Kind.BLOB, data), whole(Kind.TREE, tree((b"100644", b".gitattributes", blob)))])
    )

    finding = check_gitattributes(Kind.BLOB, data)

    assert (finding and finding.message_id) == message_id
    assert found.get(blob, set()) == ({message_id} if message_id else set())
