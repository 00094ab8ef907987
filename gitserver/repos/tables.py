"""Rows of repos/: repositories as their users name them."""

from sqlalchemy import String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gitserver.storage.columns import UtcTime
from gitserver.storage.database import Base


class RepositoryRow(Base):
    """One repository. What Git keeps of it are rows of git/ under the same id."""

    __tablename__ = "repository"
    __table_args__ = (UniqueConstraint("account", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # survives a rename
    account: Mapped[str] = mapped_column(String(12))
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str | None] = mapped_column(String(1000))
    deny_non_fast_forwards: Mapped[bool] = mapped_column(default=False)
    deny_deletes: Mapped[bool] = mapped_column(default=False)
    created: Mapped[UtcTime]
    modified: Mapped[UtcTime]
