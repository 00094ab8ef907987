"""Events become text that every database takes and that holds no secret."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from gitserver.core.arn import Arn
from gitserver.core.secret import Secret
from gitserver.journal.event import Event, detail

HERE = Arn("codecommit", "us-east-1", "123456789012", "web")


@dataclass(frozen=True)
class Move:
    ref: str
    old: str | None


@dataclass(frozen=True)
class ThingsHappened(Event):
    name: ClassVar[str] = "ThingsHappened"
    facts: Any


def test_the_detail_is_the_facts_without_the_resource() -> None:
    event = ThingsHappened(HERE, facts=(Move("refs/heads/main", None), Move("refs/tags/v1", "ab")))

    text = detail(event)

    assert json.loads(text) == {
        "facts": [{"ref": "refs/heads/main", "old": None}, {"ref": "refs/tags/v1", "old": "ab"}]
    }


def test_times_arns_and_mappings_are_spelled_out() -> None:
    facts: Mapping[str, Any] = {"at": datetime(2026, 1, 1, tzinfo=UTC), "on": HERE, "ok": True}

    found = json.loads(detail(ThingsHappened(HERE, facts)))

    assert found["facts"] == {"at": "2026-01-01T00:00:00+00:00", "on": str(HERE), "ok": True}


def test_text_no_database_would_take_is_escaped() -> None:
    text = detail(ThingsHappened(HERE, "a\0b\udcffé"))

    assert text.isascii()
    assert "\0" not in text
    assert json.loads(text)["facts"] == "a\0b\udcffé"


@pytest.mark.parametrize("fact", [Secret("hunter2"), b"hunter2", [Secret("hunter2")], {"p": Secret("hunter2")}])
def test_a_secret_is_refused_and_not_repeated(fact: object) -> None:
    with pytest.raises(TypeError, match="does not belong in the journal") as refused:
        detail(ThingsHappened(HERE, fact))

    assert "hunter2" not in str(refused.value)
