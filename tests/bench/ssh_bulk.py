"""How fast the SSH door moves bytes, against OpenSSH's server with ``cat``, in one run.

    python -m tests.bench.ssh_bulk [--megabytes 300] [--pairs 5] [--only-ours]

Both servers speak AES-256-GCM and curve25519 to the same OpenSSH client; the medians of interleaved runs are compared:
wall-clock throughput, and the CPU seconds of the server, its children included. What the door streams is made in
memory, as ``cat`` reads from the page cache: this measures the transport, not git.
"""

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.transports.ssh.ssh_house import House, Key, Offer, make_key

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One transfer."""

    wall_s: float
    cpu_s: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--serve", metavar="DIRECTORY", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.serve:
        _serve(Path(words.serve))
        return
    size = words.megabytes * 10**6
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        home = Path(name)
        key = make_key(home / "key")
        data = home / "data"
        data.write_bytes(os.urandom(2**20) * (size // 2**20 + 1))
        os.truncate(data, size)
        ours, our_pid = stack.enter_context(_door(home, key))
        plans: dict[str, tuple[list[str], int]] = {"ours": (ours, our_pid)}
        if not words.only_ours:
            theirs, their_pid = stack.enter_context(_sshd(home, key))
            plans["sshd"] = (theirs, their_pid)
        down = {"ours": f"git-upload-pack '/v1/repos/down-{size}'", "sshd": f"cat {data}"}
        up = {"ours": "git-receive-pack '/v1/repos/sink'", "sshd": "cat > /dev/null"}
        for title, commands, feed in (("down", down, None), ("up", up, data)):
            runs: dict[str, list[Run]] = {name: [] for name in plans}
            for _ in range(words.pairs):
                for name, (ssh, pid) in plans.items():
                    runs[name].append(_measure([*ssh, commands[name]], pid, feed))
            _show(title, size, runs)


def _show(title: str, size: int, runs: dict[str, list[Run]]) -> None:
    medians = {
        name: (statistics.median(run.wall_s for run in some), statistics.median(run.cpu_s for run in some))
        for name, some in runs.items()
    }
    for name, (wall, cpu) in medians.items():
        print(f"{title:5} {name:5} {size / wall / 1e6:7.1f} MB/s  server CPU {cpu:6.2f} s")  # noqa: T201
    if len(medians) == 2:
        (our_wall, our_cpu), (their_wall, their_cpu) = medians["ours"], medians["sshd"]
        print(f"{title:5} ratio {their_wall / our_wall:7.2f} throughput, {our_cpu / their_cpu:.2f} CPU")  # noqa: T201


def _measure(command: list[str], pid: int, feed: Path | None) -> Run:
    before, began = _cpu_s(pid), time.perf_counter()
    with open(feed or os.devnull, "rb") as source:  # noqa: PTH123
        subprocess.run(command, stdin=source, stdout=subprocess.DEVNULL, check=True)
    wall = time.perf_counter() - began
    time.sleep(0.2)  # for the server's children to be waited for
    return Run(wall, _cpu_s(pid) - before)


def _cpu_s(pid: int) -> float:
    """User and system time of a process and the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


@contextlib.contextmanager
def _door(home: Path, key: Key) -> Iterator[tuple[list[str], int]]:
    command = [sys.executable, "-m", "tests.bench.ssh_bulk", "--serve", str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        port = int(process.stdout.readline())
        yield _ssh(home, key, port, "git"), process.pid
        process.stdin.close()


def _serve(home: Path) -> None:
    with House(home, home / "host_keys") as house:
        key = Key(home / "key", "")
        house.keys.offers[key.fingerprint] = Offer("APKABENCH", "bench")
        print(house.port, flush=True)  # noqa: T201
        sys.stdin.read()


@contextlib.contextmanager
def _sshd(home: Path, key: Key) -> Iterator[tuple[list[str], int]]:
    host = make_key(home / "sshd_host")
    (home / "authorized").write_text(key.public + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    port = _free_port()
    options = {
        "ListenAddress": "127.0.0.1",
        "HostKey": str(host.path),
        "AuthorizedKeysFile": str(home / "authorized"),
        "StrictModes": "no",
        "PidFile": "none",
        "UsePAM": "no",
        "PermitRootLogin": "yes",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    process = subprocess.Popen(
        [sshd, "-D", "-e", "-f", "/dev/null", "-p", str(port), *words], stderr=subprocess.DEVNULL
    )
    try:
        ssh = _ssh(home, key, port, "root")
        _until(lambda: subprocess.run([*ssh, "true"], capture_output=True, check=False).returncode == 0)
        yield ssh, process.pid
    finally:
        process.terminate()
        process.wait()


def _until(true: Callable[[], bool]) -> None:
    for _ in range(50):
        if true():
            return
        time.sleep(0.1)
    raise TimeoutError("the other server did not start")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _ssh(home: Path, key: Key, port: int, user: str) -> list[str]:
    options = (
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        f"UserKnownHostsFile={home / 'known'}",
        "IdentityAgent=none",
        "Ciphers=aes256-gcm@openssh.com",
        "KexAlgorithms=curve25519-sha256",
        "LogLevel=ERROR",
    )
    words = [word for option in options for word in ("-o", option)]
    return ["ssh", "-F", "/dev/null", "-p", str(port), "-i", str(key.path), *words, f"{user}@127.0.0.1"]


if __name__ == "__main__":
    main()
