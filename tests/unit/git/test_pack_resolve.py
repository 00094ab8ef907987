"""Deltas that cannot be resolved, and those that can: judged as git judges them."""

import random
from pathlib import Path

import pytest

from gitserver.git.ingest import ObjectCollision
from gitserver.git.limits import PackLimits
from gitserver.git.objects import Kind, ObjectId
from gitserver.git.pack_format import PackDamaged
from gitserver.git.pack_index import build_index
from gitserver.git.pack_resolve import patched
from gitserver.git.packs import Pack
from gitserver.git.store import ObjectStore
from gitserver.storage.spool import Spool
from tests.unit.git.pack_forge import (
    Forged,
    GitJudge,
    commit,
    copy,
    delta,
    difference,
    forge,
    insert,
    ofs,
    oid,
    receive,
    ref,
    server_verdict,
    tree,
    whole,
)

BASE = b"the quick brown fox jumps over the lazy dog\n" * 4
OTHER = BASE.replace(b"lazy", b"sleepy")
THIRD = OTHER.replace(b"quick", b"slow")
BLOB = whole(Kind.BLOB, BASE)
BASE_ID, OTHER_ID, THIRD_ID = (oid(Kind.BLOB, data) for data in (BASE, OTHER, THIRD))
SAME = delta(len(BASE), len(BASE), copy(0, len(BASE)))
TO_OTHER, TO_THIRD = difference(BASE, OTHER), difference(OTHER, THIRD)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> GitJudge:
    return GitJudge(tmp_path_factory.mktemp("judge"))


def held(*objects: tuple[Kind, bytes], names: dict[bytes, ObjectId] | None = None) -> ObjectStore:
    """A store of one pack; *names* may call an object's data by another id than its own."""
    pack = forge(whole(kind, data) for kind, data in objects)
    spool = Spool(Path("/tmp"), 1 << 20)
    rows, at = [], 12
    for kind, data in objects:
        rows.append(((names or {}).get(data, oid(kind, data)), at, 0, int(kind), len(data)))
        at += len(forge([whole(kind, data)])) - 32
    spool.write(pack)
    spool.write(build_index(rows, pack[-20:]))
    return ObjectStore((Pack("held", spool, len(pack)),))


SOUND = {
    "a delta behind its base": [BLOB, ofs(0, TO_OTHER)],
    "a delta on a delta": [BLOB, ofs(0, TO_OTHER), ofs(1, TO_THIRD)],
    "a delta by name before its base": [ref(BASE_ID, TO_OTHER), BLOB],
    "a delta by name on what a delta makes": [ref(OTHER_ID, TO_THIRD), ref(BASE_ID, TO_OTHER), BLOB],
    "both kinds on one base": [BLOB, ofs(0, TO_OTHER), ref(BASE_ID, difference(BASE, b"something else"))],
    "deltas of every size": [BLOB, *(ofs(0, difference(BASE, BASE[:size])) for size in range(4, 60))],
}

BROKEN = {
    "a delta on itself, by distance": [BLOB, ofs(1, TO_OTHER)],
    "a delta on itself, by name": [BLOB, ref(OTHER_ID, difference(OTHER, OTHER))],
    "two deltas on each other": [ref(THIRD_ID, difference(THIRD, OTHER)), ref(OTHER_ID, TO_THIRD)],
    "three deltas in a circle": [
        ref(THIRD_ID, difference(THIRD, BASE)),
        ref(BASE_ID, TO_OTHER),
        ref(OTHER_ID, TO_THIRD),
    ],
    "a circle beside sound objects": [
        BLOB,
        ref(THIRD_ID, difference(THIRD, OTHER)),
        ref(OTHER_ID, TO_THIRD),
        ofs(0, difference(BASE, b"more")),
    ],
    "a delta on a later entry": [BLOB, ofs(-(1 << 40), TO_OTHER)],
    "a delta on the pack's header": [BLOB, ofs(-4, TO_OTHER)],
    "a delta on the middle of an entry": [BLOB, whole(Kind.BLOB, b"y"), ofs(-12, TO_OTHER)],
    "a base that is nowhere": [BLOB, ref(b"\1" * 20, TO_OTHER)],
    "the same object twice": [BLOB, BLOB],
    "the same object whole and as a delta": [BLOB, ofs(0, SAME)],
    "the same object as two deltas": [BLOB, ofs(0, TO_OTHER), ref(BASE_ID, TO_OTHER)],
    "a delta of nothing": [BLOB, ofs(0, b"")],
    "a delta that makes nothing": [BLOB, ofs(0, delta(len(BASE), 0))],
    "a delta that makes three bytes too few": [BLOB, ofs(0, delta(len(BASE), 9, copy(0, 6)))],
    "a delta that makes too much": [BLOB, ofs(0, delta(len(BASE), 5, copy(0, 6)))],
    "a delta on a base of another size": [BLOB, ofs(0, delta(len(BASE) + 1, 6, copy(0, 6)))],
    "a copy from behind the base": [BLOB, ofs(0, delta(len(BASE), 6, copy(len(BASE) - 5, 6)))],
    "a copy from far behind the base": [BLOB, ofs(0, delta(len(BASE), 6, copy(0xFFFFFFFF, 6)))],
    "a copy cut short": [BLOB, ofs(0, delta(len(BASE), 6, b"\xff\0\0\0"))],
    "an insertion cut short": [BLOB, ofs(0, delta(len(BASE), 6, b"\x06abc"))],
    "the reserved operation": [BLOB, ofs(0, delta(len(BASE), 6, b"\0", copy(0, 6)))],
    "sizes that never end": [BLOB, ofs(0, b"\xff" * 30)],
    "a tree that a delta breaks": [
        BLOB,
        whole(Kind.TREE, tree((b"100644", b"a", BASE_ID))),
        ofs(1, difference(tree((b"100644", b"a", BASE_ID)), tree((b"100644", b"..", BASE_ID)))),
    ],
    "a commit that a delta leaves without its tree": [
        whole(Kind.TREE, b""),
        whole(Kind.COMMIT, commit(oid(Kind.TREE, b""))),
        ofs(1, difference(commit(oid(Kind.TREE, b"")), commit(BASE_ID))),
    ],
}


@pytest.mark.parametrize("entries", SOUND.values(), ids=SOUND)
@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 16])
def test_deltas_in_good_order_are_resolved(judge: GitJudge, entries: list[Forged], piece_bytes: int) -> None:
    pack = forge(entries)

    ours = server_verdict(pack, piece_bytes=piece_bytes)

    assert ours.accepted, ours.reason
    assert judge.verdict(pack).accepted


@pytest.mark.parametrize("entries", BROKEN.values(), ids=BROKEN)
def test_deltas_out_of_order_are_refused(judge: GitJudge, entries: list[Forged]) -> None:
    pack = forge(entries)

    assert not server_verdict(pack).accepted
    assert not judge.verdict(pack).accepted


def test_a_copy_of_size_nought_copies_sixty_four_kibibytes(judge: GitJudge) -> None:
    base = bytes(range(256)) * 300

    assert patched(base, delta(len(base), 0x10000, b"\x80")) == base[:0x10000]
    assert judge.verdict(forge([whole(Kind.BLOB, base), ofs(0, delta(len(base), 0x10000, b"\x80"))])).accepted


def test_random_deltas_are_applied_as_git_applies_them(judge: GitJudge) -> None:
    chance = random.Random(5)
    outcomes = []
    for _ in range(150):
        operations = []
        for _ in range(chance.randrange(4)):
            size, at = chance.randrange(1, 60), chance.randrange(len(BASE))
            operations.append(chance.choice((copy(at, size), insert(chance.randbytes(size)), chance.randbytes(2))))
        claimed = sum(chance.choice((len(op), 20)) for op in operations)
        made = delta(len(BASE), claimed, *operations)
        pack = forge([BLOB, ofs(0, made)])

        ours, theirs = server_verdict(pack), judge.verdict(pack)

        assert ours.accepted == theirs.accepted, (made, ours.reason, theirs.reason)
        outcomes.append(ours.accepted)
    assert any(outcomes)


def test_many_deltas_waiting_on_large_bases_are_resolved_though_the_cache_is_small() -> None:
    chance = random.Random(3)
    versions = [chance.randbytes(50_000)]
    entries = [whole(Kind.BLOB, versions[0])]
    for _ in range(60):
        base = chance.randrange(len(versions))
        versions.append(versions[base][:-8] + chance.randbytes(8))
        entries.append(ofs(base, difference(versions[base], versions[-1])))
    names = {oid(Kind.BLOB, data) for data in versions}

    incoming = receive(forge(entries), limits=PackLimits(cache_bytes=120_000))

    assert set(incoming.objects.oids()) == names
    incoming.close()


# --- thin packs ---------------------------------------------------------------------------------------------------


def test_a_thin_pack_is_completed_from_the_store() -> None:
    pack = forge([ref(BASE_ID, TO_OTHER), ofs(0, TO_THIRD)])

    incoming = receive(pack, held((Kind.BLOB, BASE)))

    assert incoming.object_count == 3
    assert incoming.objects.read(THIRD_ID) == (Kind.BLOB, THIRD)
    incoming.close()


def test_a_thin_pack_without_its_base_is_refused() -> None:
    verdict = server_verdict(forge([ref(BASE_ID, TO_OTHER)]), held((Kind.BLOB, b"unrelated")))

    assert not verdict.accepted


def test_a_base_in_the_pack_is_preferred_to_the_store() -> None:
    pack = forge([ref(OTHER_ID, TO_THIRD), BLOB, ofs(1, TO_OTHER)])

    incoming = receive(pack, held((Kind.BLOB, OTHER)))

    assert incoming.object_count == 3
    incoming.close()


def test_a_delta_takes_its_kind_from_a_base_in_the_store() -> None:
    empty = oid(Kind.TREE, b"")
    first, second = commit(empty), commit(empty, message=b"another\n")

    incoming = receive(
        forge([ref(oid(Kind.COMMIT, first), difference(first, second))]), held((Kind.TREE, b""), (Kind.COMMIT, first))
    )

    assert incoming.objects.kind(oid(Kind.COMMIT, second)) is Kind.COMMIT
    incoming.close()


def test_an_object_held_already_may_come_again_with_the_same_bytes() -> None:
    assert server_verdict(forge([BLOB]), held((Kind.BLOB, BASE))).accepted


@pytest.mark.parametrize("impostor", [(Kind.BLOB, BASE[:-1] + b"!"), (Kind.BLOB, BASE + b"!"), (Kind.COMMIT, BASE)])
def test_an_object_with_the_id_of_another_is_refused(impostor: tuple[Kind, bytes]) -> None:
    store = held(impostor, names={impostor[1]: BASE_ID})

    with pytest.raises(ObjectCollision, match="SHA-1 collision"):
        receive(forge([BLOB]), store)


def test_a_delta_whose_result_has_the_id_of_another_object_is_refused() -> None:
    store = held((Kind.BLOB, b"something else"), names={b"something else": OTHER_ID})

    with pytest.raises(ObjectCollision):
        receive(forge([BLOB, ofs(0, TO_OTHER)]), store)


def test_a_delta_shorter_than_any_that_git_takes_is_refused() -> None:
    with pytest.raises(PackDamaged):
        patched(b"", b"\0\0")
