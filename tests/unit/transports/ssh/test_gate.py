"""Who may knock, who waits, who is turned away."""

import pytest

from gitserver.transports.ssh import gate as gate_module
from gitserver.transports.ssh.gate import Gate


class Visitor:
    """A connection that only says what happened to it."""

    def __init__(self, gate: Gate, address: str) -> None:
        self.address = address
        self.state = "waiting"
        self._gate = gate
        gate.arrive(self)

    def start(self) -> None:
        self.state = "knocking"

    def close(self) -> None:
        self.state = "gone"
        self._gate.left(self)

    def enter(self) -> None:
        self.state = "inside"
        self._gate.entered(self)


def states(visitors: list[Visitor]) -> list[str]:
    return [visitor.state for visitor in visitors]


def test_as_many_knock_as_may_and_the_others_wait_their_turn() -> None:
    gate = Gate(inside=100, knocking=3, knocking_each=2, wait_s=60)
    visitors = [Visitor(gate, "10.0.0.1") for _ in range(3)] + [Visitor(gate, "10.0.0.2")]

    assert states(visitors) == ["knocking", "knocking", "waiting", "knocking"]
    visitors[0].enter()

    assert states(visitors) == ["inside", "knocking", "knocking", "knocking"]


def test_who_leaves_makes_room() -> None:
    gate = Gate(inside=2, knocking=2, knocking_each=2, wait_s=60)
    first, second, third = (Visitor(gate, "10.0.0.1") for _ in range(3))
    first.enter()
    second.enter()

    assert third.state == "waiting"
    first.close()

    assert third.state == "knocking"


def test_one_address_may_let_only_so_many_wait() -> None:
    gate = Gate(inside=100, knocking=4, knocking_each=1, wait_s=60)
    flood = [Visitor(gate, "10.0.0.1") for _ in range(10)]

    assert states(flood) == ["knocking"] + ["waiting"] * 5 + ["gone"] * 4


def test_ipv6_hosts_of_one_network_count_as_one() -> None:
    gate = Gate(inside=100, knocking=4, knocking_each=1, wait_s=60)

    assert states([Visitor(gate, f"2001:db8::{n}") for n in range(1, 3)]) == ["knocking", "waiting"]
    assert states([Visitor(gate, f"2001:db8:0:{n}::1") for n in range(1, 3)]) == ["knocking", "knocking"]


def test_a_full_queue_drops_the_oldest_of_who_has_most() -> None:
    gate = Gate(inside=100, knocking=1, knocking_each=1, wait_s=60)
    Visitor(gate, "10.0.0.9")
    many = [Visitor(gate, "10.0.0.1") for _ in range(4)]
    few = [Visitor(gate, "10.0.0.2"), Visitor(gate, "10.0.0.3")]

    assert states(many) == ["gone", "waiting", "waiting", "waiting"]
    assert states(few) == ["waiting", "waiting"]


def test_who_waits_too_long_is_turned_away() -> None:
    gate = Gate(inside=100, knocking=1, knocking_each=1, wait_s=0)
    visitors = [Visitor(gate, "10.0.0.1") for _ in range(2)]

    gate.tick()

    assert states(visitors) == ["knocking", "gone"]


def test_the_greediest_address_makes_room_for_a_modest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(inside=100, knocking=3, knocking_each=3, wait_s=60)
    greedy = [Visitor(gate, "10.0.0.1") for _ in range(4)]
    modest = Visitor(gate, "10.0.0.2")

    gate.tick()
    assert modest.state == "waiting"
    monkeypatch.setattr(gate_module, "PATIENCE_S", -1.0)
    gate.tick()

    assert states(greedy) == ["gone", "knocking", "knocking", "knocking"]
    monkeypatch.setattr(gate_module, "PATIENCE_S", -1.0)
    gate.tick()
    assert modest.state == "knocking"


def test_a_closed_gate_turns_everybody_away_who_is_not_inside() -> None:
    gate = Gate(inside=100, knocking=2, knocking_each=2, wait_s=60)
    visitors = [Visitor(gate, "10.0.0.1") for _ in range(3)]
    visitors[0].enter()

    gate.close()

    assert states(visitors) == ["inside", "gone", "gone"]
    assert Visitor(gate, "10.0.0.2").state == "gone"
