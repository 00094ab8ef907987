"""Work that nobody waits for: named jobs, run one after the other, each at its own interval.

A job must be safe to run again from the start: the process may be killed in the middle of any of them.
"""

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gitserver.core.errors import Failure

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Something to do every so often."""

    name: str
    every_s: float
    run: Callable[[], str]  # what was done, in a few words for the log; empty: nothing


class Worker:
    """Runs jobs until told to stop. The first round starts at once."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)
        self._stopping = False
        self._wake_up, self._wake_up_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Work until SIGTERM or SIGINT; the job that runs then is finished first. Main thread only, once.

        Args:
            ready: called once, before the first job.
        """
        before = {number: signal.signal(number, self._heard) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ready()
            self._loop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake_up)
            os.close(self._wake_up_writer)

    def _heard(self, number: int, frame: object) -> None:  # noqa: ARG002 - the signature of a handler
        self._stopping = True
        os.write(self._wake_up_writer, b"!")  # no lock may be taken in a handler; the pipe wakes the loop

    def _loop(self) -> None:
        due = [time.monotonic()] * len(self._jobs)
        while not self._stopping:
            for index, job in enumerate(self._jobs):
                if due[index] <= time.monotonic() and not self._stopping:
                    run_job(job)
                    due[index] = time.monotonic() + job.every_s
            wait_s = min(due, default=time.monotonic() + 60) - time.monotonic()
            select.select([self._wake_up], [], [], max(0.0, wait_s))


def run_job(job: Job) -> bool:
    """Run *job* once; a failure is logged, since the next round tries again.

    Returns:
        Whether it succeeded.
    """
    started = time.monotonic()
    try:
        done = job.run()
    except Failure as failure:
        _log.error("job %s failed: %s", job.name, failure)
        return False
    except Exception:
        _log.exception("job %s failed", job.name)
        return False
    if done:
        _log.info("job %s: %s (%.1f s)", job.name, done, time.monotonic() - started)
    return True
