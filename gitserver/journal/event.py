"""Something that happened, as the service that did it tells the journal."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from gitserver.core.arn import Arn


@dataclass(frozen=True)
class Event:
    """What every event has: a name in the past tense, and the resource it is about.

    A subclass is a frozen dataclass beside the service that writes it. It says its ``name`` (stable: subscriptions
    and auditors spell it) and adds the facts as fields: text, numbers, booleans, times, ARNs, ``None``, and
    sequences, mappings or dataclasses of those. A field must never hold a secret; a ``Secret`` is refused.
    """

    name: ClassVar[str]
    resource: Arn


class Facts(Protocol):
    """Any dataclass: an event, or a count of failures."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def detail(event: Facts) -> str:
    """The facts of *event* as one JSON object, in the order of its fields; ``resource`` is left out.

    The text is plain ASCII, so every database stores it whatever the facts contain.

    Raises:
        TypeError: a field holds something that does not belong in a journal, such as bytes or a ``Secret``.
    """
    facts = {field.name: _plain(getattr(event, field.name)) for field in fields(event) if field.name != "resource"}
    return json.dumps(facts, ensure_ascii=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Arn):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(inner) for inner in value]
    raise TypeError(f"a {type(value).__name__} does not belong in the journal")
