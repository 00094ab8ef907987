"""What identity is made of, as other packages see it: accounts, users and their credentials."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gitserver.core.arn import Arn, user_arn
from gitserver.core.errors import Conflict, NotFound
from gitserver.core.ids import AccountId
from gitserver.core.secret import Secret

Status = Literal["Active", "Inactive"]  # an inactive credential proves nothing until it is made active again


class NoSuchEntity(NotFound):
    """The account has no entity of that name or id."""

    code = "NoSuchEntity"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.kind, self.name = kind, name


class EntityAlreadyExists(Conflict):
    """The account has an entity of that name; names that differ only in case are the same."""

    code = "EntityAlreadyExists"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is already a {kind} {name!r}; names that differ only in case count as the same")
        self.kind, self.name = kind, name


@dataclass(frozen=True)
class Account:
    """Twelve digits that own everything else."""

    id: AccountId
    name: str
    created: datetime


@dataclass(frozen=True)
class User:
    """A person or a program with long-term credentials."""

    id: str  # AIDA…; never used again, unlike the name
    account: AccountId
    name: str
    path: str  # starts and ends with '/'
    administrator: bool
    has_password: bool
    created: datetime

    @property
    def arn(self) -> Arn:
        """``arn:aws:iam::ACCOUNT:user/PATH/NAME``."""
        return user_arn(self.account, self.name, self.path)


@dataclass(frozen=True)
class SSHKey:
    """The public half of a key pair; it belongs to one user of the whole server."""

    ssh_public_key_id: str  # APKA…
    user_name: str
    fingerprint: str  # SHA256:… as ssh-keygen -l prints it
    key_type: str  # ssh-ed25519, …
    status: Status
    created: datetime


@dataclass(frozen=True)
class GitCredentialMetadata:
    """A git credential without its password, which nobody can read again."""

    id: str  # ACCA…
    iam_user: str
    user_name: str  # what git is told: alice-at-123456789012
    status: Status
    created: datetime
    reset: datetime | None  # when the password was last replaced


@dataclass(frozen=True)
class GitCredential(GitCredentialMetadata):
    """A git credential just made or reset; the only time its password is shown."""

    password: Secret


@dataclass(frozen=True)
class AccessKeyMetadata:
    """An access key without its secret."""

    access_key_id: str  # AKIA…
    user_name: str
    status: Status
    created: datetime


@dataclass(frozen=True)
class AccessKey(AccessKeyMetadata):
    """An access key just made; the only time its secret is shown."""

    secret: Secret
