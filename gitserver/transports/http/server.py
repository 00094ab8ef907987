"""The HTTPS server: a listening socket, TLS, and the worker processes behind them."""

import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from gitserver.core.errors import Invalid, Unavailable
from gitserver.transports.http.exchange import WSGIApplication
from gitserver.transports.http.settings import HttpSettings
from gitserver.transports.http.worker import LoopWorker

__all__ = ["CannotListen", "HttpSettings", "UnusableCertificate", "WSGIApplication", "serve"]

BACKLOG = 512
BIND_PATIENCE_S = 3.0  # the last server's processes may still be dying


class CannotListen(Unavailable):
    """The address is taken, or is not this machine's."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: {why}; stop what uses it, or choose another with https.listen in "
            "gitserver.toml, or with --https"
        )


class UnusableCertificate(Invalid):
    """The certificate and its key cannot be used."""

    def __init__(self, settings: HttpSettings, why: str) -> None:
        super().__init__(
            f"cannot use the certificate {settings.certificate} with the key {settings.private_key}: {why}; "
            "both must be PEM files that belong together"
        )


def serve(
    application: Callable[[], WSGIApplication],
    settings: HttpSettings,
    ready: Callable[[str, int], None] = lambda _host, _port: None,
) -> None:
    """Serve in this process and its workers until SIGTERM or SIGINT; then raise SystemExit.

    SIGTERM lets running requests finish for ``stop_timeout_s``; SIGINT and SIGQUIT do not.
    Must be called in the main thread, with no other thread running: workers are forked.

    Args:
        application: builds the WSGI application, once in each worker, before its threads start. If what it returns
            has a ``close`` method, that is called when the worker stops.
        settings: where and how much.
        ready: called once, with the host and the real port, when requests are answered. It is called in the first
            worker that got so far, so it should tell another process; if no worker does, it is never called.

    Raises:
        CannotListen: the address cannot be bound.
        UnusableCertificate: the certificate or the key cannot be read, or do not belong together.
    """
    tls = server_context(settings)
    listener = _listen(settings)
    _Master(application, settings, tls, listener, ready).run()


def server_context(settings: HttpSettings) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, with the certificate of *settings*.

    Made once, before the workers are forked, so that a session begun with one resumes with another.

    Raises:
        UnusableCertificate: see :func:`serve`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.certificate, settings.private_key, password=_no_pass_phrase)
    except (OSError, ValueError) as unusable:
        raise UnusableCertificate(settings, str(unusable)) from unusable
    return context


class _Master(BaseApplication):
    """gunicorn's view of what it runs."""

    def __init__(
        self,
        application: Callable[[], WSGIApplication],
        settings: HttpSettings,
        tls: ssl.SSLContext,
        listener: socket.socket,
        ready: Callable[[str, int], None],
    ) -> None:
        self._build = application
        self._descriptor = listener.detach()
        self._ready = ready
        self._turn, to_fill = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(to_fill, b"!")  # one byte: whichever worker reads it, announces
        os.close(to_fill)
        self.settings = settings
        self.tls = tls
        super().__init__(prog="gitserver")

    def load_config(self) -> None:
        """See gunicorn."""
        values: dict[str, Any] = {
            "bind": [f"fd://{self._descriptor}"],
            "worker_class": LoopWorker,
            "workers": self.settings.workers,
            "graceful_timeout": int(self.settings.stop_timeout_s + 5),  # the workers' own limit comes first
            "timeout": 60,  # a worker whose loop stands still this long is replaced
            "control_socket_disable": True,
            "errorlog": "-",
            "loglevel": "warning",
            "proc_name": "gitserver-http",
            "when_ready": self._when_ready,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # gunicorn's type leaves start_response's result out
        """See gunicorn; called in each worker."""
        return self._build()

    def announce(self, host: str, port: int) -> None:
        """See worker.Master."""
        if os.read(self._turn, 1):
            self._ready(host, port)

    def _when_ready(self, _arbiter: Any) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # gunicorn's would run the command line once more


def _listen(settings: HttpSettings) -> socket.socket:
    limit = time.monotonic() + BIND_PATIENCE_S
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
        except OSError as unknown:
            raise CannotListen(settings.host, settings.port, str(unknown)) from unknown
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as taken:
            listener.close()
            if time.monotonic() > limit:
                raise CannotListen(settings.host, settings.port, taken.strerror or str(taken)) from taken
            time.sleep(0.05)
        else:
            return listener


def _no_pass_phrase() -> str:
    raise ValueError("the key is protected by a pass phrase")
