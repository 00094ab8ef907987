"""Dulwich's own client, over urllib3 and over OpenSSH's client."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.scenarios.clients.client import Driven


class Dulwich(Driven):
    """Dulwich's porcelain."""

    name = "dulwich"
    title = "Dulwich"
    cannot: ClassVar[Mapping[str, str]] = {
        "clone nothing": "Dulwich 1.2.21 cannot clone an empty repository, from C Git's server neither",
    }

    def program(self) -> list[str | Path]:
        return [sys.executable, Path(__file__).with_name("dulwich_driver.py")]

    def environment(self) -> dict[str, str]:
        """Dulwich reads the authority from git's configuration, and OpenSSH's options from ``GIT_SSH_COMMAND``."""
        ours = self.house.home / "dulwich.gitconfig"
        ours.write_text((self.house.home / ".gitconfig").read_text() + f"[http]\n\tsslCAInfo = {self.house.ca_file}\n")
        return {"GIT_CONFIG_GLOBAL": str(ours)}
