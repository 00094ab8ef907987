"""A gunicorn worker process that serves with our own loop.

gunicorn keeps the processes running and parses heads; its thread worker is not used, because there a silent client
holds a thread: see docs/decisions/0002-http-server.md.
"""

import ctypes
import os
import socket
import ssl
from contextlib import ExitStack
from typing import Protocol, cast

from gunicorn.workers.base import Worker

from gitserver.process import die_with_parent
from gitserver.transports.http.exchange import Exchange, WSGIApplication, refusal
from gitserver.transports.http.loop import Loop
from gitserver.transports.http.settings import HttpSettings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)


class Master(Protocol):
    """What the worker needs of the application object that gunicorn hands it."""

    settings: HttpSettings
    tls: ssl.SSLContext

    def announce(self, host: str, port: int) -> None:
        """Say that requests are answered; heard once, whoever says it first."""
        ...


class LoopWorker(Worker):
    """Serves until gunicorn says stop."""

    def init_process(self) -> None:
        """See gunicorn: build the application, then run."""
        die_with_parent(self.ppid)
        _keep_freed_memory()
        super().init_process()

    def run(self) -> None:
        """See gunicorn: the main loop of the process."""
        master = cast(Master, self.app)
        settings, application = master.settings, cast(WSGIApplication, self.wsgi)
        exchange = Exchange(application, settings, several_processes=settings.workers > 1)
        listeners = [socket.socket(fileno=os.dup(listener.fileno())) for listener in self.sockets]
        for listener in self.sockets:
            listener.close()  # while anybody has it open, the kernel lets clients in, who then wait for nobody
        loop = Loop(listeners, master.tls, settings, exchange.answer, refusal)
        with ExitStack() as at_end:
            at_end.callback(getattr(application, "close", lambda: None))
            master.announce(*listeners[0].getsockname()[:2])
            loop.run(lambda: bool(self.alive), self.notify, self.PIPE[0])


def _keep_freed_memory() -> None:
    """Have glibc reuse pieces of some 100 KiB instead of returning each to the kernel and asking for it again.

    With many threads that halved the speed of a download; see docs/decisions/0002-http-server.md.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        mallopt(_M_MMAP_THRESHOLD, 4 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 16 * 2**20)
