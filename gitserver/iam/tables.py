"""Identity's rows."""

from typing import Self

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, declared_attr, mapped_column

from gitserver.core.ids import AccountId
from gitserver.iam.entities import (
    AccessKeyMetadata,
    Account,
    GitCredentialMetadata,
    NoSuchEntity,
    SSHKey,
    Status,
    User,
)
from gitserver.storage.columns import UtcTime
from gitserver.storage.database import Base


class AccountRow(Base):
    """One account."""

    __tablename__ = "account"
    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str]
    created: Mapped[UtcTime]

    def view(self) -> Account:
        """The account as others see it."""
        return Account(AccountId(self.id), self.name, self.created)


class UserRow(Base):
    """One user. ``name_key`` is the name in lower case: IAM's names differ in more than case."""

    __tablename__ = "iam_user"  # "user" alone is a word of SQL
    __table_args__ = (UniqueConstraint("account", "name_key"),)
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("account.id"))
    name: Mapped[str] = mapped_column(String(64))
    name_key: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(String(512))
    administrator: Mapped[bool]
    password_hash: Mapped[str | None]
    created: Mapped[UtcTime]

    @classmethod
    def find(cls, tx: Session, account: AccountId, name: str, *, lock: bool = False) -> Self:
        """The user of that name, whatever its case.

        With *lock* nobody else changes the user or counts its credentials until *tx* ends.

        Raises:
            NoSuchEntity: the account has no such user.
        """
        query = select(cls).where(cls.account == account, cls.name_key == name.lower())
        row = tx.scalar(query.with_for_update() if lock else query)
        if row is None:
            raise NoSuchEntity("user", name)
        return row

    def view(self) -> User:
        """The user as others see it."""
        return User(
            id=self.id,
            account=AccountId(self.account),
            name=self.name,
            path=self.path,
            administrator=self.administrator,
            has_password=self.password_hash is not None,
            created=self.created,
        )


class CredentialRow(Base):
    """What every long-term credential has."""

    __abstract__ = True
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    status: Mapped[str] = mapped_column(String(8))
    created: Mapped[UtcTime]

    @declared_attr
    def user_id(cls) -> Mapped[str]:  # noqa: N805 - SQLAlchemy calls it with the class
        """The one user it belongs to."""
        return mapped_column(ForeignKey("iam_user.id"), index=True)

    @property
    def state(self) -> Status:
        """The status; anything but ``Active`` proves nothing."""
        return "Active" if self.status == "Active" else "Inactive"


class SSHKeyRow(CredentialRow):
    """One SSH public key. A key belongs to one user of the whole server."""

    __tablename__ = "ssh_key"
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    key_type: Mapped[str] = mapped_column(String(64))
    blob: Mapped[bytes] = mapped_column(LargeBinary)

    def view(self, user_name: str) -> SSHKey:
        """The key as others see it."""
        return SSHKey(self.id, user_name, self.fingerprint, self.key_type, self.state, self.created)


class GitCredentialRow(CredentialRow):
    """One git credential. The password is random, so its plain SHA-256 is kept."""

    __tablename__ = "git_credential"
    user_name: Mapped[str] = mapped_column(String(200), unique=True)
    password_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    reset: Mapped[UtcTime | None]

    def view(self, iam_user: str) -> GitCredentialMetadata:
        """The credential as others see it."""
        return GitCredentialMetadata(self.id, iam_user, self.user_name, self.state, self.created, self.reset)


class AccessKeyRow(CredentialRow):
    """One access key. Its secret signs requests, so it must be readable: sealed by the vault."""

    __tablename__ = "access_key"
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)

    def view(self, user_name: str) -> AccessKeyMetadata:
        """The key as others see it."""
        return AccessKeyMetadata(self.id, user_name, self.state, self.created)
