"""Which ids may be asked for: what visible refs lead to, found newest first and remembered."""

from pathlib import Path

import pytest

from gitserver.git import wants as wants_module
from gitserver.git.graph import CommitGraph
from gitserver.git.objects import ObjectId
from gitserver.git.wants import NotOurRef, Reachable, ReachableMemory, VisibleRefs
from tests.unit.git.upload_house import EPOCH, Opened, Origin


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin")
    origin.commits(20)
    origin.commits(3, branch="secret", since=EPOCH + 7)
    origin.git("tag", "-a", "-m", "x", "v1", "main~3")
    origin.git("tag", "-a", "-m", "x", "v2", "v1")
    origin.git("update-ref", "refs/internal/secret", "secret")
    origin.git("branch", "-q", "-D", "secret")
    return origin


def oid(origin: Origin, name: str) -> ObjectId:
    return ObjectId(bytes.fromhex(origin.git("rev-parse", name)))


def reachable(opened: Opened, memory: ReachableMemory | None = None, limit: int = 10_000) -> Reachable:
    return Reachable(CommitGraph(opened.objects), opened.objects, VisibleRefs(opened.refs), limit, memory)


@pytest.mark.parametrize(
    "name", ["main", "main~19", "v2", "v1", "v1^{}", "main~7^{tree}", "main~7:dir1", "main~19:top0"]
)
def test_what_a_visible_ref_leads_to_may_be_asked_for(origin: Origin, name: str) -> None:
    reachable(origin.open()).require([oid(origin, name)])


@pytest.mark.parametrize("name", ["refs/internal/secret", "refs/internal/secret~1"])
def test_what_only_a_hidden_ref_leads_to_may_not(origin: Origin, name: str) -> None:
    with pytest.raises(NotOurRef, match=f"not our ref {oid(origin, name).hex()}"):
        reachable(origin.open()).require([oid(origin, name)])


def test_an_absent_id_is_refused_as_a_hidden_one_is(origin: Origin) -> None:
    with pytest.raises(NotOurRef, match="not our ref 1111"):
        reachable(origin.open()).require([ObjectId(bytes([0x11] * 20))])


def test_a_second_search_reads_nothing(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wants_module, "_PATIENCE_TREES", 5)
    memory, old = ReachableMemory(), oid(origin, "main~19:top0")
    lost = ObjectId(bytes.fromhex(origin.git("hash-object", "-w", "--stdin", text="lost\n")))
    opened = origin.open()
    reachable(opened, memory).require([old])

    again = reachable(opened, memory, limit=0)

    again.require([old, oid(origin, "main~4:dir1")])
    assert again.lacking([lost, old]) == {lost}


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    memory = ReachableMemory(room_ids=5)
    tips = [{ObjectId(bytes([number] * 20))} for number in (7, 8, 9)]
    behind = {ObjectId(bytes([number, 0] * 10)) for number in range(2)}
    for tip in tips:
        memory.remember(tip, behind)

    memory.remember({ObjectId(bytes(20))}, {ObjectId(bytes([0, number] * 10)) for number in range(6)})

    assert memory.lacking(tips[0], behind) is None
    assert memory.lacking(tips[1], behind) == set()
    assert memory.lacking(tips[2], behind | tips[0]) == tips[0]
