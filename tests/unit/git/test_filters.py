"""Filters as clients write them."""

import pytest

from gitserver.core.errors import TooMuch
from gitserver.git.filters import EVERYTHING, Filter, FilterNotSupported, parse_filter
from gitserver.git.objects import Kind

GOOD = {
    b"blob:none": Filter(blob_limit=0),
    b"blob:limit=0": Filter(blob_limit=0),
    b"blob:limit=7": Filter(blob_limit=7),
    b"blob:limit=2k": Filter(blob_limit=2048),
    b"blob:limit=3M": Filter(blob_limit=3 << 20),
    b"blob:limit=1g": Filter(blob_limit=1 << 30),
    b"tree:0": Filter(tree_depth=0),
    b"tree:12": Filter(tree_depth=12),
    b"object:type=tag": Filter(kinds=frozenset({Kind.TAG})),
    b"combine:blob:none+tree:3": Filter(blob_limit=0, tree_depth=3),
    b"combine:blob%3Alimit%3D5+blob:limit=9": Filter(blob_limit=5),
    b"combine:object:type=tree+object:type=blob": Filter(kinds=frozenset()),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_git_writes_is_understood(text: bytes) -> None:
    assert parse_filter(text) == GOOD[text]


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"blob:",
            b"blob:all",
            b"blob:limit=-1",
            b"blob:limit=1t",
            b"tree:",
            b"tree:-1",
            b"object:type=x",
            b"tag",
        ),
        *(b"sparse:oid=x", b"sparse:path=x", b"auto", b"combine:", b"combine:blob:none+", b"combine:combine:tree:1"),
        b"\xff",
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(text: bytes) -> None:
    with pytest.raises(FilterNotSupported, match="use blob:none"):
        parse_filter(text)


def test_long_filters_are_refused() -> None:
    with pytest.raises(TooMuch):
        parse_filter(b"blob:limit=" + b"1" * 5000)
    with pytest.raises(TooMuch):
        parse_filter(b"combine:" + b"+".join([b"tree:1"] * 33))


def test_no_filter_passes_all() -> None:
    assert EVERYTHING.blobs
    assert EVERYTHING.contents
    assert EVERYTHING & Filter(tree_depth=4) == Filter(tree_depth=4)
