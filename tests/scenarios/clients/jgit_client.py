"""JGit's command line, over Java's TLS and, through ``GIT_SSH``, over OpenSSH's client."""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.scenarios.clients.client import Client, Said

_JARS = Path("/usr/share/java")
# Debian's command leaves out jars that its own main class needs.
_MISSING_JARS = (
    "org.eclipse.jgit.lfs.jar",
    "org.eclipse.jgit.http.apache.jar",
    "httpclient.jar",
    "httpcore.jar",
    "commons-logging.jar",
    "jsch.jar",
    "javaewah.jar",
    "slf4j-api.jar",
    "slf4j-nop.jar",
    "gson.jar",
)
_ALL = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
_STORE_PASSWORD = "changeit"


class JGit(Client):
    """Debian's jgit-cli."""

    name = "jgit"
    title = "JGit"
    cannot: ClassVar[Mapping[str, str]] = {
        "shallow": "JGit before 6.5 has no shallow clones",
    }

    def url(self, repository: str) -> str:
        """JGit takes no password from a URL; it has a .netrc."""
        return self.house.https_url(repository, bare=True) if self.door == "https" else super().url(repository)

    def clone(self, url: str, directory: Path, *, depth: int = 0) -> Said:
        return self._jgit("clone", url, str(directory))

    def fetch(self, directory: Path, *, depth: int = 0) -> Said:
        return self._jgit("fetch", "origin", *_ALL, cwd=directory)

    def push(self, directory: Path, *refspecs: str, force: bool = False) -> Said:
        said = self._jgit("push", *(["--force"] if force else []), "origin", *refspecs, cwd=directory)
        refused = any(line.startswith(" ! ") for line in said.text.splitlines())  # the program ends with 0 all the same
        return Said(1, said.text) if refused else said

    def list_refs(self, url: str) -> Said:
        return self._jgit("ls-remote", url)

    def _jgit(self, *arguments: str, cwd: Path | None = None) -> Said:
        java = ["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]
        java += [f"-Duser.home={self._home()}", "-Djava.awt.headless=true"]
        java += [f"-Djavax.net.ssl.trustStore={self._trust_store()}"]
        java += [f"-Djavax.net.ssl.trustStorePassword={_STORE_PASSWORD}"]
        environment = {**_class_path(), "JAVA_TOOL_OPTIONS": " ".join(java), "GIT_SSH": str(self._ssh())}
        return self.run(["jgit", *arguments], cwd=cwd, environment=environment)

    def _home(self) -> Path:
        """A home directory with the credential in it."""
        home = self.house.home / f"jgit-{self.credential.id}"
        if not home.exists():
            home.mkdir(mode=0o700)
            shown = self.credential
            (home / ".netrc").write_text(f"machine localhost login {shown.user_name} password {shown.password}\n")
            (home / ".gitconfig").write_text((self.house.home / ".gitconfig").read_text())
        return home

    def _trust_store(self) -> Path:
        """A Java key store with the house's certificate authority in it."""
        store = self.house.home / "trust.p12"
        if not store.exists():
            command = ["keytool", "-importcert", "-noprompt", "-alias", "house", "-file", str(self.house.ca_file)]
            command += ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", _STORE_PASSWORD]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        return store

    def _ssh(self) -> Path:
        """A program that JGit runs as ssh; its own SSH client knows none of today's algorithms."""
        program = self.house.home / f"ssh-{self.key.id}"
        if not program.exists():
            program.write_text(f'#!/bin/sh\nexec ssh {shlex.join(self.house.ssh_options(self.key))} "$@"\n')
            program.chmod(0o700)
        return program


def _class_path() -> dict[str, str]:
    return {"JGIT_CLASSPATH": ":".join(str(_JARS / name) for name in _MISSING_JARS)}
