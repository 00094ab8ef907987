"""What a client of the matrix can do; each module beside this one has one that keeps the promise.

A client is somebody else's program in a process of its own. It is told a URL and a directory and knows nothing of
the server but its certificate authority and its host keys. Clones are ordinary working trees with the remote
``origin``, so that real git can commit in them and judge them.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tests.house import Credential, House, Key

Door = Literal["https", "ssh"]

TIMEOUT_S = 60


@dataclass(frozen=True)
class Said:
    """How a client's program ended, and all that it printed."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.status == 0


class Client:
    """A program that clones, fetches and pushes.

    Args:
        house: the server.
        door: which way in.
        key: the SSH key to show.
        credential: the git credential to show.
    """

    name: ClassVar[str]  # in the names of tests
    title: ClassVar[str]  # in docs/clients.md
    doors: ClassVar[tuple[Door, ...]] = ("https", "ssh")
    cannot: ClassVar[Mapping[str, str]] = {}  # a word of the scenarios to the reason

    def __init__(self, house: House, door: Door, key: Key, credential: Credential) -> None:
        self.house, self.door, self.key, self.credential = house, door, key, credential

    def url(self, repository: str) -> str:
        """Where the client finds *repository*."""
        if self.door == "ssh":
            return self.house.ssh_url(repository)
        return self.house.https_url(repository, self.credential)

    def clone(self, url: str, directory: Path, *, depth: int = 0) -> Said:
        """Clone all branches and tags, or *depth* commits."""
        raise NotImplementedError

    def fetch(self, directory: Path, *, depth: int = 0) -> Said:
        """Fetch all branches and tags, forced updates included; *depth* as for a shallow clone."""
        raise NotImplementedError

    def push(self, directory: Path, *refspecs: str, force: bool = False) -> Said:
        """Push *refspecs* of full ref names to ``origin``; ``:NAME`` deletes."""
        raise NotImplementedError

    def list_refs(self, url: str) -> Said:
        """Print what the server advertises: lines with an id and a name in them."""
        raise NotImplementedError

    # For the clients

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Said:
        """Run the client's program."""
        done = subprocess.run(
            command,
            cwd=cwd or self.house.home,
            env={**self.house.client_environment(self.key), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
        return Said(done.returncode, done.stdout)


class Driven(Client):
    """A library, driven by a small program that takes the same four verbs.

    ``clone [--depth N] URL DIRECTORY``, ``fetch [--depth N] DIRECTORY``, ``push [--force] DIRECTORY REFSPEC...``,
    ``ls-remote URL``.
    """

    def program(self) -> list[str | Path]:
        """The driver's command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What the driver's environment has beside a developer's."""
        return {}

    def clone(self, url: str, directory: Path, *, depth: int = 0) -> Said:
        return self._drive("clone", *_depth(depth), url, directory)

    def fetch(self, directory: Path, *, depth: int = 0) -> Said:
        return self._drive("fetch", *_depth(depth), directory)

    def push(self, directory: Path, *refspecs: str, force: bool = False) -> Said:
        return self._drive("push", *(["--force"] if force else []), directory, *refspecs)

    def list_refs(self, url: str) -> Said:
        return self._drive("ls-remote", url)

    def _drive(self, *arguments: str | Path) -> Said:
        return self.run([*self.program(), *arguments], environment=self.environment())


def _depth(depth: int) -> list[str]:
    return ["--depth", str(depth)] if depth else []
