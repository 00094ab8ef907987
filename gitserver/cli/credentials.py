"""``gitserver admin``: what users prove themselves with."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from gitserver.cli.desk import Desk, at_desk
from gitserver.cli.options import json_option, show, show_rows

_PUBLIC_KEY_BYTES = 65_536  # no public key is longer; guards against the wrong file


@click.command("add-ssh-key")
@click.argument("user")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@json_option
@at_desk
def add_ssh_key(desk: Desk, user: str, file: Path, as_json: bool) -> None:
    """Give USER the SSH public key in FILE, such as ~/.ssh/id_ed25519.pub; - reads standard input."""
    with click.open_file(str(file), encoding="utf-8", errors="replace") as opened:
        text = opened.read(_PUBLIC_KEY_BYTES)
    if "PRIVATE KEY" in text:
        raise click.UsageError(f"{file} is a private key; keep it to yourself and give the file that ends in .pub")
    made = desk.services.credentials.add_ssh_key(desk.caller, user, text)
    facts = {
        "ssh_public_key_id": made.ssh_public_key_id,
        "fingerprint": made.fingerprint,
        "user_name": made.user_name,
    }
    show(as_json, facts, f"{made.ssh_public_key_id}  {made.fingerprint}  {made.user_name}")


@click.command("list-ssh-keys")
@click.argument("user")
@json_option
@at_desk
def list_ssh_keys(desk: Desk, user: str, as_json: bool) -> None:
    """List USER's SSH public keys."""
    rows = [
        {
            "ssh_public_key_id": one.ssh_public_key_id,
            "fingerprint": one.fingerprint,
            "key_type": one.key_type,
            "status": one.status,
            "created": one.created.isoformat(),
        }
        for one in desk.services.credentials.list_ssh_keys(desk.caller, user)
    ]
    show_rows(as_json, "ssh_keys", rows, ["ssh_public_key_id", "fingerprint", "key_type", "status", "created"])


@click.command("revoke-ssh-key")
@click.argument("user")
@click.argument("ssh_public_key_id")
@at_desk
def revoke_ssh_key(desk: Desk, user: str, ssh_public_key_id: str) -> None:
    """Take USER's key SSH_PUBLIC_KEY_ID (APKA…) away; it opens no connection from now on."""
    desk.services.credentials.revoke_ssh_key(desk.caller, user, ssh_public_key_id)
    click.echo(f"{ssh_public_key_id} is revoked.", err=True)


@click.command("create-git-credential")
@click.argument("user")
@click.option("--for-git", is_flag=True, help="Print it as `git credential approve` reads it.")
@json_option
@at_desk
def create_git_credential(desk: Desk, user: str, for_git: bool, as_json: bool) -> None:
    """Make a user name and password for git over HTTPS; a user may have two. Shown once."""
    if for_git and as_json:
        raise click.UsageError("--for-git and --json exclude each other")
    made = desk.services.credentials.create_git_credential(desk.caller, user)
    password = made.password.reveal()
    if for_git:
        # Source: git-credential(1), "INPUT/OUTPUT FORMAT"
        host = urlsplit(desk.config.public_url).netloc
        click.echo(f"protocol=https\nhost={host}\nusername={made.user_name}\npassword={password}\n")
        return
    facts = {"user_name": made.user_name, "password": password, "id": made.id}
    text = f"user name  {made.user_name}\npassword   {password}\nid         {made.id}\nThe password is shown this once."
    show(as_json, facts, text)


@click.command("list-git-credentials")
@click.argument("user")
@json_option
@at_desk
def list_git_credentials(desk: Desk, user: str, as_json: bool) -> None:
    """List USER's git credentials, without their passwords."""
    rows = [
        {"id": one.id, "user_name": one.user_name, "status": one.status, "created": one.created.isoformat()}
        for one in desk.services.credentials.list_git_credentials(desk.caller, user)
    ]
    show_rows(as_json, "git_credentials", rows, ["id", "user_name", "status", "created"])


@click.command("revoke-git-credential")
@click.argument("user")
@click.argument("credential_id")
@at_desk
def revoke_git_credential(desk: Desk, user: str, credential_id: str) -> None:
    """Take USER's git credential CREDENTIAL_ID (ACCA…) away."""
    desk.services.credentials.revoke_git_credential(desk.caller, user, credential_id)
    click.echo(f"{credential_id} is revoked.", err=True)


@click.command("create-access-key")
@click.argument("user")
@json_option
@at_desk
def create_access_key(desk: Desk, user: str, as_json: bool) -> None:
    """Make an access key for USER; the secret is shown once."""
    made = desk.services.credentials.create_access_key(desk.caller, user)
    secret = made.secret.reveal()
    facts = {"access_key_id": made.access_key_id, "secret_access_key": secret, "user_name": made.user_name}
    show(as_json, facts, f"access key id      {made.access_key_id}\nsecret access key  {secret}\nShown this once.")


@click.command("list-access-keys")
@click.argument("user")
@json_option
@at_desk
def list_access_keys(desk: Desk, user: str, as_json: bool) -> None:
    """List USER's access keys, without their secrets."""
    rows = [
        {"access_key_id": one.access_key_id, "status": one.status, "created": one.created.isoformat()}
        for one in desk.services.credentials.list_access_keys(desk.caller, user)
    ]
    show_rows(as_json, "access_keys", rows, ["access_key_id", "status", "created"])


@click.command("revoke-access-key")
@click.argument("user")
@click.argument("access_key_id")
@at_desk
def revoke_access_key(desk: Desk, user: str, access_key_id: str) -> None:
    """Take USER's access key ACCESS_KEY_ID (AKIA…) away."""
    desk.services.credentials.revoke_access_key(desk.caller, user, access_key_id)
    click.echo(f"{access_key_id} is revoked.", err=True)


COMMANDS = (
    add_ssh_key,
    list_ssh_keys,
    revoke_ssh_key,
    create_git_credential,
    list_git_credentials,
    revoke_git_credential,
    create_access_key,
    list_access_keys,
    revoke_access_key,
)
