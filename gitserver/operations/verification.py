"""Reads everything that is stored, and tells what is wrong with it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from gitserver.app import Services
from gitserver.core.caller import Caller
from gitserver.core.errors import Failure
from gitserver.core.ids import AccountId
from gitserver.git.refs import RepositoryGone
from gitserver.git.verify import verify_repository
from gitserver.operations.installation import operator
from gitserver.repos.service import RepositoryView
from gitserver.storage.blobs import BlobMissing
from gitserver.storage.vault import Blob, Owner

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    where: str  # a repository's name, or a blob's where it belongs to none
    what: str


@dataclass
class Tally:
    """What was looked at."""

    repositories: int = 0
    blobs: int = 0
    bytes: int = 0


def verify(services: Services, caller: Caller, name: str | None, tally: Tally, progress: Progress) -> Iterator[Problem]:
    """Open every blob wholly, then check packs, refs and connectivity of every repository.

    Args:
        services: the server's.
        caller: who asks; a single repository is looked for in their account.
        name: one repository; None: everything, in every account.
        tally: counts what was looked at.
        progress: told what is being done.

    Raises:
        RepositoryDoesNotExist: there is none of that *name*.
    """
    if name is not None:
        views = [services.repositories.describe(caller, name)]
    else:
        accounts = [one.id for one in services.identities.list_accounts(caller)]
        views = [view for account in accounts for view in services.repositories.list(operator(account))]
        yield from _blobs(services, None, {view.id: view.name for view in views}, tally, progress)
    for view in views:
        if name is not None:
            owner = Owner(AccountId(view.account), view.id)
            yield from _blobs(services, owner, {view.id: view.name}, tally, progress)
        progress(f"Checking {view.name}")
        yield from _repository(services, view)
        tally.repositories += 1


def _blobs(
    services: Services, owner: Owner | None, names: dict[str, str], tally: Tally, progress: Progress
) -> Iterator[Problem]:
    with services.database.reading() as tx:
        every = list(services.vault.catalogue(tx, owner))
    progress(f"Opening {len(every)} blobs")
    for blob in every:
        try:
            _read(services, blob)
        except Failure as failure:
            if _is_named(services, blob):
                yield Problem(names.get(blob.owner.id, blob.name), str(failure))
        tally.blobs += 1
        tally.bytes += blob.sealed_bytes


def _read(services: Services, blob: Blob) -> None:
    reader = services.vault.open(blob)
    try:
        for _ in reader.chunks():
            pass
    finally:
        reader.close()


def _is_named(services: Services, blob: Blob) -> bool:
    """Whether the blob is still wanted: its repository may have been deleted since the list was made."""
    with services.database.reading() as tx:
        try:
            services.vault.find(tx, blob.id)
        except BlobMissing:
            return False
    return True


def _repository(services: Services, view: RepositoryView) -> Iterator[Problem]:
    try:
        with closing(services.git.open(view.id)) as repository:
            for sentence in verify_repository(repository):
                yield Problem(view.name, sentence)
    except RepositoryGone:
        return  # it was deleted since the list was made
    except Failure as failure:
        yield Problem(view.name, str(failure))
