"""The first minute: one command, and then the lines that it prints, copied as they stand."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 60


class Newcomer:
    """Somebody with a shell and nothing set up, who starts the server and reads what it says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        self.data = root / "my data"  # with a space: the lines must be quoted
        https, ssh = _free_port(), _free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GITSERVER_SERVER_PUBLIC_URL": f"https://localhost:{https}",
            "GITSERVER_HTTPS_LISTEN": f"127.0.0.1:{https}",
            "GITSERVER_HTTPS_WORKERS": "1",
            "GITSERVER_SSH_LISTEN": f"127.0.0.1:{ssh}",
        }
        self.server: subprocess.Popen[bytes] | None = None

    def start(self, number: int) -> str:
        """Start the server as `make serve` does, and wait until it is ready; what it printed."""
        output = self.root / f"start-{number}.txt"
        command = [sys.executable, "-P", "-m", "gitserver", "serve", "--init", "--data", str(self.data)]
        with output.open("wb") as file:
            self.server = subprocess.Popen(command, env=self.environment, stdout=file, stderr=file)
        deadline = time.monotonic() + PATIENCE_S
        while "Ready:" not in output.read_text():
            assert self.server.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)
        return output.read_text()

    def stop(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            self.server.wait(PATIENCE_S)
            self.server = None

    def type_in(self, lines: str) -> str:
        """Give *lines* to a shell; it stops at the first that fails."""
        done = subprocess.run(
            ["sh", "-e"],
            input=lines,
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    made = Newcomer(tmp_path)
    yield made
    made.stop()
    subprocess.run(["git", "credential-cache", "exit"], env=made.environment, cwd=made.home, check=False)


def blocks(printed: str) -> dict[str, str]:
    """The commands that were printed, by their titles."""
    found = re.findall(r"^(\S[^\n]*):\n\n((?:    [^\n]*\n)+)", printed, re.MULTILINE)
    return {title: "".join(line[4:] for line in lines.splitlines(keepends=True)) for title, lines in found}


def test_the_printed_lines_make_a_repository_and_push_to_it_over_both_doors(newcomer: Newcomer) -> None:
    printed = newcomer.start(1)

    create, https, ssh = blocks(printed).values()
    newcomer.type_in(create + https + ssh)

    url = f"{newcomer.environment['GITSERVER_SERVER_PUBLIC_URL']}/v1/repos/hello"
    remote = newcomer.type_in(f"cd hello && git ls-remote {url}")
    pushed = newcomer.type_in("cd hello && git log --format='%H %s'").splitlines()
    assert [line.split(" ", 1)[1] for line in pushed] == ["Hello over SSH", "Hello over HTTPS"]
    assert f"{pushed[0].split()[0]}\trefs/heads/main" in remote


def test_the_first_start_tells_everything_once_and_the_second_nothing(newcomer: Newcomer) -> None:
    first = newcomer.start(1)
    newcomer.stop()
    second = newcomer.start(2)

    password = re.search(r"password +(\S{20,})", first)
    secret = re.search(r"secret access key +(\S{30,})", first)
    assert password is not None
    assert secret is not None
    assert "user name          admin" in first
    assert f"CA file {newcomer.data}/tls/ca.pem" in first
    assert first.count("SHA256:") == 2
    assert not [word for word in ("password", password[1], secret[1], "SHA256:") if word in second]
    for path in newcomer.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert password[1].encode() not in content
            assert secret[1].encode() not in content


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
