"""Words and code stay together: what the code says of itself is written down, and its floors are clean."""

import ast
import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import gitserver
from gitserver.core.errors import Conflict, Denied, Failure, Invalid, NotFound, TooMuch, Unavailable
from gitserver.journal.event import Event

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gitserver"
KINDS = (NotFound, Conflict, Denied, Invalid, TooMuch, Unavailable)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "versions" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def load_everything() -> None:
    for module in pkgutil.walk_packages(gitserver.__path__, "gitserver."):
        if not module.name.endswith((".__main__", ".env")):  # these do something when they are imported
            importlib.import_module(module.name)


def descendants(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_in_one_line_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())

    docstring = ast.get_docstring(tree)

    assert docstring
    assert len(docstring.splitlines()[0]) <= 120
    if path.name == "__init__.py":
        assert len(tree.body) == 1


def test_rows_stay_home() -> None:
    strangers = [
        (path.relative_to(ROOT), name)
        for path in modules()
        for name in imported(path)
        if re.fullmatch(r"gitserver\.\w+\.tables", name)
        and path.parent.name != name.split(".")[1]
        and path.name != "schema.py"
    ]

    assert strangers == []


def test_every_failure_is_of_one_kind_and_says_what_it_is() -> None:
    load_everything()
    named = [failure for failure in descendants(Failure) if failure not in KINDS and failure.__module__[:4] == "gits"]

    assert all(sum(issubclass(failure, kind) for kind in KINDS) == 1 for failure in named)
    assert [failure.__name__ for failure in named if not failure.__doc__] == []


def test_every_event_is_named_after_its_class_and_written_down() -> None:
    load_everything()
    page = (ROOT / "docs" / "journal.md").read_text()
    events = [event for event in descendants(Event) if event.__module__.startswith("gitserver.")]

    assert [event.__name__ for event in events if getattr(event, "name", None) != event.__name__] == []
    assert [event.__name__ for event in events if f"`{event.__name__}`" not in page] == []


def test_every_setting_has_its_sentence() -> None:
    text = (ROOT / "config" / "gitserver.toml").read_text()
    settings = [key for section in tomllib.loads(text).values() for key in section]
    lines = text.splitlines()

    bare = [line for before, line in pairwise(lines) if "=" in line and before[:2] != "# "]

    assert settings
    assert [line for line in bare if not line.startswith("#")] == []


def test_what_ships_speaks_of_no_machine() -> None:
    shipped = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml", ".mako")]

    assert [path for path in shipped if re.search(r"/(?:root|work|home)/\w", path.read_text())] == []
