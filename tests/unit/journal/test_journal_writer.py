"""One thread commits what many threads record."""

import logging
import threading
from collections.abc import Sequence

import pytest
from sqlalchemy.exc import DataError

from gitserver.core.errors import Unavailable
from gitserver.journal import writer as writer_module
from gitserver.journal.writer import GroupWriter, Values


class Paper:
    """Keeps groups of rows; can be made to refuse or to wait."""

    def __init__(self) -> None:
        self.groups: list[list[Values]] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.busy = threading.Event()
        self.refusals = 0
        self.unwritable: object = None
        self.threads: set[str] = set()
        self.caller_is_here = threading.Event()

    def write(self, rows: Sequence[Values]) -> None:
        self.busy.set()
        if threading.current_thread().name == "caller":
            self.caller_is_here.set()
        self.may_write.wait(5)
        self.threads.add(threading.current_thread().name)
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the disk is full")
        if any(row["n"] == self.unwritable for row in rows):
            raise DataError("insert", {}, ValueError("not storable"))
        self.groups.append(list(rows))

    @property
    def numbers(self) -> list[int]:
        return [row["n"] for group in self.groups for row in group]


def _nothing_overdue() -> list[Values]:
    return []


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_no_thread_runs_before_the_first_entry() -> None:
    paper = Paper()
    before = _threads()

    writer = GroupWriter(paper.write, _nothing_overdue)

    assert _threads() == before
    writer.close()


def test_entries_that_gather_during_a_commit_share_the_next_one() -> None:
    paper = Paper()
    paper.may_write.clear()
    writer = GroupWriter(paper.write, _nothing_overdue)
    writer.put({"n": 0})
    paper.busy.wait(5)

    for n in range(1, 100):
        writer.put({"n": n})
    paper.may_write.set()
    writer.close()

    assert paper.numbers == list(range(100))
    assert len(paper.groups) == 2


def test_nothing_is_lost_when_eight_threads_write_and_the_writer_is_closed() -> None:
    paper = Paper()
    writer = GroupWriter(paper.write, _nothing_overdue, queue=50)

    def scribble(start: int) -> None:
        for n in range(start, start + 200):
            writer.put({"n": n})

    threads = [threading.Thread(target=scribble, args=(start,)) for start in range(0, 1600, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()

    assert sorted(paper.numbers) == list(range(1600))


def test_a_full_queue_makes_the_caller_write_rather_than_drop() -> None:
    paper = Paper()
    paper.may_write.clear()
    writer = GroupWriter(paper.write, _nothing_overdue, queue=1)
    writer.put({"n": 0})
    caller = threading.Thread(target=writer.put, args=({"n": 1},), name="caller")
    caller.start()
    assert paper.caller_is_here.wait(5)
    paper.may_write.set()
    caller.join(5)
    writer.close()

    assert sorted(paper.numbers) == [0, 1]
    assert "caller" in paper.threads


def test_entries_wait_until_the_database_takes_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    paper = Paper()
    paper.refusals = 3
    writer = GroupWriter(paper.write, _nothing_overdue)

    writer.put({"n": 0})
    writer.close()

    assert paper.numbers == [0]


def test_a_database_that_never_recovers_leaves_the_entries_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    paper = Paper()
    paper.refusals = 1_000_000
    writer = GroupWriter(paper.write, _nothing_overdue)

    with caplog.at_level(logging.ERROR):
        writer.put({"n": 77})
        writer.close()

    assert [record.getMessage() for record in caplog.records] == ['journal entry not written: {"n": 77}']


def test_one_unwritable_entry_does_not_take_its_neighbours_along(caplog: pytest.LogCaptureFixture) -> None:
    paper = Paper()
    paper.unwritable = 5
    paper.may_write.clear()
    writer = GroupWriter(paper.write, _nothing_overdue)

    for n in range(10):
        writer.put({"n": n})
    paper.may_write.set()
    writer.close()

    assert sorted(paper.numbers) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert 'journal entry not written: {"n": 5}' in caplog.text


def test_after_close_an_entry_is_written_at_once() -> None:
    paper = Paper()
    writer = GroupWriter(paper.write, _nothing_overdue)
    writer.close()

    writer.put({"n": 1})

    assert paper.numbers == [1]


def test_what_time_made_due_is_written_without_anybody_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "TICK_S", 0.01)
    paper = Paper()
    due: list[Values] = [{"n": 9}]
    writer = GroupWriter(paper.write, lambda: [due.pop()] if due else [])
    writer.put({"n": 1})

    deadline = threading.Event()
    for _ in range(200):
        if paper.numbers == [1, 9]:
            break
        deadline.wait(0.01)
    writer.close()

    assert paper.numbers == [1, 9]
