"""Debian's git, in each protocol version, over TLS, OpenSSH and an SSH client made of paramiko."""

import shlex
import sys
from pathlib import Path
from typing import ClassVar

from tests.scenarios.clients.client import Client, Door, Said

_ALL = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")


class Git(Client):
    """Git as it comes: protocol version 2."""

    name = "git"
    title = "git, protocol version 2"
    protocol: ClassVar[int] = 2

    def clone(self, url: str, directory: Path, *, depth: int = 0) -> Said:
        shallow = [f"--depth={depth}", "--no-single-branch"] if depth else []
        return self._git("clone", *shallow, url, str(directory))

    def fetch(self, directory: Path, *, depth: int = 0) -> Said:
        return self._git("-C", str(directory), "fetch", *([f"--depth={depth}"] if depth else []), "origin", *_ALL)

    def push(self, directory: Path, *refspecs: str, force: bool = False) -> Said:
        return self._git("-C", str(directory), "push", *(["--force"] if force else []), "origin", *refspecs)

    def list_refs(self, url: str) -> Said:
        return self._git("ls-remote", url)

    def ssh(self) -> dict[str, str]:
        """Variables that choose the SSH client; the house's own choice is OpenSSH."""
        return {}

    def _git(self, *arguments: str) -> Said:
        return self.run(["git", "-c", f"protocol.version={self.protocol}", *arguments], environment=self.ssh())


class GitV1(Git):
    """Git with ``protocol.version=1``."""

    name = "git-v1"
    title = "git with `protocol.version=1`"
    protocol = 1


class GitV0(Git):
    """Git with ``protocol.version=0``."""

    name = "git-v0"
    title = "git with `protocol.version=0`"
    protocol = 0


class GitOverParamiko(Git):
    """Git with paramiko in the place of OpenSSH's client."""

    name = "git-paramiko"
    title = "git with paramiko as its SSH client"
    doors: ClassVar[tuple[Door, ...]] = ("ssh",)

    def ssh(self) -> dict[str, str]:
        program = Path(__file__).with_name("paramiko_ssh.py")
        command = [sys.executable, str(program), str(self.house.known_hosts), str(self.key.private)]
        return {"GIT_SSH_COMMAND": shlex.join(command), "GIT_SSH_VARIANT": "ssh"}
