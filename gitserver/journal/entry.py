"""One line of the journal, as auditors and events read it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Entry:
    """Who did what, from where, when. Entries about nobody in particular have ``None`` for the caller."""

    id: int  # grows; on PostgreSQL two entries written at once may become visible out of order
    at: datetime  # aware, UTC
    event: str  # the event's name
    account: str | None
    principal: str | None  # ARN
    principal_id: str | None  # AIDA… for a user, the account id for the account itself
    method: str | None  # how the caller proved who they are
    credential_id: str | None  # APKA…, ACCA…, AKIA…, or the local user name
    mfa: datetime | None  # when the second factor was given
    address: str
    request_id: str | None
    resource: str | None  # ARN
    repository_id: str | None
    sequence: int | None  # the repository's own order, where the event has one
    detail: str  # the event's facts: a JSON object
