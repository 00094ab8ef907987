"""The parent of a server's processes: starts them, starts them again, stops them.

Invariants:
- the supervisor *must* stay single-threaded and do no work of its own, so that nothing can stall or crash it;
- a child *must* die with it: each calls :func:`gitserver.process.die_with_parent` before it does anything else;
- a child says it is ready by writing one JSON line, its bound address, to the descriptor it was given; until every
  door has, the start counts as failed if one of them ends. What is no door starts behind them: people wait for doors.
"""

import json
import logging
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gitserver.core.errors import Unavailable

QUICK_S = 5.0  # a child that lived shorter than this crashed quickly
BACK_OFF_S = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # the wait after so many quick crashes in a row; then the last
READY_LINE_BYTES = 4096  # the longest line a child says it is ready with

_log = logging.getLogger(__name__)


class DidNotStart(Unavailable):
    """A child ended before it was ready for the first time."""

    def __init__(self, role: str) -> None:
        super().__init__(f"the {role} process did not start; the lines above say why")


@dataclass(frozen=True)
class Role:
    """One child process.

    ``command`` is given the address the role was bound to before, or None at the first start, so that a server asked
    to take any free port keeps the port it took; and the descriptor to write the ready line to.
    """

    name: str
    command: Callable[[Mapping[str, object] | None, int], list[str]]
    waits: bool = False  # for every role that does not wait to be ready, at the first start


@dataclass
class _Child:
    role: Role
    process: subprocess.Popen[bytes] | None = None
    ready_pipe: int | None = None
    said: bytes = b""
    bound: dict[str, object] | None = None  # what it last said when it was ready
    started: float = 0.0
    quick_crashes: int = 0
    start_at: float | None = None  # when to start it (again); None: it runs, or waits for others


@dataclass
class Supervisor:
    """Keeps one process for each role alive until told to stop.

    Args:
        roles: what to run.
        on_ready: called once, with the bound addresses of the roles that do not wait, when all of them answer.
        graceful_stop_s: how long stopping children may finish their requests.
        inherited: descriptors every child keeps open, such as the lock on the data directory.
    """

    roles: list[Role]
    on_ready: Callable[[dict[str, dict[str, object]]], None]
    graceful_stop_s: float
    inherited: tuple[int, ...] = ()
    _children: list[_Child] = field(init=False)
    _selector: selectors.BaseSelector = field(init=False)
    _signals: list[int] = field(init=False, default_factory=list)
    _announced: bool = field(init=False, default=False)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop the children; a second signal kills them at once.

        Raises:
            DidNotStart: a child ended before it was ready for the first time; the others have been stopped.
        """
        self._children = [_Child(role, start_at=None if role.waits else 0.0) for role in self.roles]
        if all(role.waits for role in self.roles):
            self._announce()
        self._selector = selectors.DefaultSelector()
        wake_up, wake_up_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(wake_up, selectors.EVENT_READ)
        before = signal.set_wakeup_fd(wake_up_writer, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        try:
            while not self._signals:
                self._start_due()
                self._wait(wake_up, self._next_start())
                self._reap()
            _log.info("stopping; what runs may finish, a second signal ends it")
        finally:
            self._stop(wake_up)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            self._selector.close()
            os.close(wake_up)
            os.close(wake_up_writer)

    def _heard(self, number: int, frame: object) -> None:  # noqa: ARG002 - the signature of a handler
        if number != signal.SIGCHLD:
            self._signals.append(number)

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.start_at is not None and child.start_at <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        child.process = subprocess.Popen(
            child.role.command(child.bound, writer),
            stdin=subprocess.DEVNULL,
            pass_fds=(writer, *self.inherited),
            process_group=0,  # a Ctrl-C at the terminal reaches the supervisor alone, which then stops them in order
        )
        os.close(writer)
        child.ready_pipe, child.said = reader, b""
        child.started, child.start_at = time.monotonic(), None
        self._selector.register(reader, selectors.EVENT_READ, child)

    def _next_start(self) -> float | None:
        due = [child.start_at for child in self._children if child.start_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _wait(self, wake_up: int, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if key.fd == wake_up:
                os.read(wake_up, 512)
            else:
                self._hear_ready(key.data)

    def _hear_ready(self, child: _Child) -> None:
        assert child.ready_pipe is not None  # noqa: S101 - it is registered, so it is open
        piece = os.read(child.ready_pipe, READY_LINE_BYTES)
        child.said += piece
        if piece and b"\n" not in child.said and len(child.said) < READY_LINE_BYTES:
            return
        self._close_ready(child)
        if b"\n" not in child.said:
            return  # it ended, or will be found to hang by whoever waits for the ready file
        child.bound = json.loads(child.said)
        _log.info("%s is ready", child.role.name)
        if not self._announced and all(one.bound is not None for one in self._children if not one.role.waits):
            self._announce()

    def _announce(self) -> None:
        """Tell that the doors answer, and start what waited for that."""
        self._announced = True
        self.on_ready({one.role.name: one.bound or {} for one in self._children if not one.role.waits})
        for child in self._children:
            if child.role.waits:
                child.start_at = 0.0

    def _close_ready(self, child: _Child) -> None:
        if child.ready_pipe is not None:
            self._selector.unregister(child.ready_pipe)
            os.close(child.ready_pipe)
            child.ready_pipe = None

    def _reap(self) -> None:
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            lived_s = time.monotonic() - child.started
            ended = _ending(child.process.returncode)
            _kill_group(child.process.pid)  # workers of its own that outlived it would hold the port
            child.process = None
            if child.ready_pipe is not None:
                self._hear_ready(child)
                self._close_ready(child)
            if self._signals:
                continue
            if not self._announced:
                _log.error("%s %s before it was ready", child.role.name, ended)
                raise DidNotStart(child.role.name)
            child.quick_crashes = child.quick_crashes + 1 if lived_s < QUICK_S else 0
            wait_s = BACK_OFF_S[min(child.quick_crashes, len(BACK_OFF_S) - 1)]
            child.start_at = time.monotonic() + wait_s
            _log.error("%s %s; starting it again%s", child.role.name, ended, f" in {wait_s} s" if wait_s else "")

    def _stop(self, wake_up: int) -> None:
        """End every child: SIGTERM, then SIGKILL after the graceful time or at the second signal."""
        heard = len(self._signals)
        for child in self._children:
            child.start_at = None
            if child.process is not None:
                child.process.terminate()
        deadline = time.monotonic() + self.graceful_stop_s
        while self._running() and len(self._signals) <= max(heard, 1) and time.monotonic() < deadline:
            self._wait(wake_up, deadline - time.monotonic())
        why = "did not stop in time and is killed" if time.monotonic() >= deadline else "is killed at the second signal"
        for child in self._running():
            _log.warning("%s %s", child.role.name, why)
        for child in self._children:
            if child.process is not None:
                _kill_group(child.process.pid)
                child.process.wait()
            self._close_ready(child)

    def _running(self) -> list[_Child]:
        return [child for child in self._children if child.process is not None and child.process.poll() is None]


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody is left in it
