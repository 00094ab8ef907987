"""The processes of a server: what each child of the supervisor runs.

``python -m gitserver.operations.roles ROLE DATA ADDRESS READY_FD PARENT`` is how the supervisor starts one; it is not
for people. Each role imports only what it needs, so that a restart serves at once.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gitserver import config as configuration
from gitserver.config import Address, Config, parse_address
from gitserver.core.errors import Failure, Unavailable
from gitserver.operations.log import log_to_stderr
from gitserver.process import die_with_parent

_log = logging.getLogger(__name__)


class CannotListen(Unavailable):
    """The address is taken, or is not this machine's."""

    def __init__(self, address: Address, why: OSError) -> None:
        super().__init__(
            f"cannot listen on {address}: {why.strerror}; stop what uses it, or choose another with "
            "ssh.listen in gitserver.toml, or with --ssh"
        )


Announce = Callable[[Address | None], None]


def command(role: str, config: Config, address: str, ready_fd: int) -> list[str]:
    """The command line of a child, for the process that calls this as its parent.

    Args:
        role: ``http``, ``ssh`` or ``worker``.
        config: the settings; the child reads them again from the same file and environment.
        address: where to listen; empty for the worker.
        ready_fd: an inherited descriptor, for the ready line.
    """
    module = ("-P", "-m", "gitserver.operations.roles")  # -P: nothing is imported from the current directory
    return [sys.executable, *module, role, str(config.data), address, str(ready_fd), str(os.getpid())]


def run(role: str, config: Config, address: str, announce: Announce) -> None:
    """Run one role until it is told to stop."""
    if role == "http":
        _serve_http(config, parse_address(address), announce)
    elif role == "ssh":
        _serve_ssh(config, parse_address(address), announce)
    else:
        _work(config, announce)


def _serve_http(config: Config, address: Address, announce: Announce) -> None:
    from gitserver import app
    from gitserver.transports.http.server import HttpSettings, WSGIApplication, serve
    from gitserver.transports.http.wsgi import application

    settings = HttpSettings(
        host=address.host,
        port=address.port,
        certificate=config.certificate,
        private_key=config.private_key,
        workers=config.https.workers,
        threads=min(config.https.requests_per_worker, 32),
        max_concurrent_requests=config.https.requests_per_worker,
        max_connections=config.https.connections_per_worker,
        body_timeout_s=config.git.longest_request_s,
        response_timeout_s=config.git.longest_request_s,
        stop_timeout_s=config.server.graceful_stop_s,
        max_body_bytes=config.git.max_pack_bytes,
        trusted_proxies=config.https.trusted_proxies,
    )

    def build() -> WSGIApplication:
        """One worker's application; called after the fork, so that nothing open is shared."""
        services = app.build(config)
        return application(
            services.access,
            services.authenticator,
            max_body_bytes=config.git.max_pack_bytes,
            trusted_proxies=config.https.trusted_proxies,
            on_close=services.close,
        )

    app.check_database(config)
    serve(build, settings, lambda host, port: announce(Address(host, port)))


def _serve_ssh(config: Config, address: Address, announce: Announce) -> None:
    from gitserver import app
    from gitserver.operations.installation import write_known_hosts
    from gitserver.transports.ssh.host_keys import load_host_keys
    from gitserver.transports.ssh.listener import serve
    from gitserver.transports.ssh.settings import SshSettings

    settings = SshSettings(
        host=address.host,
        port=address.port,
        max_connections=config.ssh.max_connections,
        max_unauthenticated=config.ssh.max_unauthenticated,
        max_unauthenticated_per_address=config.ssh.max_unauthenticated_per_address,
        login_s=config.ssh.login_s,
        login_attempts=config.ssh.login_attempts,
        idle_s=config.ssh.idle_s,
        stop_s=config.server.graceful_stop_s,
        trusted_proxies=config.ssh.trusted_proxies,
    )
    host_keys = load_host_keys(config.host_keys)
    try:
        write_known_hosts(config, [key.public for key in host_keys])
    except OSError as unwritable:  # on a full disk people still want to read
        _log.warning("cannot keep %s up to date: %s", config.known_hosts, unwritable.strerror)
    app.check_database(config)
    services = app.build(config)
    try:
        serve(
            settings,
            host_keys,
            services.authenticator,
            services.access,
            refused=services.journal.failed_authentication,
            ready=lambda host, port: announce(Address(host, port)),
        )
    except OSError as taken:
        raise CannotListen(address, taken) from taken
    finally:
        services.close()


def _work(config: Config, announce: Announce) -> None:
    from gitserver import app
    from gitserver.worker import Worker

    app.check_database(config)
    services = app.build(config)
    try:
        Worker(app.jobs(config, services)).run(lambda: announce(None))
    finally:
        services.close()


def _announce_to(descriptor: int) -> Announce:
    """Write the ready line to *descriptor*, once, and close it."""

    def announce(address: Address | None) -> None:
        facts = {} if address is None else {"host": address.host, "port": address.port}
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(json.dumps(facts).encode() + b"\n")

    return announce


def _main(role: str, data: str, address: str, ready_fd: str, parent: str) -> int:
    die_with_parent(int(parent))
    os.set_inheritable(int(ready_fd), False)
    try:
        config = configuration.load(Path(data), os.environ)
        log_to_stderr(config.log.level)
        run(role, config, address, _announce_to(int(ready_fd)))
    except Failure as failure:
        print(f"gitserver {role}: {failure}", file=sys.stderr)  # noqa: T201 - a command's own message
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
