"""A real server for scenarios: its own data directory, its own ports, and clients that know nothing of this machine.

    def test_something(house: House, tmp_path: Path) -> None:
        name = house.repository()                       # makes an empty repository, random name
        url = house.https_url(name)                     # with the administrator's git credential in it
        house.git("clone", url, str(tmp_path / "clone"))
        key = house.ssh_key()                           # a key pair; the administrator's
        house.git("push", house.ssh_url(name), "main", cwd=tmp_path / "clone", key=key)

Fixtures (tests/scenarios/conftest.py): ``house`` is one server for the whole test process, shared: make what you need
with names of your own, and do not stop it. ``new_house`` makes servers that are yours to stop, kill and damage.
"""

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gitserver import app
from gitserver import config as configuration
from gitserver.app import Services
from gitserver.config import Config
from gitserver.core.caller import Caller, local_caller
from gitserver.core.ids import AccountId

ACCOUNT = "123456789012"
ADMINISTRATOR = "admin"  # the user that init makes
START_S = 60  # a machine may be busy; how fast a start is, is a test of its own

_CLIENT_SETTINGS = """\
[user]
\tname = Tester
\temail = tester@example.com
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""


@dataclass(frozen=True)
class Credential:
    """What git shows at the HTTPS door."""

    id: str
    user_name: str
    password: str


@dataclass(frozen=True)
class Key:
    """A key pair on this machine, and its id at the server."""

    id: str  # APKA…
    private: Path
    fingerprint: str

    @property
    def public(self) -> str:
        """The line of the .pub file."""
        return self.private.with_suffix(".pub").read_text()


class House:
    """One server, and what a developer has at hand to use it."""

    def __init__(
        self,
        root: Path,
        *,
        start: bool = True,
        settings: Mapping[str, str] | None = None,
        init: Sequence[str] = (),
    ) -> None:
        """Initialise a data directory below *root*, and start serving.

        Args:
            root: an empty directory, for everything: data, keys, logs, client's home.
            start: serve at once.
            settings: ``GITSERVER_SECTION_KEY`` variables for the server, such as ``{"GITSERVER_HTTPS_WORKERS": "1"}``.
            init: more arguments for ``gitserver init``, such as ``["--database", URL]``.
        """
        self.root = root
        self.data = root / "data"
        self.home = root / "home"
        self.log_file = root / "server.log"
        self._ready_file = root / "ready.json"
        self._settings = {"GITSERVER_HTTPS_WORKERS": "2", **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._https_port = self._ssh_port = 0
        self._services: Services | None = None
        self._credentials: dict[str, Credential] = {}
        self.home.mkdir(mode=0o700, parents=True)
        (self.home / ".gitconfig").write_text(_CLIENT_SETTINGS)
        made = self.cli("init", "--account", ACCOUNT, "--json", *init)
        self.made: dict[str, Any] = json.loads(made.stdout)  # what `init --json` printed
        if start:
            self.start()

    # The server

    @property
    def config(self) -> Config:
        """The settings as the server reads them."""
        return configuration.load(self.data, self._environment())

    @property
    def services(self) -> Services:
        """The services, in this process, beside the server's own."""
        if self._services is None:
            self._services = app.build(self.config)
        return self._services

    @property
    def caller(self) -> Caller:
        """The account itself, who may do everything."""
        return local_caller(AccountId(ACCOUNT), "tester")

    @property
    def process_id(self) -> int:
        """Of the supervisor."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def https_port(self) -> int:
        """The HTTPS door's; the same after a restart."""
        return self._https_port

    @property
    def ssh_port(self) -> int:
        """The SSH door's; the same after a restart."""
        return self._ssh_port

    @property
    def log(self) -> str:
        """All that the server wrote to standard error, from its first start on."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self, *arguments: str) -> float:
        """Start the server and wait until it is ready; the seconds that took."""
        assert self._process is None, "the server is running already"
        self._ready_file.unlink(missing_ok=True)
        doors = ["--https", f"127.0.0.1:{self._https_port}", "--ssh", f"127.0.0.1:{self._ssh_port}"]
        began = time.monotonic()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("serve", *doors, "--ready-file", str(self._ready_file), *arguments),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ready = self._wait_until_ready()
        self._https_port = ready.get("http", {}).get("port", 0)
        self._ssh_port = ready.get("ssh", {}).get("port", 0)
        self._settings["GITSERVER_SERVER_PUBLIC_URL"] = f"https://localhost:{self._https_port}"
        self._settings["GITSERVER_SSH_PUBLIC_URL"] = f"ssh://localhost:{self._ssh_port}"
        self._settings["GITSERVER_HTTPS_LISTEN"] = f"127.0.0.1:{self._https_port}"
        self._settings["GITSERVER_SSH_LISTEN"] = f"127.0.0.1:{self._ssh_port}"
        self._write_known_hosts()
        return time.monotonic() - began

    def stop(self, timeout_s: float = 40) -> int:
        """Stop the server as an operator does (SIGTERM); its exit code."""
        assert self._process is not None, "the server is not running"
        process, self._process = self._process, None
        process.terminate()
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._kill_session(process)
            raise

    def kill9(self) -> None:
        """Kill every process of the server at once; return when all are gone.

        The services of this process are closed before: while anybody has the database open, SQLite need not recover.
        """
        assert self._process is not None, "the server is not running"
        self._close_services()
        process, self._process = self._process, None
        self._kill_session(process)

    def restart(self) -> float:
        """Start again on the same ports; the seconds until it was ready. Stops it first if it runs."""
        if self._process is not None:
            self.stop()
        return self.start()

    def processes(self) -> dict[int, str]:
        """Every process of the running server: its id and command line."""
        assert self._process is not None, "the server is not running"
        return dict(_session(self._process.pid))

    def cpu_s(self) -> float:
        """The processor time that the server's living processes have taken: what a busy machine does not change."""
        ticks = 0
        for number in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()
                ticks += sum(int(field) for field in fields[11:15])  # Source: proc(5): utime, stime, cutime, cstime
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End everything; for the fixture."""
        self._close_services()
        if self._process is not None:
            self.stop()

    def cli(
        self, *arguments: str, check: bool = True, data: Path | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``gitserver ARGUMENTS`` on this data directory, or on *data*."""
        environment = {**self._environment(), "GITSERVER_DATA": str(data or self.data)}
        done = subprocess.run(
            self._command(*arguments), env=environment, capture_output=True, text=True, timeout=120, input=stdin
        )
        if check and done.returncode != 0:
            raise AssertionError(f"gitserver {shlex.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done

    # What is served

    def repository(self, name: str | None = None) -> str:
        """Make an empty repository; its name, random unless given."""
        name = name or f"repository-{secrets.token_hex(6)}"
        self.services.repositories.create(self.caller, name)
        return name

    def user(self, name: str | None = None, *, administrator: bool = True) -> str:
        """Make a user without credentials; the name, random unless given."""
        name = name or f"user-{secrets.token_hex(6)}"
        self.services.identities.create_user(self.caller, name, administrator=administrator)
        return name

    def git_credential(self, user: str = ADMINISTRATOR) -> Credential:
        """A git credential of *user*: made the first time, the same one from then on."""
        if user not in self._credentials:
            made = self.services.credentials.create_git_credential(self.caller, user)
            self._credentials[user] = Credential(made.id, made.user_name, made.password.reveal())
        return self._credentials[user]

    def ssh_key(self, user: str = ADMINISTRATOR, kind: str = "ed25519") -> Key:
        """Make a key pair with ssh-keygen and give its public half to *user*; five keys a user.

        Args:
            user: whose it is.
            kind: as ``ssh-keygen -t`` takes it: ed25519, rsa, ecdsa.
        """
        private = self.home / f"key-{secrets.token_hex(6)}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", private], check=True)
        made = self.services.credentials.add_ssh_key(self.caller, user, private.with_suffix(".pub").read_text())
        return Key(made.ssh_public_key_id, private, made.fingerprint)

    def https_url(self, repository: str, credential: Credential | None = None, *, bare: bool = False) -> str:
        """A clone URL for the HTTPS door.

        Args:
            repository: its name.
            credential: shown in the URL; the administrator's by default.
            bare: no credential in the URL.
        """
        shown = credential or (None if bare else self.git_credential())
        who = f"{quote(shown.user_name, safe='')}:{quote(shown.password, safe='')}@" if shown else ""
        return f"https://{who}localhost:{self._https_port}/v1/repos/{repository}"

    def ssh_url(self, repository: str, key: Key | None = None) -> str:
        """A clone URL for the SSH door; as the user ``git``, or with *key* as the key's id."""
        return f"ssh://{key.id if key else 'git'}@localhost:{self._ssh_port}/v1/repos/{repository}"

    # A client

    def git(
        self,
        *arguments: str,
        cwd: Path | None = None,
        key: Key | None = None,
        check: bool = True,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run git as a developer would, without this machine's settings.

        Args:
            arguments: as for git.
            cwd: where; by default the client's home.
            key: the SSH key to show.
            check: raise AssertionError, with what git said, where it fails.
            stdin: for its standard input.
            environment: more variables, such as ``GIT_TRACE_PACKET``.
            timeout_s: when to give up.
        """
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.home,
            env={**self.client_environment(key), **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            input=stdin,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"git {shlex.join(arguments)} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
            )
        return done

    def client_environment(self, key: Key | None = None) -> dict[str, str]:
        """The environment for a git client, git's own or another one that reads the same variables."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSL_CAINFO": str(self.ca_file),
            "GIT_SSH_COMMAND": shlex.join(["ssh", *self.ssh_options(key)]),
        }

    def ssh_options(self, key: Key | None = None) -> list[str]:
        """Options for OpenSSH's ``ssh`` that make it ignore this machine and trust this server only."""
        options = ["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes"]
        options += ["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"]
        options += ["-o", f"UserKnownHostsFile={self.known_hosts}"]
        return options + (["-i", str(key.private)] if key else [])

    @property
    def ca_file(self) -> Path:
        """What HTTPS clients must trust."""
        return Path(self.made["ca_file"])

    @property
    def known_hosts(self) -> Path:
        """What SSH clients must trust."""
        return self.home / "known_hosts"

    def commit(self, directory: Path, files: Mapping[str, str | bytes] | None = None, message: str = "Work") -> str:
        """Commit *files* in the work tree *directory*, which is made if need be; the commit's id."""
        if not (directory / ".git").exists():
            self.git("init", "-q", str(directory))
        for name, content in (files or {f"file-{secrets.token_hex(4)}": secrets.token_hex(8)}).items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A", cwd=directory)
        self.git("commit", "-q", "-m", message, cwd=directory)
        return self.git("rev-parse", "HEAD", cwd=directory).stdout.strip()

    # Private

    def _close_services(self) -> None:
        if self._services is not None:
            self._services.close()
            self._services = None

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "gitserver", *arguments]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITSERVER_", "GIT_"))}
        return {**kept, "PYTHONWARNINGS": "default", **self._settings, "GITSERVER_DATA": str(self.data)}

    def _wait_until_ready(self) -> dict[str, Any]:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                ready: dict[str, Any] = json.loads(self._ready_file.read_text())
                return ready
            if self._process.poll() is not None:
                self._process = None
                raise AssertionError(f"the server did not start:\n{self.log[-4000:]}")
            time.sleep(0.01)
        self.kill9()
        raise AssertionError(f"the server was not ready within {START_S} s:\n{self.log[-4000:]}")

    def _write_known_hosts(self) -> None:
        lines = (self.data / "ssh" / "known_hosts").read_text().splitlines()
        port = self._ssh_port
        names = f"[localhost]:{port},[127.0.0.1]:{port}"
        self.known_hosts.write_text("".join(f"{names} {line.split(' ', 1)[1]}\n" for line in lines))

    @staticmethod
    def _kill_session(process: subprocess.Popen[bytes]) -> None:
        while found := list(_session(process.pid)):
            for number, _ in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            process.poll()
            time.sleep(0.002)
        process.wait()


def _session(leader: int) -> Iterator[tuple[int, str]]:
    """The processes that the server's first one started, itself included; not those that have ended."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _parent, _group, session = (entry / "stat").read_text().rpartition(") ")[2].split()[:4]
            if int(session) == leader and state != "Z":
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield int(entry.name), command.strip()
