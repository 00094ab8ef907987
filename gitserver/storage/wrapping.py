"""How one key wraps another: AES-256-GCM with the encryption context bound in.

Wrapped: the byte 1, the wrapping key's version (4 bytes, big-endian), a 12-byte random nonce, and the ciphertext
with its 16-byte tag. The additional data is ``gitserver wrap 1``, a line feed, and the JSON of the key id, the
version and the context, with sorted names and no spaces, in UTF-8. `docs/sealed-format.md` tells it again.

Source: NIST SP 800-38D (GCM).
"""

import json
import secrets
import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gitserver.storage.keys import KeyMissing, UnwrapRefused

PLAIN_BYTES = 4096
"""The most that is wrapped at once, as at AWS KMS."""

_FORMAT = 1
_HEAD = struct.Struct(">BI12s")
_TAG_BYTES = 16


def wrap(versions: Mapping[int, bytes], key_id: str, plain: bytes, context: Mapping[str, str]) -> bytes:
    """Encrypt *plain* under the newest of *versions*."""
    if len(plain) > PLAIN_BYTES:
        raise ValueError(f"a key wraps at most {PLAIN_BYTES} bytes")
    version, nonce = max(versions), secrets.token_bytes(12)
    sealed = AESGCM(versions[version]).encrypt(nonce, plain, _bound(key_id, version, context))
    return _HEAD.pack(_FORMAT, version, nonce) + sealed


def unwrap(versions: Mapping[int, bytes], key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    """Decrypt what :func:`wrap` made.

    Raises:
        KeyMissing: there are no versions at all.
        UnwrapRefused: another key or context, or damage.
    """
    if not versions:
        raise KeyMissing(key_id)
    if not _HEAD.size + _TAG_BYTES <= len(wrapped) <= _HEAD.size + PLAIN_BYTES + _TAG_BYTES:
        raise UnwrapRefused(key_id)
    form, version, nonce = _HEAD.unpack_from(wrapped)
    key = versions.get(version)
    if form != _FORMAT or key is None:
        raise UnwrapRefused(key_id)
    try:
        return AESGCM(key).decrypt(nonce, wrapped[_HEAD.size :], _bound(key_id, version, context))
    except InvalidTag as refused:
        raise UnwrapRefused(key_id) from refused


def wrapped_by(wrapped: bytes) -> int:
    """The version of the key that wrapped it; 0 if it is too short to tell."""
    return int(_HEAD.unpack_from(wrapped)[1]) if len(wrapped) >= _HEAD.size else 0


def _bound(key_id: str, version: int, context: Mapping[str, str]) -> bytes:
    facts = {"context": dict(context), "key_id": key_id, "version": version}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return b"gitserver wrap %d\n" % _FORMAT + text.encode()
