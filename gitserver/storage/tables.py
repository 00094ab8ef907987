"""The rows of storage: which blobs there are, and the wrapped keys that open them."""

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from gitserver.storage.columns import UtcTime
from gitserver.storage.database import Base

ACTIVE = "active"
"""Seals what is new. An owner has one such key."""

RETIRED = "retired"
"""Opens what it sealed, seals nothing new."""

SHREDDED = "shredded"
"""Wiped here; the owner's wrapping key is about to be destroyed at the provider."""


class DataKeyRow(Base):
    """One data key, wrapped by its owner's key at the provider."""

    __tablename__ = "data_key"
    __table_args__ = (Index("data_key_owner", "account", "owner", "state"), Index("data_key_state", "state"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # 16 random bytes in hexadecimal
    account: Mapped[str] = mapped_column(String(12))
    owner: Mapped[str] = mapped_column(String(128))
    key_id: Mapped[str] = mapped_column(String(128))  # the wrapping key's name at the provider
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[UtcTime]
    state: Mapped[str] = mapped_column(String(16))


class BlobRow(Base):
    """One blob that something points to. Its name in the store is ``owner/kind/id``."""

    __tablename__ = "blob"
    __table_args__ = (Index("blob_owner", "account", "owner"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)  # 16 random bytes in hexadecimal
    account: Mapped[str] = mapped_column(String(12))
    owner: Mapped[str] = mapped_column(String(128))
    kind: Mapped[str] = mapped_column(String(32))
    data_key: Mapped[str] = mapped_column(String(32))
    sealed_bytes: Mapped[int]
    plain_bytes: Mapped[int]
    created: Mapped[UtcTime]
