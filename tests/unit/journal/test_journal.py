"""The journal: with the change, or soon after it, and readable by auditors."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import pytest

from gitserver.core.arn import Arn
from gitserver.core.caller import Caller, local_caller
from gitserver.core.clock import FixedClock
from gitserver.core.ids import AccountId, RepositoryId
from gitserver.journal import journal as journal_module
from gitserver.journal.event import Event
from gitserver.journal.journal import Journal
from gitserver.storage.database import Database

ACCOUNT = AccountId("123456789012")
WEB = Arn("codecommit", "us-east-1", ACCOUNT, "web")


@dataclass(frozen=True)
class RepositoryFetched(Event):
    name: ClassVar[str] = "RepositoryFetched"
    number: int


@dataclass(frozen=True)
class RefsUpdated(Event):
    name: ClassVar[str] = "RefsUpdated"
    ref: str


@pytest.fixture
def journal(database: Database, clock: FixedClock) -> Iterator[Journal]:
    journal = Journal(database, clock)
    yield journal
    journal.close()


@pytest.fixture
def caller() -> Caller:
    return local_caller(ACCOUNT, "op")


def test_an_entry_says_who_how_where_what_and_when(
    database: Database, journal: Journal, caller: Caller, clock: FixedClock
) -> None:
    with database.transaction() as tx:
        journal.write(tx, caller, RefsUpdated(WEB, "refs/heads/main"), repository=RepositoryId("r-1"), sequence=7)

    (entry,) = journal.entries()

    assert (entry.event, entry.at, entry.account) == ("RefsUpdated", clock.now(), ACCOUNT)
    assert (entry.principal, entry.principal_id) == (str(caller.principal), caller.principal_id)
    assert (entry.method, entry.credential_id, entry.mfa) == ("local", "op", None)
    assert (entry.address, entry.request_id, entry.resource) == ("local", caller.request_id, str(WEB))
    assert (entry.repository_id, entry.sequence) == ("r-1", 7)
    assert json.loads(entry.detail) == {"ref": "refs/heads/main"}


def test_an_entry_goes_down_with_the_change_it_tells_of(database: Database, journal: Journal, caller: Caller) -> None:
    def change_and_fail() -> None:
        with database.transaction() as tx:
            journal.write(tx, caller, RefsUpdated(WEB, "refs/heads/main"))
            tx.flush()
            raise RuntimeError("the change came to nothing")

    with pytest.raises(RuntimeError, match="came to nothing"):
        change_and_fail()

    assert list(journal.entries()) == []


def test_eight_threads_record_and_closing_loses_nothing(database: Database, journal: Journal, caller: Caller) -> None:
    def read_a_lot(start: int) -> None:
        for number in range(start, start + 50):
            journal.record(caller, RepositoryFetched(WEB, number))

    readers = [threading.Thread(target=read_a_lot, args=(start,)) for start in range(0, 400, 50)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    journal.close()

    found = [json.loads(entry.detail)["number"] for entry in journal.entries()]
    assert sorted(found) == list(range(400))


def test_entries_are_read_in_pages_in_both_directions(
    database: Database, journal: Journal, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "PAGE", 3)
    for number in range(10):
        journal.record(caller, RepositoryFetched(WEB, number))
    journal.close()

    forward = list(journal.entries())
    backward = list(journal.entries(newest_first=True, limit=7))

    assert [json.loads(entry.detail)["number"] for entry in forward] == list(range(10))
    assert [json.loads(entry.detail)["number"] for entry in backward] == list(range(9, 2, -1))
    assert list(journal.entries(after=forward[7].id)) == forward[8:]


def test_auditors_choose_what_they_read(
    database: Database, journal: Journal, caller: Caller, clock: FixedClock
) -> None:
    other = local_caller(AccountId("210987654321"), "op")
    journal.record(caller, RepositoryFetched(WEB, 1), repository=RepositoryId("r-1"))
    clock.advance(timedelta(hours=1))
    journal.record(caller, RefsUpdated(WEB, "refs/heads/main"), repository=RepositoryId("r-2"))
    journal.record(other, RefsUpdated(WEB, "refs/heads/main"))
    journal.close()

    def numbers(**chosen: object) -> list[int]:
        return [entry.id for entry in journal.entries(**chosen)]  # type: ignore[arg-type]

    first, second, third = numbers()
    assert numbers(account=ACCOUNT) == [first, second]
    assert numbers(principal=str(other.principal)) == [third]
    assert numbers(principal=ACCOUNT) == [first, second]
    assert numbers(event="RefsUpdated") == [second, third]
    assert numbers(repository=RepositoryId("r-1")) == [first]
    assert numbers(since=clock.now()) == [second, third]
    assert numbers(event="RefsUpdated", account=ACCOUNT, limit=5) == [second]


def test_a_thousand_failed_authentications_are_two_rows(
    database: Database, journal: Journal, clock: FixedClock
) -> None:
    for _ in range(1000):
        journal.failed_authentication("192.0.2.66", "git-credential", "s3cret typed as a name")
    journal.close()

    first, rest = journal.entries(event="AuthenticationFailed")
    assert (first.address, json.loads(first.detail)["count"]) == ("192.0.2.66", 1)
    assert json.loads(rest.detail)["count"] == 999
    assert "s3cret" not in first.detail + rest.detail


def test_the_first_failure_is_on_record_before_anybody_closes(database: Database, journal: Journal) -> None:
    journal.failed_authentication("192.0.2.66", "ssh-key", "git")

    for _ in range(200):
        if list(journal.entries()):
            break
        threading.Event().wait(0.01)

    assert [entry.event for entry in journal.entries()] == ["AuthenticationFailed"]


def test_an_address_no_database_would_take_is_made_readable(
    database: Database, journal: Journal, caller: Caller
) -> None:
    journal.failed_authentication("\0\udcff" * 10, "ssh-key", "git")
    journal.record(caller, RepositoryFetched(Arn("codecommit", "", ACCOUNT, "a\0\udcff"), 1))
    journal.close()

    assert {entry.event for entry in journal.entries()} == {"AuthenticationFailed", "RepositoryFetched"}
