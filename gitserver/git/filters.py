"""Partial clone filters: which reachable objects a client asks to leave out.

Source: git-rev-list(1), ``--filter``; gitprotocol-v2(5), ``filter``.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from gitserver.core.errors import Invalid, TooMuch
from gitserver.git.objects import KIND_OF_WORD, Kind
from gitserver.git.protocol import printable

MAX_FILTER_BYTES = 4096
MAX_COMBINED = 32
EVERY_KIND = frozenset(Kind)


class FilterNotSupported(Invalid):
    """The client asked for a filter that this server does not know or does not offer."""

    def __init__(self, text: bytes) -> None:
        super().__init__(
            f"filter {printable(text[:200])!r} is not supported; use blob:none, blob:limit=<n>, tree:<depth>, "
            "object:type=<type> or combine:"
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """What passes; an object that is asked for by its id passes always.

    ``blob_limit``: blobs of this many bytes or more stay out; 0 leaves out every blob; None leaves out none.
    ``tree_depth``: trees and blobs this deep or deeper stay out, a commit's own tree being at depth 0.
    ``kinds``: objects of other kinds stay out.
    """

    blob_limit: int | None = None
    tree_depth: int | None = None
    kinds: frozenset[Kind] = EVERY_KIND

    def __and__(self, other: "Filter") -> "Filter":
        """The filter that passes what both pass."""
        return Filter(
            _least(self.blob_limit, other.blob_limit),
            _least(self.tree_depth, other.tree_depth),
            self.kinds & other.kinds,
        )

    @property
    def blobs(self) -> bool:
        """Whether any blob can pass."""
        return self.blob_limit != 0 and Kind.BLOB in self.kinds

    @property
    def contents(self) -> bool:
        """Whether any tree or blob can pass."""
        return self.tree_depth != 0 and (Kind.TREE in self.kinds or self.blobs)


EVERYTHING = Filter()


def parse_filter(text: bytes) -> Filter:
    """Read a filter as the client wrote it.

    Raises:
        FilterNotSupported: sparse filters, and whatever git does not know either.
        TooMuch: it is longer than 4,096 bytes, or combines more than 32.
    """
    if len(text) > MAX_FILTER_BYTES:
        raise TooMuch(f"a filter may be {MAX_FILTER_BYTES} bytes long")
    name, colon, value = text.partition(b":")
    if colon and name == b"combine":
        return _combined(text, value)
    return _single(text)


def _combined(text: bytes, value: bytes) -> Filter:
    parts = value.split(b"+")
    if len(parts) > MAX_COMBINED:
        raise TooMuch(f"a filter may combine {MAX_COMBINED} others")
    found = EVERYTHING
    for part in parts:
        plain = unquote_to_bytes(part)
        if not plain or plain.startswith(b"combine:"):  # git never writes one inside another
            raise FilterNotSupported(text)
        found &= _single(plain)
    return found


def _single(text: bytes) -> Filter:
    if text == b"blob:none":
        return Filter(blob_limit=0)
    if match := _BLOB_LIMIT.fullmatch(text):
        return Filter(blob_limit=int(match.group(1)) * _SCALE[match.group(2).lower()])
    if match := _TREE_DEPTH.fullmatch(text):
        return Filter(tree_depth=int(match.group(1)))
    kind = KIND_OF_WORD.get(text.removeprefix(b"object:type="))
    if text.startswith(b"object:type=") and kind is not None:
        return Filter(kinds=frozenset({kind}))
    raise FilterNotSupported(text)


_BLOB_LIMIT = re.compile(rb"blob:limit=(\d{1,15})([kKmMgG]?)")
_TREE_DEPTH = re.compile(rb"tree:(\d{1,9})")
_SCALE = {b"": 1, b"k": 1 << 10, b"m": 1 << 20, b"g": 1 << 30}


def _least(one: int | None, other: int | None) -> int | None:
    present = [limit for limit in (one, other) if limit is not None]
    return min(present, default=None)
