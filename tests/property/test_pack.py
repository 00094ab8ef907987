"""Packs of anything, packed anyhow: what went in comes out."""

from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from gitserver.git.objects import Kind
from gitserver.git.pack_format import (
    PackDamaged,
    entry_header,
    ofs_distance,
    read_delta_sizes,
    read_entry_header,
    read_ofs_distance,
)
from gitserver.git.pack_resolve import patched
from tests.unit.git.pack_forge import Forged, difference, forge, ofs, oid, receive, ref, varint, whole

_BLOBS = st.lists(st.binary(max_size=300), min_size=1, max_size=8, unique=True)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 7), st.integers(0, (1 << 64) - 1), st.binary(max_size=4))
def test_an_entry_header_is_read_as_it_was_written(number: int, size: int, behind: bytes) -> None:
    written = entry_header(number, size)

    assert read_entry_header(written + behind, 0) == (number, size, len(written))


@settings(derandomize=True, deadline=None)
@given(st.integers(0, (1 << 62) - 1), st.binary(max_size=4))
def test_a_distance_is_read_as_it_was_written(distance: int, behind: bytes) -> None:
    written = ofs_distance(distance)

    assert read_ofs_distance(written + behind, 0) == (distance, len(written))


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_numbers_or_an_error(data: bytes) -> None:
    for read in (
        lambda: read_entry_header(data, 0),
        lambda: read_ofs_distance(data, 0),
        lambda: read_delta_sizes(data),
    ):
        try:
            read()
        except PackDamaged:
            continue


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62))
def test_a_delta_says_its_sizes(base: int, result: int) -> None:
    assert read_delta_sizes(varint(base) + varint(result)) == (base, result)


@settings(derandomize=True, deadline=None)
@given(st.binary(min_size=1, max_size=3000), st.binary(min_size=4, max_size=3000))
def test_a_delta_makes_what_it_was_made_for(base: bytes, result: bytes) -> None:
    assert patched(base, difference(base, result)) == result


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_delta_makes_what_it_promises_or_is_refused(base: bytes, operations: bytes) -> None:
    for promised in (len(operations), 7):
        try:
            made = patched(base, varint(len(base)) + varint(promised) + operations)
        except PackDamaged:
            continue
        assert len(made) == promised


@settings(derandomize=True, deadline=None, max_examples=60)
@given(_BLOBS, st.data(), st.integers(1, 400))
def test_blobs_packed_in_any_way_come_out_again(blobs: list[bytes], data: st.DataObject, piece_bytes: int) -> None:
    entries: list[Forged] = []
    for number, blob in enumerate(blobs):
        way = data.draw(st.sampled_from(("whole", "ofs", "ref")))
        base = data.draw(st.integers(0, max(0, number - 1)))
        change = difference(blobs[base], blob)
        if way == "whole" or number == 0 or len(change) < 4:
            entries.append(whole(Kind.BLOB, blob))
        else:
            entries.append(ofs(base, change) if way == "ofs" else ref(oid(Kind.BLOB, blobs[base]), change))

    with closing(receive(forge(entries), piece_bytes=piece_bytes)) as incoming:
        assert {name: incoming.objects.read(name) for name in incoming.objects.oids()} == {
            oid(Kind.BLOB, blob): (Kind.BLOB, blob) for blob in blobs
        }
