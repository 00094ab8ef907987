"""Rows of git/: repositories as Git sees them, their refs, their packs."""

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from gitserver.storage.columns import UtcTime
from gitserver.storage.database import Base


class GitRepositoryRow(Base):
    """The serial point of one repository: every change bumps its generation first."""

    __tablename__ = "git_repository"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    account: Mapped[str] = mapped_column(String(12))
    generation: Mapped[int] = mapped_column(default=0)
    head: Mapped[bytes | None] = mapped_column(LargeBinary(1024))  # the branch HEAD points at; None: none yet


class RefRow(Base):
    """One ref. Names are bytes, as on the wire, and sort as bytes."""

    __tablename__ = "git_ref"

    repository_id: Mapped[str] = mapped_column(ForeignKey("git_repository.id"), primary_key=True)
    name: Mapped[bytes] = mapped_column(LargeBinary(1024), primary_key=True)
    oid: Mapped[bytes] = mapped_column(LargeBinary(20))
    peeled: Mapped[bytes | None] = mapped_column(LargeBinary(20))  # what an annotated tag finally points at


class PackRow(Base):
    """One pack that belongs to a repository. The blob holds the pack and, behind it, its index."""

    __tablename__ = "git_pack"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    repository_id: Mapped[str] = mapped_column(ForeignKey("git_repository.id"), index=True)
    blob_id: Mapped[str] = mapped_column(String(64), unique=True)
    generation: Mapped[int]  # the repository's when the pack was added
    objects: Mapped[int]
    pack_bytes: Mapped[int]
    created: Mapped[UtcTime]
