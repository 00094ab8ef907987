"""Names of refs, compared with ``git check-ref-format``."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitserver.git.ref_names import is_valid, refusal
from tests.unit.git.pack_forge import ENVIRONMENT

_PIECES = st.sampled_from(
    (
        b"refs", b"heads", b"tags", b"/", b"//", b".", b"..", b".lock", b"@", b"@{", b"{", b"~", b"^", b":", b"?",
        b"*", b"[", b"\\", b" ", b"\x7f", b"\x1f", b"\n", b"\xff", b"\xc3\xa9", b"-", b"a", b"b.c", b".lock/x",
        b"lock", b"HEAD", b"stash",
    )
)  # fmt: skip
_NAMES = st.builds(
    lambda start, pieces: start + b"".join(pieces),
    st.sampled_from((b"refs/heads/", b"refs/heads/", b"refs/", b"")),
    st.lists(st.one_of(_PIECES, st.binary(max_size=3)), max_size=6),
).filter(lambda name: b"\0" not in name)


def git_takes(name: bytes) -> bool:
    done = subprocess.run(
        [b"git", b"check-ref-format", name], env=ENVIRONMENT | {"LC_ALL": "C"}, capture_output=True, check=False
    )
    return done.returncode == 0


@settings(max_examples=250, deadline=None, derandomize=True)
@given(_NAMES)
def test_a_name_is_valid_if_git_takes_it_and_it_lies_two_levels_below_refs(name: bytes) -> None:
    levels = name.split(b"/")

    assert is_valid(name) == (git_takes(name) and levels[0] == b"refs" and len(levels) >= 3)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=40))
def test_no_name_confuses_the_judge(name: bytes) -> None:
    answer = refusal(name, ref_bytes=1024, branch_bytes=256)

    assert answer in (None, "funny refname", "reserved refname")
    assert answer is not None or is_valid(name)


@pytest.mark.parametrize(
    "name",
    [
        b"HEAD", b"refs/stash", b"refs/heads", b"refs/heads/", b"refs/heads/-x", b"refs/heads/HEAD", b"refs/heads/\xff",
        b"refs/heads/" + b"a" * 40, b"refs/heads/" + b"0" * 40, b"refs/heads/" + b"x" * 257,
        b"refs/tags/" + b"x" * 2000, b"refs/heads/a\nb", b"refs/heads/a\0b", b"refs/heads/a.lock", b"refs/heads/.a",
        b"refs/heads/a..b", b"../etc/passwd", b"refs/heads/a/", b"/refs/heads/a", b"refs//heads/a", b"refs/heads/@{",
        b"refs/heads/a b", b"refs/heads/a.",
    ],
)  # fmt: skip
def test_a_funny_name_is_refused(name: bytes) -> None:
    assert refusal(name, ref_bytes=1024, branch_bytes=256) == "funny refname"


@pytest.mark.parametrize("name", [b"refs/pull/1/head", b"refs/internal/x", b"refs/internal/keep/1"])
def test_a_reserved_name_is_refused(name: bytes) -> None:
    assert refusal(name, ref_bytes=1024, branch_bytes=256) == "reserved refname"


@pytest.mark.parametrize(
    "name",
    [
        b"refs/heads/main", b"refs/heads/feature/x", b"refs/heads/f\xc3\xa9", b"refs/heads/" + b"x" * 256,
        b"refs/tags/v1.0", b"refs/heads/@", b"refs/heads/a-b", b"refs/heads/" + b"a" * 39,
        b"refs/heads/" + b"g" * 40, b"refs/notes/commits", b"refs/tags/" + b"a" * 40, b"refs/pulls/1",
    ],
)  # fmt: skip
def test_an_ordinary_name_is_taken_by_us_and_by_git(name: bytes) -> None:

    assert refusal(name, ref_bytes=1024, branch_bytes=256) is None
    assert git_takes(name)
