"""A new data directory: settings, keys, certificates, database, the first account and its administrator.

A marker file is written first and removed last, in the data directory and in the key directory; while it is there,
nothing serves from them, and the next ``init`` starts over. Nothing is ever removed from a directory without it.
"""

import getpass
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gitserver import config as configuration
from gitserver.config import FILE_NAME, Config, Unusable
from gitserver.core.caller import Caller, local_caller
from gitserver.core.clock import SystemClock
from gitserver.core.ids import AccountId, new_account_id
from gitserver.core.secret import Secret
from gitserver.operations.guard import MARKER

ADMINISTRATOR = "admin"
_ANOTHER = "choose an empty or new directory with --data"


class NotEmpty(Unusable):
    """The directory holds something that is not ours to replace."""

    code = "NotEmpty"

    def __init__(self, directory: Path, what: str, instead: str = _ANOTHER) -> None:
        super().__init__(f"{directory} {what}; {instead}")


@dataclass(frozen=True)
class Wishes:
    """What the operator asked for; None leaves it to us."""

    account: AccountId | None = None
    region: str | None = None
    public_url: str | None = None
    database_url: str | None = None


@dataclass(frozen=True)
class Administrator:
    """The first user. The secrets are shown once and kept nowhere in the open."""

    user_name: str
    password: Secret
    access_key_id: str
    secret_access_key: Secret


@dataclass(frozen=True)
class HostKey:
    """What a client needs to recognise the SSH door."""

    algorithm: str
    fingerprint: str
    public_key: str


@dataclass(frozen=True)
class Installation:
    """What was made."""

    config: Config
    account: AccountId
    administrator: Administrator
    ssh_host_keys: tuple[HostKey, ...]


def install(data: Path, wishes: Wishes, environ: dict[str, str], progress: Callable[[str], None]) -> Installation:
    """Make *data* a data directory, with its keys beside it.

    Args:
        data: absent, empty, or left unfinished by an earlier call that was killed.
        wishes: see there.
        environ: the environment, for ``GITSERVER_SECTION_KEY``.
        progress: told what is being done.

    Raises:
        NotEmpty: *data*, or the key directory, holds something else.
        InvalidSetting: a wish, or the environment, breaks a rule.
    """
    data = data.absolute()
    account = wishes.account or new_account_id()
    text = _settings(account, wishes)
    config = configuration.combine(data, text, environ)
    if config.keys.directory:  # said in the environment of this one command; the next one must find the keys too
        text += f"\n[keys]\ndirectory = {json.dumps(str(config.key_directory), ensure_ascii=False)}\n".encode()
    progress(f"Making {data} and {config.key_directory}")
    claim(config.data, config.key_directory)
    write_private(data / FILE_NAME, text)
    host_keys = _make_keys(config, progress)
    administrator = _make_account(config, account, progress)
    finish(config.data, config.key_directory)
    return Installation(config, account, administrator, host_keys)


def claim(*directories: Path, instead: str = _ANOTHER) -> None:
    """Make *directories* (mode 0700) and mark them unfinished; start over where they are marked already.

    Args:
        directories: which.
        instead: what the operator is told to do where one is taken.

    Raises:
        NotEmpty: one holds something and bears no mark; then none was touched.
    """
    for directory in directories:
        _check_free(directory, instead)
    for directory in directories:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        (directory / MARKER).touch(mode=0o600)
        _clear(directory)
        sync_directory(directory)


def finish(*directories: Path) -> None:
    """Remove the marks: from now on the directories are in use, and nobody clears them. The data directory first."""
    for directory in directories:  # in this order: see guard.check
        sync_directory(directory)
        (directory / MARKER).unlink(missing_ok=True)
        sync_directory(directory)


def is_needed(data: Path) -> bool:
    """Whether *data* was never made, or not to the end."""
    return not (data / FILE_NAME).exists() or (data / MARKER).exists()


def write_known_hosts(config: Config, public_keys: Iterable[str]) -> None:
    """Keep the SSH door's keys for clients on this machine, under the name and port they are told to use.

    Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
    """
    parts = urlsplit(config.ssh_url)
    host = parts.hostname if parts.port in (None, 22) else f"[{parts.hostname}]:{parts.port}"
    text = "".join(f"{host} {key}\n" for key in public_keys).encode()
    config.known_hosts.parent.mkdir(mode=0o700, exist_ok=True)
    if not config.known_hosts.exists() or config.known_hosts.read_bytes() != text:
        write_private(config.known_hosts, text)


def write_private(path: Path, text: bytes) -> None:
    """Write *path*, mode 0600, durably and at once: it is never half there."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        beside.unlink()
        raise
    beside.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in *directory* durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def operator(account: AccountId) -> Caller:
    """Whoever runs this command, as the journal names them."""
    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        login = f"uid {os.getuid()}"
    return local_caller(account, login)


def _check_free(directory: Path, instead: str) -> None:
    if not directory.exists() or (directory / MARKER).exists():
        return
    if (directory / FILE_NAME).exists():
        raise NotEmpty(directory, "is a gitserver data directory already and was left as it is", instead)
    if not directory.is_dir() or any(directory.iterdir()):
        raise NotEmpty(directory, "is not empty and was left as it is", instead)


def _clear(directory: Path) -> None:
    """Remove what an unfinished making left, but the mark: this may be stopped in the middle too."""
    for entry in directory.iterdir():
        if entry.name == MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _settings(account: AccountId, wishes: Wishes) -> bytes:
    lines = [
        "# The settings of this server. Every setting there is, with its default and a sentence:",
        "# config/gitserver.toml in gitserver's source.",
        "",
        "[server]",
        f"account = {json.dumps(account)}",
    ]
    if wishes.region is not None:
        lines.append(f"region = {json.dumps(wishes.region)}")
    if wishes.public_url is not None:
        lines.append(f"public_url = {json.dumps(wishes.public_url)}")
    if wishes.database_url is not None:
        lines += ["", "[database]", f"url = {json.dumps(wishes.database_url)}"]
    return "\n".join([*lines, ""]).encode()


def _make_keys(config: Config, progress: Callable[[str], None]) -> tuple[HostKey, ...]:
    from gitserver.operations.certificates import make_certificates
    from gitserver.storage.keyring import FileKeyring
    from gitserver.transports.ssh.host_keys import make_host_keys

    progress("Making the master key, the certificate authority and the SSH host keys")
    FileKeyring.create_at(config.key_directory)
    make_certificates(config, SystemClock())
    keys = tuple(HostKey(key.algorithm, key.fingerprint, key.public) for key in make_host_keys(config.host_keys))
    write_known_hosts(config, [key.public_key for key in keys])
    return keys


def _make_account(config: Config, account: AccountId, progress: Callable[[str], None]) -> Administrator:
    from gitserver import app
    from gitserver.iam.passwords import generate_password
    from gitserver.storage import migrate
    from gitserver.storage.database import Database

    progress("Making the database")
    database = Database(config.database_url)
    try:
        migrate.upgrade(database)
    finally:
        database.close()
    progress(f"Making account {account} and its administrator")
    services = app.build(config)
    try:
        caller = operator(account)
        services.identities.create_account(caller, "gitserver", account)
        services.identities.create_user(caller, ADMINISTRATOR, administrator=True)
        password = generate_password()
        services.identities.set_password(caller, ADMINISTRATOR, password)
        key = services.credentials.create_access_key(caller, ADMINISTRATOR)
    finally:
        services.close()
    return Administrator(ADMINISTRATOR, password, key.access_key_id, key.secret)
