"""Long-term credentials of users: SSH keys, git credentials, access keys."""

import hashlib
import itertools
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gitserver.core.arn import Arn
from gitserver.core.caller import Caller
from gitserver.core.clock import Clock
from gitserver.core.errors import Conflict, TooMuch
from gitserver.core.ids import new_unique_id
from gitserver.core.secret import Secret
from gitserver.iam import events
from gitserver.iam.authorize import Authorizer
from gitserver.iam.entities import (
    AccessKey,
    AccessKeyMetadata,
    GitCredential,
    GitCredentialMetadata,
    NoSuchEntity,
    SSHKey,
    Status,
)
from gitserver.iam.identities import Identities, account_owner
from gitserver.iam.public_keys import parse_public_key
from gitserver.iam.tables import AccessKeyRow, CredentialRow, GitCredentialRow, SSHKeyRow, UserRow
from gitserver.journal.event import Event
from gitserver.journal.journal import Journal
from gitserver.storage.database import Database
from gitserver.storage.vault import Vault

SSH_KEYS = 5  # for each user, as AWS has it
GIT_CREDENTIALS = 2
ACCESS_KEYS = 2

_ALPHABET = string.ascii_letters + string.digits  # nothing that a shell or a URL reads as something else
_PASSWORD_LENGTH = 44  # 261 bits; always this long, so that six digits may follow it one day
_SECRET_LENGTH = 40  # 238 bits; AWS's length

Row = TypeVar("Row", bound=CredentialRow)
View = TypeVar("View")


class LimitExceeded(TooMuch):
    """The user has as many credentials of that kind as one may have."""

    code = "LimitExceeded"

    def __init__(self, user_name: str, noun: str, limit: int) -> None:
        super().__init__(f"the user {user_name!r} already has {limit} {noun}; revoke one first")
        self.limit = limit


class DuplicateSSHPublicKey(Conflict):
    """The key already belongs to a user: this one or another."""

    code = "DuplicateSSHPublicKey"

    def __init__(self, fingerprint: str) -> None:
        super().__init__(f"the key {fingerprint} already belongs to a user of this server; a key has one owner")
        self.fingerprint = fingerprint


class UserNameTaken(Conflict):
    """Another user's credential took the generated user name at the same moment."""

    code = "ConcurrentModification"

    def __init__(self) -> None:
        super().__init__("the generated user name was taken at the same moment; try again")


def hash_git_password(password: Secret) -> bytes:
    """SHA-256: enough for a password of 261 random bits, which nobody chose and nobody can guess."""
    return hashlib.sha256(password.reveal().encode("utf-8", "surrogatepass")).digest()


def access_key_purpose(access_key_id: str) -> str:
    """What the vault is told the secret of an access key is for; it opens for nothing else."""
    return f"access-key:{access_key_id}"


class Credentials:
    """Make, list, stop and revoke what users prove themselves with.

    Every method asks about the user's ARN and raises AccessDenied, InvalidName or NoSuchEntity. Revoking takes effect
    at the next authentication; an inactive credential can be made active again, a revoked one is gone.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        journal: Journal,
        authorizer: Authorizer,
        clock: Clock,
        identities: Identities,
    ) -> None:
        self._db = database
        self._vault = vault
        self._journal = journal
        self._authorizer = authorizer
        self._clock = clock
        self._identities = identities

    def add_ssh_key(self, caller: Caller, user_name: str, public_key: str) -> SSHKey:
        """Give a user an SSH public key.

        Args:
            caller: who does it.
            user_name: whose key it is.
            public_key: one line as in a ``.pub`` file; its comment is not kept.

        Raises:
            InvalidPublicKey: not a key this server takes; the text is never repeated.
            DuplicateSSHPublicKey: some user has it, active or not.
            LimitExceeded: the user has five.
        Source: IAM API reference, UploadSSHPublicKey.
        """
        arn = self._ask(caller, "iam:UploadSSHPublicKey", user_name)
        key = parse_public_key(public_key)
        with self._db.transaction() as tx:
            user = UserRow.find(tx, caller.account, user_name, lock=True)
            if tx.scalar(select(SSHKeyRow.id).where(SSHKeyRow.fingerprint == key.fingerprint)) is not None:
                raise DuplicateSSHPublicKey(key.fingerprint)
            _check_limit(tx, user, _SSH_KEY)
            row = SSHKeyRow(
                id=new_unique_id("APKA"),
                user_id=user.id,
                fingerprint=key.fingerprint,
                key_type=key.type,
                blob=key.blob,
                status="Active",
                created=self._clock.now(),
            )
            tx.add(row)
            try:
                tx.flush()
            except IntegrityError as taken:
                raise DuplicateSSHPublicKey(key.fingerprint) from taken
            self._journal.write(tx, caller, events.SSHKeyAdded(arn, row.id, row.fingerprint))
            return row.view(user.name)

    def list_ssh_keys(self, caller: Caller, user_name: str) -> tuple[SSHKey, ...]:
        """A user's SSH keys, oldest first. Source: IAM API reference, ListSSHPublicKeys."""
        return self._list(caller, user_name, "iam:ListSSHPublicKeys", SSHKeyRow, SSHKeyRow.view)

    def set_ssh_key_status(self, caller: Caller, user_name: str, ssh_public_key_id: str, status: Status) -> None:
        """Make a key active or inactive. Source: IAM API reference, UpdateSSHPublicKey."""
        self._set_status(caller, user_name, ssh_public_key_id, status, _SSH_KEY)

    def revoke_ssh_key(self, caller: Caller, user_name: str, ssh_public_key_id: str) -> None:
        """Take a key away for good. Source: IAM API reference, DeleteSSHPublicKey."""

        def told(arn: Arn, row: SSHKeyRow) -> Event:
            return events.SSHKeyRevoked(arn, row.id, row.fingerprint)

        self._revoke(caller, user_name, ssh_public_key_id, "iam:DeleteSSHPublicKey", _SSH_KEY, told)

    def create_git_credential(self, caller: Caller, user_name: str) -> GitCredential:
        """Make a user name and a password for git over HTTPS; the password is shown this once.

        The first is called ``alice-at-123456789012``, the next ``alice+1-at-123456789012``.

        Raises:
            LimitExceeded: the user has two.
        Source: IAM API reference, CreateServiceSpecificCredential.
        """
        arn = self._ask(caller, "iam:CreateServiceSpecificCredential", user_name)
        password = _random_text(_PASSWORD_LENGTH)
        with self._db.transaction() as tx:
            user = UserRow.find(tx, caller.account, user_name, lock=True)
            _check_limit(tx, user, _GIT_CREDENTIAL)
            row = GitCredentialRow(
                id=new_unique_id("ACCA"),
                user_id=user.id,
                user_name=_free_user_name(tx, user),
                password_sha256=hash_git_password(password),
                status="Active",
                created=self._clock.now(),
            )
            tx.add(row)
            try:
                tx.flush()
            except IntegrityError:
                raise UserNameTaken from None  # the cause would show the password's hash
            self._journal.write(tx, caller, events.GitCredentialCreated(arn, row.id, row.user_name))
            return _with_password(row, user, password)

    def list_git_credentials(self, caller: Caller, user_name: str) -> tuple[GitCredentialMetadata, ...]:
        """A user's git credentials, oldest first. Source: IAM API reference, ListServiceSpecificCredentials."""
        action = "iam:ListServiceSpecificCredentials"
        return self._list(caller, user_name, action, GitCredentialRow, GitCredentialRow.view)

    def reset_git_credential(self, caller: Caller, user_name: str, git_credential_id: str) -> GitCredential:
        """Replace the password; the old one is wrong from now on.

        Source: IAM API reference, ResetServiceSpecificCredential.
        """
        arn = self._ask(caller, "iam:ResetServiceSpecificCredential", user_name)
        password = _random_text(_PASSWORD_LENGTH)
        with self._db.transaction() as tx:
            user = UserRow.find(tx, caller.account, user_name, lock=True)
            row = _find(tx, user, _GIT_CREDENTIAL, git_credential_id)
            row.password_sha256 = hash_git_password(password)
            row.reset = self._clock.now()
            self._journal.write(tx, caller, events.GitCredentialReset(arn, row.id))
            return _with_password(row, user, password)

    def set_git_credential_status(self, caller: Caller, user_name: str, git_credential_id: str, status: Status) -> None:
        """Make a credential active or inactive. Source: IAM API reference, UpdateServiceSpecificCredential."""
        self._set_status(caller, user_name, git_credential_id, status, _GIT_CREDENTIAL)

    def revoke_git_credential(self, caller: Caller, user_name: str, git_credential_id: str) -> None:
        """Take a credential away for good. Source: IAM API reference, DeleteServiceSpecificCredential."""

        def told(arn: Arn, row: GitCredentialRow) -> Event:
            return events.GitCredentialRevoked(arn, row.id, row.user_name)

        action = "iam:DeleteServiceSpecificCredential"
        self._revoke(caller, user_name, git_credential_id, action, _GIT_CREDENTIAL, told)

    def create_access_key(self, caller: Caller, user_name: str) -> AccessKey:
        """Make an access key; its secret is shown this once and kept sealed.

        Raises:
            LimitExceeded: the user has two.
        Source: IAM API reference, CreateAccessKey.
        """
        arn = self._ask(caller, "iam:CreateAccessKey", user_name)
        with self._db.reading() as tx:
            UserRow.find(tx, caller.account, user_name)  # before the vault is asked for keys it may not have
        access_key_id = new_unique_id("AKIA")
        secret = _random_text(_SECRET_LENGTH)
        owner = account_owner(caller.account)
        sealed = self._vault.seal_value(owner, access_key_purpose(access_key_id), secret.reveal().encode("ascii"))
        with self._db.transaction() as tx:
            user = UserRow.find(tx, caller.account, user_name, lock=True)
            _check_limit(tx, user, _ACCESS_KEY)
            row = AccessKeyRow(
                id=access_key_id,
                user_id=user.id,
                sealed_secret=sealed,
                status="Active",
                created=self._clock.now(),
            )
            tx.add(row)
            tx.flush()
            self._journal.write(tx, caller, events.AccessKeyCreated(arn, row.id))
            return AccessKey(row.id, user.name, row.state, row.created, secret)

    def list_access_keys(self, caller: Caller, user_name: str) -> tuple[AccessKeyMetadata, ...]:
        """A user's access keys, oldest first. Source: IAM API reference, ListAccessKeys."""
        return self._list(caller, user_name, "iam:ListAccessKeys", AccessKeyRow, AccessKeyRow.view)

    def set_access_key_status(self, caller: Caller, user_name: str, access_key_id: str, status: Status) -> None:
        """Make a key active or inactive. Source: IAM API reference, UpdateAccessKey."""
        self._set_status(caller, user_name, access_key_id, status, _ACCESS_KEY)

    def revoke_access_key(self, caller: Caller, user_name: str, access_key_id: str) -> None:
        """Take a key away for good. Source: IAM API reference, DeleteAccessKey."""

        def told(arn: Arn, row: AccessKeyRow) -> Event:
            return events.AccessKeyRevoked(arn, row.id)

        self._revoke(caller, user_name, access_key_id, "iam:DeleteAccessKey", _ACCESS_KEY, told)

    def _ask(self, caller: Caller, action: str, user_name: str) -> Arn:
        """The user's ARN, after asking whether *caller* may do *action* to it."""
        arn = self._identities.user_arn(caller.account, user_name)
        self._authorizer.require(caller, action, arn)
        return arn

    def _list(
        self, caller: Caller, user_name: str, action: str, table: type[Row], view: Callable[[Row, str], View]
    ) -> tuple[View, ...]:
        self._ask(caller, action, user_name)
        with self._db.reading() as tx:
            user = UserRow.find(tx, caller.account, user_name)
            rows = tx.scalars(select(table).where(table.user_id == user.id).order_by(table.created, table.id))
            return tuple(view(row, user.name) for row in rows)

    def _set_status(
        self, caller: Caller, user_name: str, credential_id: str, status: Status, kind: "_Kind[Row]"
    ) -> None:
        arn = self._ask(caller, kind.update, user_name)
        with self._db.transaction() as tx:
            user = UserRow.find(tx, caller.account, user_name, lock=True)
            row = _find(tx, user, kind, credential_id)
            row.status = status
            self._journal.write(tx, caller, kind.status_changed(arn, row.id, status))

    def _revoke(
        self,
        caller: Caller,
        user_name: str,
        credential_id: str,
        action: str,
        kind: "_Kind[Row]",
        told: Callable[[Arn, Row], Event],
    ) -> None:
        arn = self._ask(caller, action, user_name)
        with self._db.transaction() as tx:
            user = UserRow.find(tx, caller.account, user_name, lock=True)
            row = _find(tx, user, kind, credential_id)
            tx.delete(row)
            self._journal.write(tx, caller, told(arn, row))


@dataclass(frozen=True)
class _Kind(Generic[Row]):
    """What the three kinds of credential differ in."""

    table: type[Row]
    noun: str
    limit: int  # for each user
    update: str  # the action that changes the status
    status_changed: Callable[[Arn, str, str], Event]


_SSH_KEY = _Kind(SSHKeyRow, "SSH key", SSH_KEYS, "iam:UpdateSSHPublicKey", events.SSHKeyStatusChanged)
_GIT_CREDENTIAL = _Kind(
    GitCredentialRow,
    "git credential",
    GIT_CREDENTIALS,
    "iam:UpdateServiceSpecificCredential",
    events.GitCredentialStatusChanged,
)
_ACCESS_KEY = _Kind(AccessKeyRow, "access key", ACCESS_KEYS, "iam:UpdateAccessKey", events.AccessKeyStatusChanged)


def _check_limit(tx: Session, user: UserRow, kind: _Kind[Row]) -> None:
    count = tx.scalar(select(func.count()).select_from(kind.table).where(kind.table.user_id == user.id)) or 0
    if count >= kind.limit:
        raise LimitExceeded(user.name, kind.noun + "s", kind.limit)


def _find(tx: Session, user: UserRow, kind: _Kind[Row], credential_id: str) -> Row:
    row = tx.scalar(select(kind.table).where(kind.table.id == credential_id, kind.table.user_id == user.id))
    if row is None:
        raise NoSuchEntity(kind.noun, credential_id)
    return row


def _free_user_name(tx: Session, user: UserRow) -> str:
    for number in itertools.count():
        name = f"{user.name}{f'+{number}' if number else ''}-at-{user.account}"
        if tx.scalar(select(GitCredentialRow.id).where(GitCredentialRow.user_name == name)) is None:
            return name
    raise AssertionError("counting never ends")


def _with_password(row: GitCredentialRow, user: UserRow, password: Secret) -> GitCredential:
    return GitCredential(row.id, user.name, row.user_name, row.state, row.created, row.reset, password)


def _random_text(length: int) -> Secret:
    return Secret("".join(secrets.choice(_ALPHABET) for _ in range(length)))
