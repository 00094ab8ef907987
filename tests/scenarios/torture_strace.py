"""Something happens to a server at an exact system call: a kill, a full disk, a failing one. By strace, from outside.

One thread of a server with one HTTP worker and one request thread handles a push, and only that thread is traced, so
that the calls of one push are counted alone.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house import House

ONE_THREAD = {"GITSERVER_HTTPS_WORKERS": "1", "GITSERVER_HTTPS_REQUESTS_PER_WORKER": "1"}
"""Settings of a server in which one thread answers every HTTPS request."""

CHANGING = "write,writev,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
CHANGING += "mkdir,mkdirat,openat,ftruncate,fallocate,sendto,sendmsg"
"""Calls that change something outside the process, or ask for it to become durable; `openat` makes files, too."""

_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")
_ATTACH_S = 20

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@dataclass(frozen=True)
class Call:
    """One system call of a push, by its place among those that are counted."""

    number: int  # from 1, among all
    nth: int  # from 1, among those of the same name
    name: str
    arguments: str

    def changes(self, path: Path) -> bool:
        """Whether it makes or changes a file below *path*, so that a full disk could make it fail."""
        makes_nothing = self.name == "openat" and "O_CREAT" not in self.arguments
        return str(path) in self.arguments and not makes_nothing and not self.name.startswith("unlink")

    def __str__(self) -> str:
        files = re.findall(r"[<\"](/[^>\"]*)", self.arguments)
        return f"{self.name} {Path(files[-1]).name[:20] if files else self.arguments[:30]}"


def push_thread(house: House) -> int:
    """The thread that answers HTTPS requests."""
    for process, command in house.processes().items():
        threads = [int(one.name) for one in Path(f"/proc/{process}/task").iterdir() if one.name != str(process)]
        if " http " in command and threads:
            return min(threads)
    raise AssertionError("no process of this server answers HTTPS requests")


@contextmanager
def counting(thread: int, calls: str = CHANGING) -> Iterator[list[Call]]:
    """Record what *thread* does; the list is filled when the block ends."""
    found: list[Call] = []
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        with _attached(thread, "-y", "-s", "0", "-o", log.name, "-e", f"trace={calls}"):
            yield found
        for line in log:
            match = _CALL.match(line)
            if match:
                name, arguments = match.groups()
                nth = 1 + sum(call.name == name for call in found)
                found.append(Call(len(found) + 1, nth, name, arguments))


@contextmanager
def at_call(call: Call, thread: int, what: str) -> Iterator[None]:
    """Have *what* happen when *thread* comes to *call* once more: ``signal=SIGKILL``, ``error=ENOSPC``."""
    inject = f"inject={call.name}:{what}:when={call.nth}"
    with _attached(thread, "-o", "/dev/null", "-e", f"trace={call.name}", "-e", inject):
        yield


@contextmanager
def _attached(thread: int, *options: str) -> Iterator[None]:
    process = subprocess.Popen(["strace", *options, "-p", str(thread)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        if "attached" not in said:
            pytest.skip(f"strace may not trace here: {said.strip()}")
        yield
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(_ATTACH_S)
