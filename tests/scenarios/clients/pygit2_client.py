"""pygit2, that is libgit2, over OpenSSL and over libssh2."""

import sys
from pathlib import Path

from tests.scenarios.clients.client import Driven


class Pygit2(Driven):
    """libgit2's Python binding."""

    name = "pygit2"
    title = "pygit2"

    def program(self) -> list[str | Path]:
        return [sys.executable, Path(__file__).with_name("pygit2_driver.py")]

    def environment(self) -> dict[str, str]:
        """libgit2 reads the host keys from the home directory."""
        home = self.house.home / "libgit2"
        (home / ".ssh").mkdir(parents=True, exist_ok=True)
        (home / ".ssh" / "known_hosts").write_text(self.house.known_hosts.read_text())
        return {"HOME": str(home), "SSL_CERT_FILE": str(self.house.ca_file), "SSH_KEY": str(self.key.private)}
