"""Failed authentications are counted, not listed."""

from datetime import UTC, datetime, timedelta

import pytest

from gitserver.core.addresses import network_of
from gitserver.journal.failures import ADDRESSES, OTHERS, WINDOW, FailureTally

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_the_first_failure_of_an_address_is_told_at_once() -> None:
    tally = FailureTally()

    told = tally.note("192.0.2.1", "git-credential", "alice-at-123456789012", NOON)

    assert [(count.address, count.count, count.claimed) for count in told] == [
        ("192.0.2.1", 1, ("alice-at-123456789012",))
    ]


def test_what_follows_within_a_minute_is_told_as_one_count() -> None:
    tally = FailureTally()
    tally.note("192.0.2.1", "git-credential", "git", NOON)
    quiet = [tally.note("192.0.2.1", "ssh-key", "git", NOON + n * SECOND) for n in range(1, 60)]

    told = tally.note("192.0.2.1", "git-credential", "git", NOON + WINDOW)

    assert quiet == [[]] * 59
    assert [(count.count, count.first, count.last) for count in told] == [(60, NOON + SECOND, NOON + WINDOW)]
    assert told[0].methods == ("ssh-key", "git-credential")


def test_counts_whose_minute_is_over_are_due_even_when_the_address_is_silent() -> None:
    tally = FailureTally()
    tally.note("192.0.2.1", "ssh-key", "git", NOON)
    tally.note("192.0.2.1", "ssh-key", "git", NOON + SECOND)

    early, due, again = tally.due(NOON + 30 * SECOND), tally.due(NOON + WINDOW), tally.due(NOON + 2 * WINDOW)

    assert early == []
    assert [count.count for count in due] == [1]
    assert again == []


def test_a_name_that_may_be_a_password_is_not_kept() -> None:
    tally = FailureTally()

    told = tally.note("192.0.2.1", "git-credential", "correct-horse-battery", NOON)

    assert told[0].claimed == ("(not a name of ours)",)


def test_addresses_beyond_the_limit_are_counted_together() -> None:
    tally = FailureTally()
    for n in range(ADDRESSES):
        tally.note(f"10.0.{n // 256}.{n % 256}", "ssh-key", "git", NOON)

    told = [tally.note(f"10.9.{n // 256}.{n % 256}", "ssh-key", "git", NOON) for n in range(5000)]

    assert [count.address for counts in told for count in counts] == [OTHERS]
    assert [(count.address, count.count) for count in tally.drain()] == [(OTHERS, 4999)]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
        ("x" * 1000, "x" * 64),
    ],
)
def test_one_customers_addresses_count_as_one(address: str, network: str) -> None:
    assert network_of(address) == network
