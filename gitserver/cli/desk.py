"""What an administration command works with: the services, and whom it acts as."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gitserver.cli.options import config_option
from gitserver.config import Config, Unusable
from gitserver.core.caller import Caller
from gitserver.core.ids import account_id

if TYPE_CHECKING:
    from gitserver.app import Services


@dataclass(frozen=True)
class Desk:
    """What an administration command works with."""

    config: Config
    services: "Services"
    caller: Caller


def at_desk(command: Callable[..., Any]) -> Callable[..., Any]:
    """Hand on ``desk: Desk``; adds ``--account``, ``--data`` and ``--debug``."""

    @functools.wraps(command)
    def with_desk(*, config: Config, account: str | None, **rest: Any) -> Any:
        with desk(config, account) as opened:
            return command(desk=opened, **rest)

    option = click.option("--account", metavar="ID", help="Act in this account. Default: the one init made.")
    return option(config_option(with_desk))


@contextlib.contextmanager
def desk(config: Config, account: str | None) -> Iterator[Desk]:
    """Open the services of *config*, acting in *account* or the configured one.

    Raises:
        Unusable: no account is configured, or the data directory may not be used.
    """
    from gitserver import app
    from gitserver.operations import guard
    from gitserver.operations.installation import operator

    guard.check(config)
    chosen = account or config.server.account
    if not chosen:
        raise Unusable(f"no account is set; give --account, or set server.account in {config.data}/gitserver.toml")
    services = app.build(config)
    try:
        yield Desk(config, services, operator(account_id(chosen)))
    finally:
        services.close()
