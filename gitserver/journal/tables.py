"""The journal's rows."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from gitserver.journal.entry import Entry
from gitserver.storage.columns import UtcTime
from gitserver.storage.database import Base


class JournalRow(Base):
    """One entry. Rows are added, never changed."""

    __tablename__ = "journal"
    __table_args__ = (
        Index("journal_by_account", "account", "id"),
        Index("journal_by_repository", "repository_id", "sequence"),
        Index("journal_by_time", "at"),
        {"sqlite_autoincrement": True},  # an id is never given twice, even when the newest rows are pruned
    )
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Mapped[UtcTime]
    event: Mapped[str]
    account: Mapped[str | None]
    principal: Mapped[str | None]
    principal_id: Mapped[str | None]
    method: Mapped[str | None]
    credential_id: Mapped[str | None]
    mfa: Mapped[UtcTime | None]
    address: Mapped[str]
    request_id: Mapped[str | None]
    resource: Mapped[str | None]
    repository_id: Mapped[str | None]
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    detail: Mapped[str]

    def view(self) -> Entry:
        """The entry as others see it."""
        at: datetime = self.at
        return Entry(
            id=self.id,
            at=at,
            event=self.event,
            account=self.account,
            principal=self.principal,
            principal_id=self.principal_id,
            method=self.method,
            credential_id=self.credential_id,
            mfa=self.mfa,
            address=self.address,
            request_id=self.request_id,
            resource=self.resource,
            repository_id=self.repository_id,
            sequence=self.sequence,
            detail=self.detail,
        )
