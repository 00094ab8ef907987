"""Joins everything: the one file that knows everybody."""

from dataclasses import dataclass
from datetime import timedelta

from gitserver.config import Config, Unusable
from gitserver.core.clock import Clock, SystemClock
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


@dataclass(frozen=True)
class Services:
    """One process's services, over one database and one vault."""

    clock: Clock
    database: Database
    keyring: FileKeyring
    blobs: LocalBlobStore
    vault: Vault
    journal: Journal
    authorizer: Authorizer
    identities: Identities
    credentials: Credentials
    authenticator: Authenticator
    git: GitStorage
    repositories: Repositories
    access: GitAccess

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
    database = Database(config.database_url)
    blobs = LocalBlobStore(config.blobs, clock)
    vault = Vault(database, blobs, keyring, clock)
    journal = Journal(database, clock)
    authorizer = Authorizer(database, journal)
    identities = Identities(database, vault, journal, authorizer, clock, Passwords())
    git = GitStorage(database, vault, clock)
    repositories = Repositories(database, git, authorizer, journal, clock, config.server.region)
    return Services(
        clock=clock,
        database=database,
        keyring=keyring,
        blobs=blobs,
        vault=vault,
        journal=journal,
        authorizer=authorizer,
        identities=identities,
        credentials=Credentials(database, vault, journal, authorizer, clock, identities),
        authenticator=Authenticator(database, journal, clock),
        git=git,
        repositories=repositories,
        access=GitAccess(database, git, repositories, authorizer, journal, _limits(config), config.spool),
    )


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
    return AccessLimits(push=PushLimits(commands=git.max_refs_per_push, pack=pack), upload=UploadLimits())
