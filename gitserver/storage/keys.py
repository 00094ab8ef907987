"""Keys that never leave their provider, and what every provider promises.

A provider holds one wrapping key for each owner, under a key id. It wraps small secrets (data keys) with them,
and gives them back only for the same key id and the same encryption context. The context is not secret: it is
bound to what is wrapped, so that a wrapped key moved to another row does not open.

Source: AWS KMS developer guide, "Encryption context".
"""

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from gitserver.core.errors import Conflict, Invalid, Unavailable

KEY_BYTES = 32
"""Every key here is for AES-256."""

_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class KeyIdInvalid(Invalid):
    """The text cannot name a key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"{key_id[:80]!r} is not a key id; a key id is 1 to 128 letters, digits, '.', '_' or '-'")


class KeyExists(Conflict):
    """A key of that id is there already."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"key {key_id} exists already")
        self.key_id = key_id


class KeyMissing(Unavailable):
    """There is no key of that id: it was destroyed, or its file is lost."""

    code = "EncryptionKeyNotFoundException"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"key {key_id} is missing; if it was not destroyed on purpose, restore the keys from a backup")
        self.key_id = key_id


class UnwrapRefused(Unavailable):
    """What was to be unwrapped was not wrapped by this key, for this context, or was changed since."""

    code = "EncryptionKeyInvalidIdException"

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"a secret wrapped by key {key_id} does not open; it is damaged, belongs to something else, "
            "or the keys are not the ones that belong to this data"
        )
        self.key_id = key_id


class KeyProvider(Protocol):
    """Where wrapping keys are kept; safe to share between threads."""

    def create(self, key_id: str) -> None:
        """Make a key; it is durable on return.

        Raises:
            KeyExists: there is one.
            KeyIdInvalid: *key_id* cannot name a key.
        """
        ...

    def exists(self, key_id: str) -> bool:
        """Whether there is such a key."""
        ...

    def key_ids(self) -> Iterator[str]:
        """The id of every key, sorted."""
        ...

    def wrap(self, key_id: str, plain: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt *plain* (at most 4,096 bytes) under the newest version of the key.

        Raises:
            KeyMissing: there is no such key.
        """
        ...

    def unwrap(self, key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt what :meth:`wrap` made, by whichever version of the key made it.

        Raises:
            KeyMissing: there is no such key.
            UnwrapRefused: another key or context, or damage.
        """
        ...

    def rotate(self, key_id: str) -> None:
        """Add a version, which wraps from now on; older versions still unwrap.

        Raises:
            KeyMissing: there is no such key.
        """
        ...

    def destroy(self, key_id: str) -> None:
        """Destroy every version of the key, for good; that there is none is fine.

        Whatever the key wrapped can never be opened again, wherever copies of it are.
        """
        ...


def check_key_id(key_id: str) -> str:
    """Give *key_id* back if it may name a key.

    Raises:
        KeyIdInvalid: it may not.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise KeyIdInvalid(key_id)
    return key_id
