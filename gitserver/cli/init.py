"""``gitserver init``: make a new data directory."""

import os
from pathlib import Path
from typing import Any

import click

from gitserver.cli.options import data_option, json_option, show
from gitserver.core.ids import account_id
from gitserver.operations.installation import Installation, Wishes, install
from gitserver.operations.welcome import welcome


@click.command()
@click.option("--account", metavar="ID", help="The account's twelve digits. Default: random.")
@click.option("--region", metavar="REGION", help="The region in ARNs. Default: us-east-1.")
@click.option("--public-url", metavar="URL", help="Where people reach the server. Default: https://localhost:8443.")
@click.option("--database", metavar="URL", help="postgresql+psycopg://… Default: SQLite in the data directory.")
@json_option
@data_option
def init(
    data: Path, account: str | None, region: str | None, public_url: str | None, database: str | None, as_json: bool
) -> None:
    """Make a new data directory, with its keys beside it in DIR.keys.

    Prints the administrator's password and access key: this once, and never again. A directory that holds anything
    else is left as it is. If init is stopped in the middle, run it again.
    """
    wishes = Wishes(account_id(account) if account else None, region, public_url, database)
    made = install(data, wishes, dict(os.environ), tell_step)
    show(as_json, _facts(made), welcome(made))


def tell_step(step: str) -> None:
    """Show progress on standard error."""
    click.echo(f"{step} …", err=True)


def _facts(made: Installation) -> dict[str, Any]:
    return {
        "account": made.account,
        "region": made.config.server.region,
        "administrator": {
            "user_name": made.administrator.user_name,
            "password": made.administrator.password.reveal(),
            "access_key_id": made.administrator.access_key_id,
            "secret_access_key": made.administrator.secret_access_key.reveal(),
        },
        "https_url": made.config.public_url,
        "ssh_url": made.config.ssh_url,
        "ca_file": str(made.config.ca_certificate),
        "ssh_host_keys": [
            {"algorithm": key.algorithm, "fingerprint": key.fingerprint, "public_key": key.public_key}
            for key in made.ssh_host_keys
        ],
    }
