"""Accounts and users."""

import re

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gitserver.core.arn import Arn, root_arn, user_arn
from gitserver.core.caller import Caller
from gitserver.core.clock import Clock
from gitserver.core.errors import Conflict, Invalid
from gitserver.core.ids import AccountId, new_account_id, new_unique_id
from gitserver.core.secret import Secret
from gitserver.iam import events
from gitserver.iam.authorize import Authorizer
from gitserver.iam.entities import Account, EntityAlreadyExists, NoSuchEntity, User
from gitserver.iam.passwords import Passwords
from gitserver.iam.tables import AccessKeyRow, AccountRow, GitCredentialRow, SSHKeyRow, UserRow
from gitserver.journal.journal import Journal
from gitserver.storage.database import Database
from gitserver.storage.vault import Owner, Vault

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_PATH = re.compile(r"/|/[\x21-\x7e]{1,510}/")
_ACCOUNT_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,50}")
_ACCOUNTS = Arn("organizations", "", "", "account/*")  # no account: the whole server


class InvalidName(Invalid):
    """The name, or the path, breaks IAM's rule. The text is not repeated: it may be anything."""

    code = "ValidationError"


class DeleteConflict(Conflict):
    """The user still has credentials."""

    code = "DeleteConflict"

    def __init__(self, name: str, left: str) -> None:
        super().__init__(f"the user {name!r} still has {left}; revoke them first")


def check_user_name(name: str) -> None:
    """Raise InvalidName unless *name* has 1 to 64 of ``A-Z a-z 0-9 _ + = , . @ -``."""
    if not _NAME.fullmatch(name):
        raise InvalidName("a user name has 1 to 64 letters, digits or any of _ + = , . @ -")


def account_owner(account: AccountId) -> Owner:
    """Whose keys seal the secrets of the account itself, such as those of its users' access keys."""
    return Owner(account, account)


class Identities:
    """Create, describe and delete accounts and users."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        journal: Journal,
        authorizer: Authorizer,
        clock: Clock,
        passwords: Passwords,
    ) -> None:
        self._db = database
        self._vault = vault
        self._journal = journal
        self._authorizer = authorizer
        self._clock = clock
        self._passwords = passwords

    def create_account(self, caller: Caller, name: str, account: AccountId | None = None) -> Account:
        """Create an account, with keys of its own and no users.

        Args:
            caller: only somebody on the server's command line may do this; the account they act for need not exist
                yet, which is how the first one is made.
            name: for people, 1 to 50 characters.
            account: its twelve digits; by default random ones.

        Raises:
            AccessDenied, InvalidName.
            EntityAlreadyExists: *account* is taken.
        """
        if not _ACCOUNT_NAME.fullmatch(name):
            raise InvalidName("an account's name has 1 to 50 characters, without control characters")
        self._authorizer.require(caller, "organizations:CreateAccount", _ACCOUNTS)
        number = account or new_account_id()
        with self._db.transaction() as tx:
            row = AccountRow(id=number, name=name, created=self._clock.now())
            _add(tx, row, EntityAlreadyExists("account", number))
            self._vault.create_owner(tx, account_owner(number))
            self._journal.write(tx, caller, events.AccountCreated(root_arn(number), name))
            return row.view()

    def list_accounts(self, caller: Caller) -> tuple[Account, ...]:
        """Every account of the server, oldest first; for the command line only.

        Raises:
            AccessDenied.
        """
        self._authorizer.require(caller, "organizations:ListAccounts", _ACCOUNTS)
        with self._db.reading() as tx:
            return tuple(row.view() for row in tx.scalars(select(AccountRow).order_by(AccountRow.created)))

    def create_user(self, caller: Caller, name: str, *, administrator: bool = False, path: str = "/") -> User:
        """Create a user without any credential.

        Args:
            caller: the user will be in their account.
            name: 1 to 64 letters, digits or ``_+=,.@-``; unique in the account whatever its case.
            administrator: may do everything in the account.
            path: starts and ends with ``/``; part of the ARN.

        Raises:
            AccessDenied, InvalidName.
            EntityAlreadyExists: the account has such a user.
            NoSuchEntity: the caller's account does not exist.
        Source: IAM API reference, CreateUser.
        """
        check_user_name(name)
        if not _PATH.fullmatch(path):
            raise InvalidName("a path starts and ends with / and has at most 512 printable ASCII characters")
        arn = user_arn(caller.account, name, path)
        self._authorizer.require(caller, "iam:CreateUser", arn)
        with self._db.transaction() as tx:
            if tx.get(AccountRow, caller.account) is None:
                raise NoSuchEntity("account", caller.account)
            row = UserRow(
                id=new_unique_id("AIDA"),
                account=caller.account,
                name=name,
                name_key=name.lower(),
                path=path,
                administrator=administrator,
                created=self._clock.now(),
            )
            _add(tx, row, EntityAlreadyExists("user", name))
            self._journal.write(tx, caller, events.UserCreated(arn, row.id, administrator))
            return row.view()

    def describe_user(self, caller: Caller, name: str) -> User:
        """One user.

        Raises:
            AccessDenied, InvalidName, NoSuchEntity.
        Source: IAM API reference, GetUser.
        """
        self._authorizer.require(caller, "iam:GetUser", self.user_arn(caller.account, name))
        with self._db.reading() as tx:
            return UserRow.find(tx, caller.account, name).view()

    def list_users(self, caller: Caller) -> tuple[User, ...]:
        """The account's users, by name.

        Raises:
            AccessDenied.
        Source: IAM API reference, ListUsers.
        """
        self._authorizer.require(caller, "iam:ListUsers", Arn("iam", "", caller.account, "user/"))
        with self._db.reading() as tx:
            users = select(UserRow).where(UserRow.account == caller.account).order_by(UserRow.name_key)
            return tuple(row.view() for row in tx.scalars(users))

    def delete_user(self, caller: Caller, name: str) -> None:
        """Delete a user who has no credentials left; the console password goes with them.

        Raises:
            AccessDenied, InvalidName, NoSuchEntity.
            DeleteConflict: the user still has keys or git credentials.
        Source: IAM API reference, DeleteUser.
        """
        arn = self.user_arn(caller.account, name)
        self._authorizer.require(caller, "iam:DeleteUser", arn)
        with self._db.transaction() as tx:
            row = UserRow.find(tx, caller.account, name, lock=True)
            if left := _credentials_of(tx, row):
                raise DeleteConflict(row.name, left)
            tx.delete(row)
            self._journal.write(tx, caller, events.UserDeleted(arn, row.id))

    def set_password(self, caller: Caller, name: str, password: Secret) -> None:
        """Give a user a console password, in place of any they had.

        Args:
            caller: who does it.
            name: the user.
            password: 12 to 128 characters; only its argon2id hash is kept.

        Raises:
            AccessDenied, InvalidName, NoSuchEntity, PasswordPolicyViolation.
        Source: IAM API reference, UpdateLoginProfile.
        """
        arn = self.user_arn(caller.account, name)
        self._authorizer.require(caller, "iam:UpdateLoginProfile", arn)
        password_hash = self._passwords.hash(password)  # slow: before the transaction
        with self._db.transaction() as tx:
            row = UserRow.find(tx, caller.account, name, lock=True)
            row.password_hash = password_hash
            self._journal.write(tx, caller, events.PasswordChanged(arn, row.id))

    def user_arn(self, account: AccountId, name: str) -> Arn:
        """The ARN to ask about: the user's own, path and spelling included, or a plain one where there is no user.

        Raises:
            InvalidName.
        """
        check_user_name(name)
        with self._db.reading() as tx:
            try:
                return UserRow.find(tx, account, name).view().arn
            except NoSuchEntity:
                return user_arn(account, name)


def _add(tx: Session, row: AccountRow | UserRow, taken: EntityAlreadyExists) -> None:
    tx.add(row)
    try:
        tx.flush()
    except IntegrityError as cause:
        raise taken from cause


def _credentials_of(tx: Session, user: UserRow) -> str:
    left = []
    for table, noun in ((SSHKeyRow, "SSH keys"), (GitCredentialRow, "git credentials"), (AccessKeyRow, "access keys")):
        count = tx.scalar(select(func.count()).select_from(table).where(table.user_id == user.id))
        if count:
            left.append(f"{count} {noun}")
    return " and ".join(left)
