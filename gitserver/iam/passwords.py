"""Console passwords: how they are made, kept and checked.

Argon2id with the second recommended option of RFC 9106 section 4: 64 MiB, three passes, four lanes. One check costs
about a tenth of a second and 64 MiB, so a door that takes passwords must bound how many run at once.
"""

import base64
import secrets
import string
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from argon2.profiles import RFC_9106_LOW_MEMORY

from gitserver.core.errors import Invalid
from gitserver.core.secret import Secret

SHORTEST = 12  # characters
LONGEST = 128  # AWS's limit

_ALPHABET = string.ascii_letters + string.digits


class PasswordPolicyViolation(Invalid):
    """The password is too short or too long."""

    code = "PasswordPolicyViolation"

    def __init__(self) -> None:
        super().__init__(f"a password has {SHORTEST} to {LONGEST} characters")


@dataclass(frozen=True)
class Verdict:
    """Whether a password was right, and what to store instead of the old hash, if anything."""

    right: bool
    new_hash: str | None = None  # the parameters have changed since the stored hash was made


class Passwords:
    """Makes and checks hashes. Safe to use from many threads."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Use RFC 9106's parameters, or another *hasher*'s."""
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._dummy = _nobodys_hash(self._hasher)

    def hash(self, password: Secret) -> str:
        """The text to store for *password*.

        Raises:
            PasswordPolicyViolation: it is shorter than 12 or longer than 128 characters.
        """
        text = password.reveal()
        if not SHORTEST <= len(text) <= LONGEST:
            raise PasswordPolicyViolation
        return self._hasher.hash(_bytes(text))

    def verify(self, stored: str | None, password: Secret) -> Verdict:
        """Check *password* against *stored*.

        With ``None`` (no such user, or one without a password) a hash nobody knows the password of is checked
        instead, so that the answer takes as long.
        """
        text = password.reveal()[: LONGEST + 1]  # anything longer is wrong anyway
        try:
            self._hasher.verify(stored or self._dummy, _bytes(text))
        except VerifyMismatchError:
            return Verdict(right=False)
        if stored is None:
            return Verdict(right=False)
        stale = self._hasher.check_needs_rehash(stored)
        return Verdict(right=True, new_hash=self._hasher.hash(_bytes(text)) if stale else None)


def generate_password() -> Secret:
    """24 random letters and digits: 142 bits."""
    return Secret("".join(secrets.choice(_ALPHABET) for _ in range(24)))


def _nobodys_hash(hasher: PasswordHasher) -> str:
    """A hash that costs as much to check as a real one, and that no password gives; making it costs nothing."""
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${_unpadded(hasher.salt_len)}${_unpadded(hasher.hash_len)}"


def _unpadded(length: int) -> str:
    return base64.b64encode(secrets.token_bytes(length)).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
