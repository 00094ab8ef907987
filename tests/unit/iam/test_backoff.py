"""Whoever keeps guessing waits; nobody else does."""

from datetime import timedelta

import pytest

from gitserver.core.clock import FixedClock
from gitserver.iam.backoff import BackOff, BackOffLimits, TooManyFailures

OFFICE = "192.0.2.10"
ELSEWHERE = "198.51.100.66"


def _refused_for(backoff: BackOff, name: str, address: str) -> int:
    try:
        backoff.check(name, address)
    except TooManyFailures as refused:
        return refused.retry_after_s
    return 0


def test_five_failures_are_forgiven_and_then_the_wait_doubles() -> None:
    clock = FixedClock()
    backoff = BackOff(clock)
    waits = []

    for _ in range(9):
        backoff.failed("alice", OFFICE)
        wait = _refused_for(backoff, "alice", OFFICE)
        waits.append(wait)
        clock.advance(timedelta(seconds=wait))

    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16]


def test_the_wait_ends_and_does_not_grow_without_limit() -> None:
    clock = FixedClock()
    backoff = BackOff(clock)
    for _ in range(100):
        backoff.failed("alice", OFFICE)

    longest = _refused_for(backoff, "alice", OFFICE)
    clock.advance(timedelta(seconds=longest))

    assert longest == 300
    assert _refused_for(backoff, "alice", OFFICE) == 0


def test_a_quiet_while_makes_it_forget() -> None:
    clock = FixedClock()
    backoff = BackOff(clock)
    for _ in range(4):
        backoff.failed("alice", OFFICE)

    clock.advance(timedelta(seconds=31))
    backoff.failed("alice", OFFICE)

    assert _refused_for(backoff, "alice", OFFICE) == 0


def test_guessing_from_another_address_locks_nobody_out() -> None:
    backoff = BackOff(FixedClock())

    for _ in range(1000):
        backoff.failed("alice", ELSEWHERE)

    assert _refused_for(backoff, "alice", ELSEWHERE) > 0
    assert _refused_for(backoff, "alice", OFFICE) == 0


def test_trying_many_names_from_one_network_is_one_attempt_after_another() -> None:
    backoff = BackOff(FixedClock())

    for number in range(20):
        backoff.failed(f"user{number}", f"2001:db8:1:2::{number:x}")

    assert _refused_for(backoff, "user99", "2001:db8:1:2::ffff") == 1
    assert _refused_for(backoff, "user99", "2001:db8:1:3::1") == 0


def test_a_colleagues_broken_robot_does_not_lock_the_office_out() -> None:
    clock = FixedClock()
    backoff = BackOff(clock)
    backoff.succeeded("alice", OFFICE)

    for number in range(50):
        backoff.failed(f"robot{number}", OFFICE)

    assert _refused_for(backoff, "alice", OFFICE) == 0
    assert _refused_for(backoff, "bob", OFFICE) > 0
    clock.advance(timedelta(hours=13))
    for number in range(50):
        backoff.failed(f"robot{number}", OFFICE)
    assert _refused_for(backoff, "alice", OFFICE) > 0


def test_a_success_forgives_the_name_and_not_the_network() -> None:
    backoff = BackOff(FixedClock(), BackOffLimits(failures=2, network_failures=3))
    backoff.failed("alice", OFFICE)
    backoff.succeeded("alice", OFFICE)
    backoff.failed("alice", OFFICE)

    backoff.failed("bob", OFFICE)

    assert _refused_for(backoff, "alice", OFFICE) == 0
    assert _refused_for(backoff, "carol", OFFICE) == 1


def test_strangers_cannot_fill_the_memory() -> None:
    backoff = BackOff(FixedClock(), BackOffLimits(tracked=10))

    for number in range(1000):
        backoff.failed(f"user{number}", f"10.0.{number // 256}.{number % 256}")
        backoff.succeeded(f"user{number}", f"10.0.{number // 256}.{number % 256}")

    assert len(backoff._networks) == 10
    assert len(backoff._pairs) <= 10
    assert len(backoff._good) == 10


def test_the_sentence_says_how_long_to_wait() -> None:
    backoff = BackOff(FixedClock())
    for _ in range(7):
        backoff.failed("alice", OFFICE)

    with pytest.raises(TooManyFailures, match="wait 4 s"):
        backoff.check("alice", OFFICE)
