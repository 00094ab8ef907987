"""A whole server: which processes it has, who may run beside it, and what it says when it is ready."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from gitserver.config import Address, Config, parse_address
from gitserver.operations import guard, locks, roles
from gitserver.supervisor import Role, Supervisor

ROLES = ("http", "ssh", "worker")

Ready = Callable[[dict[str, dict[str, object]]], None]


def serve(config: Config, only: str | None, ready: Ready, ready_file: Path | None = None) -> None:
    """Run until told to stop.

    Args:
        config: the settings.
        only: one role of :data:`ROLES`, or None for a full server.
        ready: told each door's bound address (``host``, ``port``) when all of them answer.
        ready_file: written with the same facts as JSON then, and removed at the end.

    Raises:
        guard's errors: the data directory may not be served from.
        InUse: another server holds it.
        DidNotStart: a process ended before it was ready.
    """
    guard.check(config)
    with locks.holding(config.data, shared=only is not None) as lock:
        guard.check(config)  # again, now that no init or restore can be at work

        def announce(bound: dict[str, dict[str, object]]) -> None:
            if ready_file is not None:
                _write_ready_file(ready_file, bound)
            ready(bound)

        supervisor = Supervisor(
            roles=[_role(name, config) for name in ROLES if only in (None, name)],
            on_ready=announce,
            graceful_stop_s=config.server.graceful_stop_s + 2,  # the children's own limit comes first
            inherited=(lock,),
        )
        try:
            supervisor.run()
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)


def _role(name: str, config: Config) -> Role:
    listen = {"http": config.https.listen, "ssh": config.ssh.listen}.get(name, "")

    def command(bound: Mapping[str, object] | None, ready_fd: int) -> list[str]:
        address = listen
        if listen and bound:
            address = str(Address(parse_address(listen).host, int(str(bound["port"]))))
        return roles.command(name, config, address, ready_fd)

    return Role(name, command, waits=name == "worker")


def _write_ready_file(path: Path, bound: dict[str, dict[str, object]]) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps({"pid": os.getpid(), **bound}) + "\n", encoding="utf-8")
    beside.rename(path)
