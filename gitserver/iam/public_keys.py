"""SSH public keys, read strictly from the one line that OpenSSH writes.

Invariants:
- A text that is not a public key *must not* be echoed: it may be a private key pasted by mistake.
- One key has one blob: an encoding other than the shortest is refused, so that a key cannot be registered twice.

Source: RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4; sshd(8), "AUTHORIZED_KEYS FILE FORMAT".
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from gitserver.core.errors import Invalid

LONGEST_KEY = 16 * 1024  # characters of the line, bytes of the blob
SMALLEST_RSA_BITS = 2048
LARGEST_RSA_BITS = 16384

_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_SHAPE = "a public key is one line like 'ssh-ed25519 AAAA… comment', the content of a file whose name ends in .pub"


class InvalidPublicKey(Invalid):
    """The text is not a public key that this server takes."""

    code = "InvalidPublicKey"


@dataclass(frozen=True)
class PublicKey:
    """A public key that was found sound."""

    type: str
    blob: bytes  # as on the wire

    @property
    def fingerprint(self) -> str:
        """What people compare keys by."""
        return fingerprint(self.blob)


def parse_public_key(line: str) -> PublicKey:
    """Read one line: type, base64 and, after a space, an optional comment, which is not kept.

    Args:
        line: at most 16 KiB; a line end is forgiven, a second line is not.

    Raises:
        InvalidPublicKey: the text is something else, of another type, weak or damaged. The text is not repeated.
    """
    if len(line) > LONGEST_KEY:
        raise InvalidPublicKey(f"the text is longer than {LONGEST_KEY} characters; {_SHAPE}")
    _refuse_private_key(line)
    words = line.strip("\r\n\t ").split(None, 2)
    if len(words) < 2 or "\n" in line.strip() or "\r" in line.strip():
        raise InvalidPublicKey(f"the text is not a public key; {_SHAPE}")
    _refuse_type(words[0])
    key = PublicKey(words[0], _decode(words[1]))
    _check(key)
    return key


def fingerprint(blob: bytes) -> str:
    """``SHA256:`` and unpadded base64, as ``ssh-keygen -l`` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def _refuse_private_key(text: str) -> None:
    if "PRIVATE KEY" in text or "PuTTY-User-Key-File" in text or "Private-Lines:" in text:
        raise InvalidPublicKey(
            "this is a private key; it was not stored, but take it as seen by others and make a new pair; " + _SHAPE
        )
    if "-----BEGIN" in text or "---- BEGIN" in text:
        raise InvalidPublicKey(f"this public key is not in OpenSSH's format; convert it with ssh-keygen -i; {_SHAPE}")


def _refuse_type(name: str) -> None:
    if name in _TYPES:
        return
    if name == "ssh-dss":
        raise InvalidPublicKey("DSA keys are too weak; make a key with ssh-keygen -t ed25519")
    if name.startswith("sk-"):
        raise InvalidPublicKey("keys kept in a security token (sk-…) are not supported yet; use ssh-keygen -t ed25519")
    if name.endswith("-cert-v01@openssh.com"):
        raise InvalidPublicKey("this is a certificate; give the public key it was made from")
    raise InvalidPublicKey(f"the line does not start with one of {', '.join(_TYPES)}; {_SHAPE}")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        # The cause would carry the text.
        raise InvalidPublicKey("the key's second word is not base64; copy the whole line of the .pub file") from None


def _check(key: PublicKey) -> None:
    if not key.blob.startswith(len(key.type).to_bytes(4, "big") + key.type.encode("ascii")):
        raise InvalidPublicKey("the key's content is of another type than its first word says")
    try:
        loaded = load_ssh_public_key(f"{key.type} ".encode() + base64.b64encode(key.blob))
    except (ValueError, NotImplementedError, UnsupportedAlgorithm):
        raise InvalidPublicKey("the key is damaged; copy the whole line of the .pub file") from None
    if isinstance(loaded, RSAPublicKey):
        if loaded.key_size < SMALLEST_RSA_BITS:
            raise InvalidPublicKey(
                f"the RSA key has {loaded.key_size} bits and needs {SMALLEST_RSA_BITS}; use ssh-keygen -t ed25519"
            )
        if loaded.key_size > LARGEST_RSA_BITS:
            raise InvalidPublicKey(f"the RSA key has {loaded.key_size} bits; {LARGEST_RSA_BITS} is the limit")
    if not isinstance(loaded, Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey):
        raise InvalidPublicKey("the key is of a type this server does not take; use ssh-keygen -t ed25519")
    canonical = loaded.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    if base64.b64decode(canonical.split()[1]) != key.blob:
        raise InvalidPublicKey("the key is written in an unusual encoding; write it again with ssh-keygen -y")
