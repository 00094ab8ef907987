"""Identifiers: how they are spelled and how new ones are made."""

import base64
import re
import secrets
from typing import NewType

from gitserver.core.errors import Invalid

AccountId = NewType("AccountId", str)  # twelve decimal digits
RepositoryId = NewType("RepositoryId", str)  # opaque; survives a rename
RequestId = NewType("RequestId", str)  # one for each request, on every answer and journal entry

_ACCOUNT = re.compile(r"[0-9]{12}")


class InvalidAccountId(Invalid):
    """An account id is twelve decimal digits."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not an account id; an account id is twelve digits, like 123456789012")


def account_id(text: str) -> AccountId:
    """Check *text* and give it its type.

    Raises:
        InvalidAccountId: *text* is not twelve decimal digits.
    """
    if not _ACCOUNT.fullmatch(text):
        raise InvalidAccountId(text)
    return AccountId(text)


def new_account_id() -> AccountId:
    """A random account id that does not start with zero."""
    return AccountId(str(secrets.randbelow(9 * 10**11) + 10**11))


def new_repository_id() -> RepositoryId:
    """A random repository id, spelled like a UUID as CodeCommit's are."""
    digits = secrets.token_hex(16)
    return RepositoryId("-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])))


def new_request_id() -> RequestId:
    """A random request id: 32 hexadecimal digits."""
    return RequestId(secrets.token_hex(16))


def new_unique_id(prefix: str) -> str:
    """An AWS unique id: a four-letter prefix and 16 base-32 characters (80 random bits).

    Source: IAM user guide, "Understanding unique ID prefixes": ``AIDA`` is a user, ``AKIA`` an access key,
    ``APKA`` a public key, ``ACCA`` a service-specific credential.
    """
    return prefix + base64.b32encode(secrets.token_bytes(10)).decode("ascii")
