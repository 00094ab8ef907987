"""Who is asking, and how they proved it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gitserver.core.arn import Arn, root_arn
from gitserver.core.ids import AccountId, RequestId, new_request_id

Method = Literal["ssh-key", "git-credential", "password", "local"]


@dataclass(frozen=True)
class Proof:
    """How a caller proved who they are."""

    method: Method
    credential_id: str  # APKA…, ACCA…, a user's AIDA…, or the local user name
    mfa: datetime | None = None  # when the second factor was given; None: it was not


@dataclass(frozen=True)
class Caller:
    """An authenticated principal, for the length of one request or connection."""

    account: AccountId
    principal: Arn
    principal_id: str  # AIDA… for a user, the account id for the account itself
    name: str  # what people call them
    proof: Proof
    address: str  # where they came from; "local" for the command line
    request_id: RequestId


def local_caller(account: AccountId, login: str) -> Caller:
    """Whoever can read the data directory: the account itself, on the command line.

    Args:
        account: the account acted on.
        login: the operating system's user name, for the journal.
    """
    return Caller(
        account=account,
        principal=root_arn(account),
        principal_id=account,
        name="root",
        proof=Proof("local", login),
        address="local",
        request_id=new_request_id(),
    )
