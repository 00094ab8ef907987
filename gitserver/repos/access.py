"""Git's three commands on a repository, for whoever may.

Each method authorizes and opens the repository before it returns; what it returns only talks. A door that has got a
conversation may send its ``200``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy.orm import Session

from gitserver.core.arn import Arn
from gitserver.core.caller import Caller
from gitserver.core.ids import RepositoryId
from gitserver.git.archive import ArchiveLimits, UploadArchive
from gitserver.git.fsck import FsckPolicy
from gitserver.git.limits import PushLimits
from gitserver.git.protocol import Reader, printable
from gitserver.git.receive import ReceivePack
from gitserver.git.refs import RefUpdate, RepositoryGone
from gitserver.git.repository import GitStorage, Repository
from gitserver.git.upload import UploadPack
from gitserver.git.upload_request import UploadLimits
from gitserver.git.wants import ReachableMemory
from gitserver.iam.authorize import AccessDenied, Authorizer
from gitserver.journal.journal import Journal
from gitserver.repos.events import RefChange, RefsUpdated, RepositoryRead
from gitserver.repos.service import Repositories, RepositoryDoesNotExist, RepositoryView, find_row
from gitserver.storage.database import Database


class Conversation(Protocol):
    """What a door carries between a git client and a repository."""

    def advertise(self) -> Iterator[bytes]:
        """What the server has and can do, without smart HTTP's ``# service`` line."""
        ...

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        """What to send, reading from *stream* on the way.

        Args:
            stream: what the client sends.
            stateless: one smart-HTTP request; otherwise a whole conversation, which begins with the advertisement.
        """
        ...

    def close(self) -> None:
        """Let go of everything; harmless when repeated."""
        ...


@dataclass(frozen=True)
class AccessLimits:
    """What one conversation may cost."""

    push: PushLimits
    fsck: FsckPolicy
    upload: UploadLimits
    archive: ArchiveLimits


class GitAccess:
    """Fetch, push and archive."""

    def __init__(
        self,
        database: Database,
        git: GitStorage,
        repositories: Repositories,
        authorizer: Authorizer,
        journal: Journal,
        limits: AccessLimits,
        spool_directory: Path,
    ) -> None:
        self._database, self._git, self._repositories = database, git, repositories
        self._authorizer, self._journal = authorizer, journal
        self._limits, self._spool_directory = limits, spool_directory
        self._reachable = ReachableMemory()

    def upload_pack(self, caller: Caller, name: str, version: int) -> Conversation:
        """Fetch from a repository.

        Raises:
            AccessDenied: *caller* may not.
            RepositoryDoesNotExist: there is none of that name.
        """
        repository = self._open_to_read(caller, name, "git-upload-pack")
        return UploadPack(repository, version, self._limits.upload, self._reachable)

    def upload_archive(self, caller: Caller, name: str) -> Conversation:
        """Take an archive of a repository.

        Raises:
            AccessDenied: *caller* may not.
            RepositoryDoesNotExist: there is none of that name.
        """
        repository = self._open_to_read(caller, name, "git-upload-archive")
        return UploadArchive(repository, self._limits.archive)

    def receive_pack(self, caller: Caller, name: str, version: int) -> Conversation:
        """Push to a repository. Each ref is asked for again, with its name, when it is known.

        Raises:
            AccessDenied: *caller* may not.
            RepositoryDoesNotExist: there is none of that name.
        """
        arn = self._repositories.arn(caller.account, name)
        self._authorizer.require(caller, "codecommit:GitPush", arn)
        view = self._find(caller, name)
        push = _Push(caller, arn, view.id, self._authorizer, self._journal)
        return ReceivePack(
            self._git,
            self._open(view),
            self._database,
            push.judge,
            push.finish,
            view.rules,
            self._limits.push,
            self._limits.fsck,
            self._spool_directory,
            version,
        )

    def _open_to_read(self, caller: Caller, name: str, command: str) -> Repository:
        arn = self._repositories.arn(caller.account, name)
        self._authorizer.require(caller, "codecommit:GitPull", arn)
        view = self._find(caller, name)
        repository = self._open(view)
        self._journal.record(caller, RepositoryRead(arn, view.id, command), repository=view.id)
        return repository

    def _find(self, caller: Caller, name: str) -> RepositoryView:
        with self._database.reading() as tx:
            return self._repositories.view(find_row(tx, caller.account, name))

    def _open(self, view: RepositoryView) -> Repository:
        try:
            return self._git.open(view.id)
        except RepositoryGone as gone:
            raise RepositoryDoesNotExist(view.name) from gone


@dataclass(frozen=True)
class _Push:
    """What one push must ask, and tell."""

    caller: Caller
    arn: Arn
    repository_id: RepositoryId
    authorizer: Authorizer
    journal: Journal

    def judge(self, change: RefUpdate) -> str | None:
        context = {"codecommit:References": printable(change.name)}
        try:
            self.authorizer.require(self.caller, "codecommit:GitPush", self.arn, context)
        except AccessDenied as denied:
            return str(denied)
        return None

    def finish(self, tx: Session, changes: Sequence[RefUpdate], generation: int, options: Sequence[str]) -> None:
        told = tuple(RefChange(printable(change.name), change.old.hex(), change.new.hex()) for change in changes)
        event = RefsUpdated(self.arn, self.repository_id, told, tuple(options))
        self.journal.write(tx, self.caller, event, repository=self.repository_id, sequence=generation)
