"""The server's own keys: what clients recognise it by.

A key file *must* belong to nobody but its owner: one that others could read is refused, not repaired, since it may
already have been copied.
"""

import base64
import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from gitserver.core.errors import Unavailable

RSA_BITS = 3072

_FILES = ("ssh_host_ed25519_key", "ssh_host_rsa_key")  # in the order they are offered


class HostKeyRefused(Unavailable):
    """A host key file is missing, may be read by others, or holds no key."""


@dataclass(frozen=True)
class HostKey:
    """One private key and what the world may know of it."""

    path: Path
    private: Ed25519PrivateKey | RSAPrivateKey = field(repr=False)
    public: str  # as in known_hosts: "ssh-ed25519 AAAA…"

    @property
    def algorithm(self) -> str:
        """``ssh-ed25519`` or ``ssh-rsa``: the type of the key, not of its signatures."""
        return self.public.split(" ")[0]

    @property
    def fingerprint(self) -> str:
        """As OpenSSH shows it: ``SHA256:`` and unpadded base 64."""
        return fingerprint(base64.b64decode(self.public.split(" ")[1]))


def fingerprint(blob: bytes) -> str:
    """The fingerprint of a public key in its wire form, as ``ssh-keygen -l`` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode("ascii")


def make_host_keys(directory: Path) -> list[HostKey]:
    """Make what is missing of an Ed25519 and an RSA-3072 key, and load both.

    Args:
        directory: made with mode 0700 if it does not exist. Files are whole and 0600 from their first moment.

    Raises:
        HostKeyRefused: as :func:`load_host_keys`.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ed25519, rsa = (directory / name for name in _FILES)
    if not ed25519.exists():
        _write(ed25519, Ed25519PrivateKey.generate())
    if not rsa.exists():
        _write(rsa, generate_private_key(public_exponent=65537, key_size=RSA_BITS))
    return load_host_keys(directory)


def load_host_keys(directory: Path) -> list[HostKey]:
    """Load the keys that :func:`make_host_keys` made.

    Raises:
        HostKeyRefused: a file is missing, is not a private key without a pass phrase, has another type or size than
            it should, or its mode lets others in.
    """
    return [_load(directory / name) for name in _FILES]


def _write(path: Path, key: Ed25519PrivateKey | RSAPrivateKey) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its key is as good
            os.link(draft, path)
    finally:
        draft.unlink()
    _write_public(path, key)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_public(path: Path, key: Ed25519PrivateKey | RSAPrivateKey) -> None:
    path.with_name(path.name + ".pub").write_text(_public(key) + "\n", encoding="ascii")


def _public(key: Ed25519PrivateKey | RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def _load(path: Path) -> HostKey:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as reason:
        raise HostKeyRefused(
            f"the SSH host key {path} cannot be read ({reason.strerror}); restore it from your backup of the keys, "
            "or remove it and start again to make a new one (clients will then warn that the host changed)"
        ) from reason
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise HostKeyRefused(
                f"the SSH host key {path} has mode {mode:04o}, so others on this machine may read it; "
                f"if nobody did, run: chmod 600 {path}"
            )
        text = file.read(64 * 1024)
    try:
        key = load_ssh_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as reason:
        raise HostKeyRefused(f"{path} is not an SSH private key without a pass phrase: {reason}") from reason
    if isinstance(key, Ed25519PrivateKey) and path.name == _FILES[0]:
        return HostKey(path, key, _public(key))
    if isinstance(key, RSAPrivateKey) and key.key_size >= RSA_BITS and path.name == _FILES[1]:
        return HostKey(path, key, _public(key))
    raise HostKeyRefused(f"{path} holds a key of another kind than its name says, or an RSA key below {RSA_BITS} bits")
