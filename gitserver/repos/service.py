"""Create, describe, list and delete repositories."""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gitserver.core.arn import Arn, repository_arn
from gitserver.core.caller import Caller
from gitserver.core.clock import Clock
from gitserver.core.errors import Conflict, Invalid, NotFound
from gitserver.core.ids import AccountId, RepositoryId, new_repository_id
from gitserver.git.repository import GitStorage
from gitserver.git.rules import PushRules
from gitserver.iam.authorize import Authorizer
from gitserver.journal.journal import Journal
from gitserver.repos.events import RepositoryCreated, RepositoryDeleted, RepositoryRulesChanged
from gitserver.repos.tables import RepositoryRow
from gitserver.storage.database import Database
from gitserver.storage.vault import Owner

MAX_DESCRIPTION = 1000
_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


class InvalidRepositoryName(Invalid):
    """The name breaks CodeCommit's rule."""

    code = "InvalidRepositoryNameException"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:120]!r} is not a repository name; use 1 to 100 letters, digits, '.', '_' and '-', "
            "not ending in .git, and more than dots alone"
        )


class InvalidRepositoryDescription(Invalid):
    """The description is too long."""

    code = "InvalidRepositoryDescriptionException"

    def __init__(self) -> None:
        super().__init__(f"a repository's description is at most {MAX_DESCRIPTION} characters long")


class RepositoryNameExists(Conflict):
    """The account has a repository of that name."""

    code = "RepositoryNameExistsException"

    def __init__(self, name: str) -> None:
        super().__init__(f"a repository named {name} already exists")


class RepositoryDoesNotExist(NotFound):
    """The account has no repository of that name."""

    code = "RepositoryDoesNotExistException"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no repository named {name}")


@dataclass(frozen=True)
class RepositoryView:
    """A repository, as those who may see it see it."""

    id: RepositoryId
    account: AccountId
    name: str
    arn: Arn
    description: str | None
    rules: PushRules
    created: datetime
    modified: datetime


class Repositories:
    """Create, describe, list and delete repositories."""

    def __init__(
        self, database: Database, git: GitStorage, authorizer: Authorizer, journal: Journal, clock: Clock, region: str
    ) -> None:
        self._database, self._git, self._authorizer = database, git, authorizer
        self._journal, self._clock, self._region = journal, clock, region

    def arn(self, account: AccountId, name: str) -> Arn:
        """What policies call a repository, whether it exists or not."""
        return repository_arn(self._region, account, name)

    def create(self, caller: Caller, name: str, description: str | None = None) -> RepositoryView:
        """Create an empty repository.

        Args:
            caller: who asks.
            name: 1 to 100 letters, digits, ``.``, ``_`` or ``-``; not ending in ``.git``.
            description: at most 1,000 characters.

        Raises:
            AccessDenied: *caller* may not.
            InvalidRepositoryName: *name* breaks that rule.
            InvalidRepositoryDescription: *description* is too long.
            RepositoryNameExists: the account has one of that name.

        Source: CodeCommit API reference, CreateRepository.
        """
        if not _is_name(name):
            raise InvalidRepositoryName(name)
        if description is not None and len(description) > MAX_DESCRIPTION:
            raise InvalidRepositoryDescription
        arn = self.arn(caller.account, name)
        self._authorizer.require(caller, "codecommit:CreateRepository", arn)
        now = self._clock.now()
        row = RepositoryRow(
            id=new_repository_id(),
            account=caller.account,
            name=name,
            description=description,
            deny_non_fast_forwards=False,
            deny_deletes=False,
            created=now,
            modified=now,
        )
        with self._database.transaction() as tx:
            tx.add(row)
            try:
                tx.flush()
            except IntegrityError as taken:
                raise RepositoryNameExists(name) from taken
            self._git.create(tx, Owner(caller.account, row.id))
            self._journal.write(tx, caller, RepositoryCreated(arn, row.id, name), repository=RepositoryId(row.id))
            return self.view(row)

    def describe(self, caller: Caller, name: str) -> RepositoryView:
        """One repository.

        Raises:
            AccessDenied: *caller* may not.
            RepositoryDoesNotExist: there is none of that name.

        Source: CodeCommit API reference, GetRepository.
        """
        self._authorizer.require(caller, "codecommit:GetRepository", self.arn(caller.account, name))
        with self._database.reading() as tx:
            return self.view(find_row(tx, caller.account, name))

    def list(self, caller: Caller) -> list[RepositoryView]:
        """Every repository of the caller's account, by name.

        Raises:
            AccessDenied: *caller* may not.

        Source: CodeCommit API reference, ListRepositories.
        """
        self._authorizer.require(caller, "codecommit:ListRepositories", self.arn(caller.account, "*"))
        query = select(RepositoryRow).where(RepositoryRow.account == caller.account).order_by(RepositoryRow.name)
        with self._database.reading() as tx:
            return [self.view(row) for row in tx.execute(query).scalars()]

    def set_rules(self, caller: Caller, name: str, rules: PushRules) -> RepositoryView:
        """Say what nobody may do to a repository's refs, whatever they may otherwise.

        Raises:
            AccessDenied: *caller* may not.
            RepositoryDoesNotExist: there is none of that name.
        """
        arn = self.arn(caller.account, name)
        self._authorizer.require(caller, "codecommit:UpdateRepositoryDescription", arn)
        with self._database.transaction() as tx:
            row = find_row(tx, caller.account, name)
            row.deny_non_fast_forwards, row.deny_deletes = rules.deny_non_fast_forwards, rules.deny_deletes
            row.modified = self._clock.now()
            event = RepositoryRulesChanged(arn, row.id, rules.deny_non_fast_forwards, rules.deny_deletes)
            self._journal.write(tx, caller, event, repository=RepositoryId(row.id))
            return self.view(row)

    def delete(self, caller: Caller, name: str) -> RepositoryView:
        """Delete a repository and destroy the key to its objects: nobody can read them again, backups included.

        Raises:
            AccessDenied: *caller* may not.
            RepositoryDoesNotExist: there is none of that name.

        Source: CodeCommit API reference, DeleteRepository.
        """
        arn = self.arn(caller.account, name)
        self._authorizer.require(caller, "codecommit:DeleteRepository", arn)
        with self._database.transaction() as tx:
            row = find_row(tx, caller.account, name)
            view = self.view(row)
            tx.execute(delete(RepositoryRow).where(RepositoryRow.id == row.id))
            self._git.delete(tx, Owner(caller.account, view.id))
            self._journal.write(tx, caller, RepositoryDeleted(arn, view.id, name), repository=view.id)
        return view

    def view(self, row: RepositoryRow) -> RepositoryView:
        """A row as it leaves the package."""
        account = AccountId(row.account)
        return RepositoryView(
            RepositoryId(row.id),
            account,
            row.name,
            self.arn(account, row.name),
            row.description,
            PushRules(row.deny_non_fast_forwards, row.deny_deletes),
            row.created,
            row.modified,
        )


def find_row(tx: Session, account: AccountId, name: str) -> RepositoryRow:
    """The row of a repository.

    Raises:
        RepositoryDoesNotExist: there is none of that name.
    """
    query = select(RepositoryRow).where(RepositoryRow.account == account, RepositoryRow.name == name)
    row = tx.execute(query).scalar_one_or_none()
    if row is None:
        raise RepositoryDoesNotExist(name)
    return row


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not name.endswith(".git") and name.strip(".") != ""
