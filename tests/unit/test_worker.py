"""The worker's jobs."""

import os
import signal
import threading
import time

import pytest

from gitserver.core.errors import Unavailable
from gitserver.worker import Job, Worker, run_job


def stop() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    return ""


def test_every_job_runs_at_once_and_then_at_its_interval() -> None:
    ran: list[str] = []

    def often() -> str:
        ran.append("often")
        return stop() if ran.count("often") == 3 else ""

    def seldom() -> str:
        ran.append("seldom")
        return ""

    Worker([Job("often", 0.02, often), Job("seldom", 3600, seldom)]).run()

    assert ran == ["often", "seldom", "often", "often"]


def test_a_job_that_fails_is_told_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> str:
        raise Unavailable("the disk is full")

    def break_down() -> str:
        raise ZeroDivisionError

    Worker([Job("fail", 3600, fail), Job("break down", 3600, break_down), Job("stop", 3600, stop)]).run()

    assert "job fail failed: the disk is full" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_it_stops_while_it_waits_for_the_next_job() -> None:
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()

    Worker([Job("nothing", 3600, lambda: "")]).run()

    assert time.monotonic() - began < 5


def test_what_was_done_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    done = run_job(Job("sweep", 1, lambda: "3 blobs are deleted"))

    assert done
    assert "job sweep: 3 blobs are deleted" in caplog.text
