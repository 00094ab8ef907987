"""A private PostgreSQL, for the tests of one process: reached by a UNIX socket, gone when the process is."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

START_TIMEOUT_S = 30
USER = "gitserver"

# Nothing here must survive a power cut, so nothing waits for a disk.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
    "max_wal_size": "256MB",
}


class PostgresMissing(Exception):
    """This machine has no PostgreSQL server."""


class Cluster:
    """One running server with any number of databases."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._directory = Path(tempfile.mkdtemp(prefix="gitserver-pg-"))
        self._log = (self._directory / "log").open("wb")
        self.templates: set[str] = set()  # databases that others are copied from
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def url(self, database: str) -> str:
        """What ``Database`` takes."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self._directory}"

    def create(self, database: str, template: str = "template0") -> str:
        """Make a database; its URL."""
        self._run(f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, whoever uses it."""
        self._run(f'DROP DATABASE "{database}" WITH (FORCE)')

    def stop(self) -> None:
        """End the server and remove its files."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
        shutil.rmtree(self._directory)

    def _start(self) -> None:
        data = str(self._directory / "data")
        account = _account()
        if account is not None:
            os.chown(self._directory, account.pw_uid, account.pw_gid)
        become = _become(account)
        initdb = [
            str(self._programs / "initdb"),
            "-D",
            data,
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        subprocess.run(
            [*become, *initdb],
            check=True,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
            timeout=START_TIMEOUT_S,
        )
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [*become, str(self._programs / "postgres"), "-D", data, "-k", str(self._directory), *settings],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return self._run("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline or (self._process is not None and self._process.poll() is not None):
                    raise
                time.sleep(0.02)

    def _run(self, statement: str) -> None:
        with psycopg.connect(host=str(self._directory), user=USER, dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve())
    if not found:
        raise PostgresMissing("PostgreSQL's server is not installed; on Debian: apt-get install postgresql")
    return found[-1].parent


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _become(account: pwd.struct_passwd | None) -> list[str]:
    """The words in front of a command that make it die with us, and run as *account*."""
    become = ["setpriv", "--pdeathsig", "TERM"]
    if account is not None:
        become += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [*become, "--"]
