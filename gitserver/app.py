"""Joins everything: the one file that knows everybody."""

import functools
import importlib.resources
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gitserver.config import Config, Unusable
from gitserver.core.clock import Clock, SystemClock
from gitserver.git.archive import ArchiveLimits
from gitserver.git.fsck import FsckPolicy
from gitserver.git.limits import PackLimits, PushLimits
from gitserver.git.repository import GitStorage
from gitserver.git.upload_request import UploadLimits
from gitserver.iam.authenticate import Authenticator
from gitserver.iam.authorize import Authorizer
from gitserver.iam.credentials import Credentials
from gitserver.iam.identities import Identities
from gitserver.iam.passwords import Passwords
from gitserver.journal.journal import Journal
from gitserver.repos.access import AccessLimits, GitAccess
from gitserver.repos.service import Repositories
from gitserver.storage.database import Database
from gitserver.storage.keyring import FileKeyring, KeyringUnusable
from gitserver.storage.local import LocalBlobStore
from gitserver.storage.vault import Vault
from gitserver.worker import Job


class Services:
    """One process's services, over one database and one vault."""

    def __init__(self, config: Config, keyring: FileKeyring, clock: Clock) -> None:
        self.clock = clock
        self.keyring = keyring
        self.database = Database(config.database_url)
        self.blobs = LocalBlobStore(config.blobs, clock)
        self.vault = Vault(self.database, self.blobs, keyring, clock)
        self.journal = Journal(self.database, clock)
        self.authorizer = Authorizer(self.database, self.journal)
        self.authenticator = Authenticator(self.database, self.journal, clock)
        self.git = GitStorage(self.database, self.vault, clock)
        self.repositories = Repositories(
            self.database, self.git, self.authorizer, self.journal, clock, config.server.region
        )
        self.access = GitAccess(
            self.database,
            self.git,
            self.repositories,
            self.authorizer,
            self.journal,
            _limits(config),
            config.spool,
        )

    @functools.cached_property
    def identities(self) -> Identities:
        """Made when first asked for: getting ready to check passwords costs 0.1 s and 64 MiB, and doors start fast."""
        return Identities(self.database, self.vault, self.journal, self.authorizer, self.clock, Passwords())

    @functools.cached_property
    def credentials(self) -> Credentials:
        """Made when first asked for, as identities are."""
        return Credentials(self.database, self.vault, self.journal, self.authorizer, self.clock, self.identities)

    def close(self) -> None:
        """Write what is queued and let go of everything."""
        self.git.close()
        self.journal.close()
        self.database.close()


def build(config: Config) -> Services:
    """Open the data directory of *config* and join its services. Cheap: nothing is connected or read but the keys.

    Call it after a fork, never before: see :class:`gitserver.storage.database.Database`.

    Raises:
        Unusable: the master key is missing, wrong or open to others.
    """
    clock = SystemClock()
    try:
        keyring = FileKeyring(config.key_directory)
    except KeyringUnusable as unusable:
        raise Unusable(str(unusable)) from unusable
    config.spool.mkdir(mode=0o700, exist_ok=True)
    return Services(config, keyring, clock)


def check_database(config: Config) -> None:
    """Let a server start only on tables that it knows. Quick where they are the newest.

    Raises:
        DatabaseOutdated, DatabaseTooNew: they are not.
        DatabaseUnavailable: it cannot be reached.
    """
    database = Database(config.database_url)
    try:
        if _revision(database) != _newest_revision():
            from gitserver.storage import migrate  # Alembic takes a quarter of a second to import

            migrate.require_current(database)
    finally:
        database.close()


def jobs(config: Config, services: Services) -> list[Job]:
    """What the worker does."""
    keep = timedelta(seconds=2 * config.git.longest_request_s)

    def sweep() -> str:
        swept = services.vault.sweep(keep)
        return f"{len(swept)} blobs that nothing names are deleted" if swept else ""

    def checkpoint() -> str:
        services.database.checkpoint()
        return ""

    return [
        Job("sweep", config.worker.sweep_every_s, sweep),
        Job("checkpoint", config.worker.checkpoint_every_s, checkpoint),
    ]


def _limits(config: Config) -> AccessLimits:
    git = config.git
    pack = PackLimits(pack_bytes=git.max_pack_bytes, blob_bytes=git.max_object_bytes, objects=git.max_objects)
    return AccessLimits(
        push=PushLimits(commands=git.max_refs_per_push, pack=pack),
        fsck=FsckPolicy(frozenset(git.fsck_ignore), frozenset(map(bytes.fromhex, git.fsck_skip))),
        upload=UploadLimits(),
        archive=ArchiveLimits(),
    )


def _revision(database: Database) -> str | None:
    try:
        with database.reading() as tx:
            return str(tx.scalar(text("SELECT version_num FROM alembic_version")))
    except DBAPIError:
        return None  # there is no such table: the slow way says what that means


def _newest_revision() -> str:
    """The number of the newest migration, from the names of their files: see gitserver/storage/migrate.py."""
    steps = importlib.resources.files("gitserver.storage.migrations.versions").iterdir()
    return max(step.name[:4] for step in steps if step.name[:4].isdecimal())
