# ruff: noqa: T201
"""How fast, and how stubborn, an HTTPS server is under one WSGI application.

Run: ``python -m tests.bench.http_stream [--servers door,gunicorn,granian] [--rounds 3] [--megabytes 315] [--trials]``

``door`` is ours; ``gunicorn`` is gunicorn's own thread worker and ``granian`` is Granian, which must be installed
by hand: both as they come, with four threads in one process. ``--trials`` asks each the questions of
docs/decisions/0002-http-server.md instead of measuring it.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.scenarios.http_door import Certificates, make_certificates

PIECE = os.urandom(2**18)
MEGABYTE = 10**6
STALLED = 4
PATIENCE_S = 12.0


class Measured:
    """The WSGI application under test; it notes in a file what it saw."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/down":
                start_response("200 OK", [("Content-Type", "application/octet-stream")])
                return self._down(int(environ["QUERY_STRING"]))
            case "/up":
                seen = self._read(environ["wsgi.input"])
                answer = f"{seen}\n".encode()
            case "/fails":
                start_response("200 OK", [("Content-Type", "application/octet-stream")])
                return self._fails()
            case _:
                answer = b"ok\n"
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
        return [answer]

    def _down(self, left: int) -> Iterator[bytes]:
        try:
            while left > 0:
                yield PIECE[:left]
                left -= len(PIECE)
        finally:
            self._note("response closed")

    def _fails(self) -> Iterator[bytes]:
        yield PIECE
        raise RuntimeError("midway")

    def _read(self, stream: Any) -> int:
        seen = 0
        try:
            while data := stream.read(65536):
                seen += len(data)
        except Exception as failure:
            self._note(f"body raised {type(failure).__name__}")
            raise
        self._note(f"body ended after {seen}")
        return seen

    def _note(self, line: str) -> None:
        with self._notes.open("a") as page:
            page.write(line + "\n")


class Candidate:
    """One server in a process of its own."""

    def __init__(self, name: str, folder: Path, certificates: Certificates) -> None:
        self.name = name
        self.port = _free_port()
        self.notes = folder / f"{name}.notes"
        self.notes.touch()
        self._certificates = certificates
        self._log = folder / f"{name}.log"
        arguments = (name, self.port, certificates, self.notes, self._log)
        self._process = multiprocessing.get_context("spawn").Process(target=_run, args=arguments)
        self._process.start()
        self._wait()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def peak_mib(self) -> float:
        """The largest resident memory any of its processes ever had."""
        assert self._process.pid is not None
        top = psutil.Process(self._process.pid)
        peaks = [
            int(line.split()[1])
            for process in [top, *top.children(recursive=True)]
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
        return max(peaks) / 1024

    def curl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["curl", "-sS", "--cacert", str(self._certificates.authority), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self._certificates.authority)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        return context.wrap_socket(plain, server_hostname="localhost")

    def stop(self) -> None:
        assert self._process.pid is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        os.kill(self._process.pid, signal.SIGTERM)
        self._process.join(3)
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.join()

    def _wait(self) -> None:
        for _ in range(200):
            if self.curl(f"{self.url}/").returncode == 0:
                return
            time.sleep(0.05)
        raise SystemExit(f"{self.name} does not answer: {self._log.read_text()}")


def measure(candidate: Candidate, size_bytes: int, rounds: int, folder: Path) -> None:
    """Print the median throughput both ways, and the peak memory."""
    body = folder / "body"
    with body.open("wb") as file:
        for _ in range(0, size_bytes, len(PIECE)):
            file.write(PIECE)
    down, up = [], []
    for _ in range(rounds):
        done = candidate.curl("-o", "/dev/null", "-w", "%{speed_download}", f"{candidate.url}/down?{size_bytes}")
        down.append(float(done.stdout) / MEGABYTE)
        options = ["-o", "/dev/null", "-H", "Expect:", "-X", "POST", "-T", str(body), "-w", "%{speed_upload}"]
        up.append(float(candidate.curl(*options, f"{candidate.url}/up").stdout) / MEGABYTE)
    print(
        f"{candidate.name:10} down {statistics.median(down):6.0f} MB/s  up {statistics.median(up):6.0f} MB/s  "
        f"peak memory of any process {candidate.peak_mib():.0f} MiB"
    )


def ask(candidate: Candidate) -> None:
    """Print how the candidate takes stalled and lost clients, and its own failure."""
    print(f"{candidate.name}:")
    for what, stall in (("silent connections", _silent), ("stalled uploads", _upload), ("stalled readers", _reader)):
        sockets = [stall(candidate) for _ in range(STALLED)]
        time.sleep(0.5)
        began = time.monotonic()
        fifth = candidate.curl("--max-time", str(PATIENCE_S), "-o", "/dev/null", f"{candidate.url}/")
        took = time.monotonic() - began
        print(
            f"  a client beside {STALLED} {what}: {'served' if fifth.returncode == 0 else 'NOT served'} in {took:.1f} s"
        )
        for stalled in sockets:
            stalled.close()
        time.sleep(1.0)
    candidate.notes.write_text("")
    _upload(candidate).close()
    time.sleep(1.0)
    print(f"  a client that left in its upload: {candidate.notes.read_text().strip() or 'nothing noticed'}")
    failing = candidate.curl("-o", "/dev/null", f"{candidate.url}/fails")
    print(f"  a response that fails midway: {failing.stderr.strip() or 'curl takes it for whole'}")
    candidate.notes.write_text("")
    _reader(candidate).close()
    time.sleep(2.0)
    print(f"  a client that left in its download: {candidate.notes.read_text().strip() or 'nothing noticed'}")


def _silent(candidate: Candidate) -> socket.socket:
    return socket.create_connection(("127.0.0.1", candidate.port))


def _upload(candidate: Candidate) -> socket.socket:
    stalled = candidate.connect()
    stalled.sendall(b"POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n" + bytes(1024))
    return stalled


def _reader(candidate: Candidate) -> socket.socket:
    stalled = candidate.connect()
    stalled.sendall(b"GET /down?1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    stalled.recv(1024)
    return stalled


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(name: str, port: int, certificates: Certificates, notes: Path, log: Path) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    application = Measured(notes)
    match name:
        case "door":
            from gitserver.transports.http.server import HttpSettings, serve

            settings = HttpSettings("127.0.0.1", port, certificates.certificate, certificates.key, workers=1)
            serve(lambda: application, settings)
        case "gunicorn":
            _run_gunicorn(application, port, certificates)
        case "granian":
            _run_granian(application, port, certificates)


def _run_gunicorn(application: Measured, port: int, certificates: Certificates) -> None:
    from gunicorn.app.base import BaseApplication

    class Plain(BaseApplication):
        def load_config(self) -> None:
            values: dict[str, Any] = {
                "bind": f"127.0.0.1:{port}",
                "worker_class": "gthread",
                "threads": STALLED,
                "certfile": str(certificates.certificate),
                "keyfile": str(certificates.key),
                "control_socket_disable": True,
            }
            for key, value in values.items():
                self.cfg.set(key, value)

        def load(self) -> Any:
            return application

    Plain().run()


def _run_granian(application: Measured, port: int, certificates: Certificates) -> None:
    granian = importlib.import_module("granian.server")  # not a dependency: installed by hand for a comparison
    granian.Server(
        "measured",
        address="127.0.0.1",
        port=port,
        interface=importlib.import_module("granian.constants").Interfaces.WSGI,
        blocking_threads=STALLED,
        ssl_cert=certificates.certificate,
        ssl_key=certificates.key,
    ).serve(target_loader=partial(_give, application), wrap_loader=False)


def _give(application: Measured, *_: object, **__: object) -> Measured:
    return application


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default="door")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=315)
    parser.add_argument("--trials", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        certificates = make_certificates(folder)
        for name in options.servers.split(","):
            candidate = Candidate(name, folder, certificates)
            try:
                if options.trials:
                    ask(candidate)
                else:
                    measure(candidate, options.megabytes * MEGABYTE, options.rounds, folder)
            finally:
                candidate.stop()


if __name__ == "__main__":
    main()
