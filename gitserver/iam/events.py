"""What identity tells the journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gitserver.journal.event import Event


@dataclass(frozen=True)
class AccessDenied(Event):
    """A caller asked for something they may not do."""

    name: ClassVar[str] = "AccessDenied"
    action: str
    because: str
    context: Mapping[str, str]


@dataclass(frozen=True)
class AccountCreated(Event):
    """A new account."""

    name: ClassVar[str] = "AccountCreated"
    account_name: str


@dataclass(frozen=True)
class UserCreated(Event):
    """A new user."""

    name: ClassVar[str] = "UserCreated"
    user_id: str
    administrator: bool


@dataclass(frozen=True)
class UserDeleted(Event):
    """A user is gone; the unique id is never used again."""

    name: ClassVar[str] = "UserDeleted"
    user_id: str


@dataclass(frozen=True)
class PasswordChanged(Event):
    """A user's console password was set."""

    name: ClassVar[str] = "PasswordChanged"
    user_id: str


@dataclass(frozen=True)
class SSHKeyAdded(Event):
    """A user got an SSH public key."""

    name: ClassVar[str] = "SSHKeyAdded"
    ssh_public_key_id: str
    fingerprint: str


@dataclass(frozen=True)
class SSHKeyStatusChanged(Event):
    """An SSH public key was made active or inactive."""

    name: ClassVar[str] = "SSHKeyStatusChanged"
    ssh_public_key_id: str
    status: str


@dataclass(frozen=True)
class SSHKeyRevoked(Event):
    """An SSH public key was taken away for good."""

    name: ClassVar[str] = "SSHKeyRevoked"
    ssh_public_key_id: str
    fingerprint: str


@dataclass(frozen=True)
class GitCredentialCreated(Event):
    """A user got a git credential."""

    name: ClassVar[str] = "GitCredentialCreated"
    git_credential_id: str
    git_user_name: str


@dataclass(frozen=True)
class GitCredentialReset(Event):
    """A git credential got a new password."""

    name: ClassVar[str] = "GitCredentialReset"
    git_credential_id: str


@dataclass(frozen=True)
class GitCredentialStatusChanged(Event):
    """A git credential was made active or inactive."""

    name: ClassVar[str] = "GitCredentialStatusChanged"
    git_credential_id: str
    status: str


@dataclass(frozen=True)
class GitCredentialRevoked(Event):
    """A git credential was taken away for good."""

    name: ClassVar[str] = "GitCredentialRevoked"
    git_credential_id: str
    git_user_name: str


@dataclass(frozen=True)
class AccessKeyCreated(Event):
    """A user got an access key."""

    name: ClassVar[str] = "AccessKeyCreated"
    access_key_id: str


@dataclass(frozen=True)
class AccessKeyStatusChanged(Event):
    """An access key was made active or inactive."""

    name: ClassVar[str] = "AccessKeyStatusChanged"
    access_key_id: str
    status: str


@dataclass(frozen=True)
class AccessKeyRevoked(Event):
    """An access key was taken away for good."""

    name: ClassVar[str] = "AccessKeyRevoked"
    access_key_id: str
