"""isomorphic-git, which is Git in JavaScript, under Node.js."""

from pathlib import Path
from typing import ClassVar

from tests.scenarios.clients.client import Door, Driven

_PROJECT = Path(__file__).parents[3]
_FOLDER = Path(__file__).with_name("isomorphic")
MODULES = _PROJECT / ".cache" / "npm" / "node_modules"  # `make test` installs it there


class Isomorphic(Driven):
    """isomorphic-git with its Node.js HTTP client."""

    name = "isomorphic-git"
    title = "isomorphic-git"
    doors: ClassVar[tuple[Door, ...]] = ("https",)  # it has no SSH

    def program(self) -> list[str | Path]:
        return ["node", _FOLDER / "driver.cjs"]

    def environment(self) -> dict[str, str]:
        return {"NODE_PATH": str(MODULES), "NODE_EXTRA_CA_CERTS": str(self.house.ca_file)}
