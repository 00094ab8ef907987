"""``gitserver admin``: accounts, users, repositories and the journal, for whoever can read the data directory."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import click

from gitserver.cli.credentials import COMMANDS
from gitserver.cli.desk import Desk, at_desk
from gitserver.cli.options import json_option, show, show_rows
from gitserver.core.ids import account_id


@click.group()
def admin() -> None:
    """Accounts, users, credentials and repositories.

    These commands act as the account itself, and may do everything in it: whoever can read the data directory and its
    keys is trusted. Each change is written to the journal with the name of the login it was made from.
    """


for _command in COMMANDS:
    admin.add_command(_command)


@admin.command("create-account")
@click.option("--name", default="account", show_default=True, help="A name for people.")
@click.option("--id", "number", metavar="ID", help="Its twelve digits. Default: random.")
@json_option
@at_desk
def create_account(desk: Desk, name: str, number: str | None, as_json: bool) -> None:
    """Make another account, with keys of its own and no users."""
    made = desk.services.identities.create_account(desk.caller, name, account_id(number) if number else None)
    facts = {"account": made.id, "name": made.name, "created": made.created.isoformat()}
    show(as_json, facts, f"Account {made.id} ({made.name}). Act in it with --account {made.id}")


@admin.command("list-accounts")
@json_option
@at_desk
def list_accounts(desk: Desk, as_json: bool) -> None:
    """List the accounts of this server."""
    rows = [
        {"account": one.id, "name": one.name, "created": one.created.isoformat()}
        for one in desk.services.identities.list_accounts(desk.caller)
    ]
    show_rows(as_json, "accounts", rows, ["account", "name", "created"])


@admin.command("create-repository")
@click.argument("name")
@click.option("--description", help="Up to 1,000 characters.")
@json_option
@at_desk
def create_repository(desk: Desk, name: str, description: str | None, as_json: bool) -> None:
    """Make an empty repository."""
    made = desk.services.repositories.create(desk.caller, name, description)
    facts = {
        "name": made.name,
        "id": made.id,
        "https_url": desk.config.https_clone_url(made.name),
        "ssh_url": desk.config.ssh_clone_url(made.name),
    }
    show(as_json, facts, f"{made.name}\n  {facts['https_url']}\n  {facts['ssh_url']}")


@admin.command("list-repositories")
@json_option
@at_desk
def list_repositories(desk: Desk, as_json: bool) -> None:
    """List the account's repositories."""
    rows = [
        {
            "name": one.name,
            "id": one.id,
            "https_url": desk.config.https_clone_url(one.name),
            "ssh_url": desk.config.ssh_clone_url(one.name),
        }
        for one in desk.services.repositories.list(desk.caller)
    ]
    show_rows(as_json, "repositories", rows, ["name", "https_url", "ssh_url"])


@admin.command("set-rules")
@click.argument("name")
@click.option(
    "--deny-non-fast-forwards/--allow-non-fast-forwards", default=None, help="Whether history may be rewritten."
)
@click.option("--deny-deletes/--allow-deletes", default=None, help="Whether branches and tags may be deleted.")
@json_option
@at_desk
def set_rules(
    desk: Desk, name: str, deny_non_fast_forwards: bool | None, deny_deletes: bool | None, as_json: bool
) -> None:
    """Say what nobody may do to a repository's refs, administrators included. What is not named stays as it is."""
    wishes = {"deny_non_fast_forwards": deny_non_fast_forwards, "deny_deletes": deny_deletes}
    before = desk.services.repositories.describe(desk.caller, name).rules
    rules = replace(before, **{rule: wish for rule, wish in wishes.items() if wish is not None})
    rules = desk.services.repositories.set_rules(desk.caller, name, rules).rules
    facts = {"name": name, **asdict(rules)}
    words = [f"{rule.replace('_', ' ')}: {'yes' if on else 'no'}" for rule, on in asdict(rules).items()]
    show(as_json, facts, f"{name}: {', '.join(words)}")


@admin.command("delete-repository")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@at_desk
def delete_repository(desk: Desk, name: str, yes: bool) -> None:
    """Delete a repository and destroy its key: nothing brings it back, save a backup together with its keys."""
    if not yes:
        click.confirm(f"Delete {name} and everything in it?", abort=True, err=True)
    desk.services.repositories.delete(desk.caller, name)
    click.echo(f"{name} is deleted.", err=True)


@admin.command("create-user")
@click.argument("name")
@click.option("--administrator", is_flag=True, help="May do everything in the account.")
@json_option
@at_desk
def create_user(desk: Desk, name: str, administrator: bool, as_json: bool) -> None:
    """Make a user, without any credential yet."""
    made = desk.services.identities.create_user(desk.caller, name, administrator=administrator)
    facts = {"user_name": made.name, "user_id": made.id, "arn": str(made.arn), "administrator": made.administrator}
    show(as_json, facts, f"User {made.name}: {made.arn}")


@admin.command("list-users")
@json_option
@at_desk
def list_users(desk: Desk, as_json: bool) -> None:
    """List the account's users."""
    rows = [
        {
            "user_name": one.name,
            "user_id": one.id,
            "arn": str(one.arn),
            "administrator": one.administrator,
            "created": one.created.isoformat(),
        }
        for one in desk.services.identities.list_users(desk.caller)
    ]
    show_rows(as_json, "users", rows, ["user_name", "user_id", "administrator", "created"])


@admin.command("delete-user")
@click.argument("name")
@at_desk
def delete_user(desk: Desk, name: str) -> None:
    """Delete a user whose credentials are all revoked."""
    desk.services.identities.delete_user(desk.caller, name)
    click.echo(f"User {name} is deleted.", err=True)


@admin.command()
@click.option("--event", help="Only events of this name, such as AccessDenied.")
@click.option("--principal", help="Only this principal's: an ARN or a unique id.")
@click.option("--since", type=click.DateTime(), help="Only at or after this moment, UTC.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
@click.option("--all-accounts", is_flag=True, help="Every account's, and what no account could be named for.")
@json_option
@at_desk
def journal(
    desk: Desk,
    event: str | None,
    principal: str | None,
    since: datetime | None,
    limit: int,
    all_accounts: bool,
    as_json: bool,
) -> None:
    """Show what happened: who, how proven, from where, what, when; newest last. With --json, one object a line."""
    found = list(
        desk.services.journal.entries(
            account=None if all_accounts else desk.caller.account,
            event=event,
            principal=principal,
            since=since.replace(tzinfo=UTC) if since else None,
            newest_first=True,
            limit=limit,
        )
    )
    rows = [_entry(entry) for entry in reversed(found)]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    show_rows(False, "entries", rows, ["at", "event", "principal", "method", "address", "resource"])


def _entry(entry: Any) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "event": entry.event,
        "account": entry.account,
        "principal": entry.principal,
        "principal_id": entry.principal_id,
        "method": entry.method,
        "credential_id": entry.credential_id,
        "mfa": entry.mfa.isoformat() if entry.mfa else None,
        "address": entry.address,
        "request_id": entry.request_id,
        "resource": entry.resource,
        "repository_id": entry.repository_id,
        "sequence": entry.sequence,
        "detail": json.loads(entry.detail),
    }
