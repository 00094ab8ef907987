"""Column types that mean the same on SQLite and on PostgreSQL."""

from datetime import UTC, datetime
from typing import Annotated

from sqlalchemy import BigInteger, DateTime, Dialect, Integer
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import TypeDecorator


class UtcTimeColumn(TypeDecorator[datetime]):
    """An aware moment, kept in UTC to the microsecond, in an order that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time: a bug that would otherwise show once a year, at a change of clocks."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"a stored time must be aware, and {value!r} is not")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the zone back, which SQLite does not keep and PostgreSQL renders in its session's zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


LARGE_INTEGER = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits on both. SQLite numbers rows by itself only where the column is spelled INTEGER."""

UtcTime = Annotated[datetime, mapped_column(UtcTimeColumn())]
"""For ``Mapped[UtcTime]``: an aware datetime in UTC."""

RowNumber = Annotated[int, mapped_column(LARGE_INTEGER, primary_key=True, autoincrement=True)]
"""For ``Mapped[RowNumber]``: a primary key that the database counts up."""
