"""Keys in a directory of this machine, wrapped by a master key.

    master.key      the master key, every version that is in use
    keyring.json    how to recognise the right master key
    owners/ID.key   one owner's wrapping key, every version, each wrapped by a version of the master key

A directory holds what every blob can be opened with: it must be mode 0700, its files 0600, and it should be
on another disk than the data, or in a backup of its own. Every change is one file replaced at once, in an
order that leaves the keyring whole wherever the process dies.

Source: NIST SP 800-57 part 1 (key states, destruction); NIST SP 800-38D (GCM).
"""

import base64
import fcntl
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from gitserver.core.errors import Unavailable
from gitserver.storage import wrapping
from gitserver.storage.blobs import DiskFull
from gitserver.storage.files import NO_ROOM, create_file, make_directory, replace_file, wipe_file
from gitserver.storage.keys import KEY_BYTES, KeyExists, KeyMissing, UnwrapRefused, check_key_id

MASTER_FILE = "master.key"
_CHECK_FILE = "keyring.json"
_OWNERS = "owners"
_SUFFIX = ".key"
_FORMAT = 1
_MASTER_ID = "master"
_ATTEMPTS = 5  # at reading a file that is being replaced
_MOST_BYTES = 1 << 20  # of one key file

Versions = dict[int, bytes]


class KeyringUnusable(Unavailable):
    """The key directory is missing, open to others, or not the one that belongs to this data."""

    def __init__(self, what: str) -> None:
        super().__init__(what)


class FileKeyring:
    """A KeyProvider in a directory; safe to share between threads and processes. Changes wait for each other."""

    def __init__(self, directory: Path) -> None:
        """Open a keyring that :meth:`create_at` made.

        Raises:
            KeyringUnusable: it is missing, others may read it, or the master key is missing or wrong. The
                sentence says what to do.
        """
        self._directory = directory
        self._owners = directory / _OWNERS
        self._master = self._read_master()

    @classmethod
    def create_at(cls, directory: Path) -> "FileKeyring":
        """Make a keyring with a new master key, or open the one that is there.

        An interrupted call is completed by the next.

        Raises:
            KeyringUnusable: what is there is not a keyring of ours.
        """
        owners = directory / _OWNERS
        with _in_sentences(directory):
            make_directory(owners)
            in_use = (directory / _CHECK_FILE).exists() or any(owners.iterdir())
            if not (directory / MASTER_FILE).exists():
                if in_use:
                    raise _missing_master(directory)
                create_file(directory / MASTER_FILE, _written_master({1: secrets.token_bytes(KEY_BYTES)}))
            if not in_use:
                create_file(directory / _CHECK_FILE, _written_checks(_read_versions(directory / MASTER_FILE)))
        return cls(directory)

    def create(self, key_id: str) -> None:
        """See KeyProvider."""
        path = self._path(key_id)
        with self._changing():
            try:
                create_file(path, self._written_owner(key_id, {1: secrets.token_bytes(KEY_BYTES)}))
            except FileExistsError as taken:
                raise KeyExists(key_id) from taken

    def exists(self, key_id: str) -> bool:
        """See KeyProvider."""
        return self._path(key_id).exists()

    def key_ids(self) -> Iterator[str]:
        """See KeyProvider."""
        names = [entry.name for entry in os.scandir(self._owners) if entry.name.endswith(_SUFFIX)]
        return iter(sorted(name.removesuffix(_SUFFIX) for name in names if not name.startswith(".")))

    def wrap(self, key_id: str, plain: bytes, context: Mapping[str, str]) -> bytes:
        """See KeyProvider."""
        return wrapping.wrap(self._read_owner(key_id), key_id, plain, context)

    def unwrap(self, key_id: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See KeyProvider."""
        return wrapping.unwrap(self._read_owner(key_id), key_id, wrapped, context)

    def rotate(self, key_id: str) -> None:
        """See KeyProvider."""
        with self._changing():
            versions = self._read_owner(key_id)
            versions[max(versions) + 1] = secrets.token_bytes(KEY_BYTES)
            replace_file(self._path(key_id), self._written_owner(key_id, versions))

    def destroy(self, key_id: str) -> None:
        """See KeyProvider. The file is overwritten before it is removed; backups of the keyring are not."""
        path = self._path(key_id)
        with self._changing():
            wipe_file(path)

    def rotate_master(self) -> int:
        """Replace the master key, and wrap every owner's key with the new one; the number of its version.

        Wherever this is interrupted the keyring opens, and the next call completes it. Servers that have the
        keyring open notice by themselves.
        """
        with self._changing():
            self._wipe_leftovers()
            versions = _read_versions(self._directory / MASTER_FILE)
            if len(versions) == 1:
                versions[max(versions) + 1] = secrets.token_bytes(KEY_BYTES)
                replace_file(self._directory / MASTER_FILE, _written_master(versions))
            replace_file(self._directory / _CHECK_FILE, _written_checks(versions))
            self._master = versions
            newest = max(versions)
            for key_id in self.key_ids():
                replace_file(self._path(key_id), self._written_owner(key_id, self._read_owner(key_id)))
            self._master = {newest: versions[newest]}
            replace_file(self._directory / _CHECK_FILE, _written_checks(self._master))
            replace_file(self._directory / MASTER_FILE, _written_master(self._master))
            return newest

    def problems(self) -> list[str]:
        """Open every owner's key; one sentence for each that does not open. For ``doctor``."""
        found = []
        for key_id in self.key_ids():
            try:
                self._read_owner(key_id)
            except Unavailable as problem:
                found.append(str(problem))
        return found

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep every other thread and process from changing the keyring, and know the newest master key."""
        with _in_sentences(self._directory):
            lock = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._master = self._read_master()
                yield
            finally:
                os.close(lock)

    def _wipe_leftovers(self) -> None:
        """Remove what a change that died left behind; nobody else is changing anything now."""
        for folder in (self._directory, self._owners):
            for path in folder.glob(".*"):
                wipe_file(path)

    def _path(self, key_id: str) -> Path:
        return self._owners / (check_key_id(key_id) + _SUFFIX)

    def _read_master(self) -> Versions:
        _require_private(self._directory, 0o700)
        _require_private(self._owners, 0o700)
        versions = _read_versions(self._directory / MASTER_FILE)
        try:
            checks = _read_json(self._directory / _CHECK_FILE).get("master")
        except FileNotFoundError as missing:
            raise KeyringUnusable(
                f"{self._directory / _CHECK_FILE} is missing; put it back from the backup of the keys"
            ) from missing
        if not isinstance(checks, dict) or not checks:
            raise _damaged(self._directory / _CHECK_FILE)
        for version, check in checks.items():
            key = versions.get(int(version)) if str(version).isdecimal() else None
            if key is None or not hmac.compare_digest(_check(key), str(check)):
                raise KeyringUnusable(
                    f"{self._directory / MASTER_FILE} is not the master key of this keyring; "
                    "put the right one back from the backup of the keys"
                )
        return versions

    def _read_owner(self, key_id: str) -> Versions:
        path = self._path(key_id)
        try:
            found = _read_json(path)
        except FileNotFoundError as missing:
            raise KeyMissing(key_id) from missing
        wrapped_keys = found.get("keys")
        if not isinstance(wrapped_keys, dict) or not wrapped_keys or found.get("key_id") != key_id:
            raise _damaged(path)
        versions = {}
        for version, text in wrapped_keys.items():
            wrapped = _decoded(path, text)
            context = {"key_id": key_id, "version": str(version)}
            versions[int(version)] = self._unwrap_with_master(wrapped, context, key_id)
        return versions

    def _unwrap_with_master(self, wrapped: bytes, context: Mapping[str, str], key_id: str) -> bytes:
        """Unwrap an owner's key. Another process may have replaced the master key since we read it."""
        if wrapping.wrapped_by(wrapped) not in self._master:
            self._master = self._read_master()
        try:
            return wrapping.unwrap(self._master, _MASTER_ID, wrapped, context)
        except UnwrapRefused as refused:
            raise UnwrapRefused(key_id) from refused

    def _written_owner(self, key_id: str, versions: Versions) -> bytes:
        wrapped_keys = {}
        for version, key in versions.items():
            context = {"key_id": key_id, "version": str(version)}
            wrapped_keys[str(version)] = _encoded(wrapping.wrap(self._master, _MASTER_ID, key, context))
        return _written({"format": _FORMAT, "key_id": key_id, "keys": wrapped_keys})


@contextmanager
def _in_sentences(directory: Path) -> Iterator[None]:
    """Turn what the operating system says into what may be shown."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull from error
        raise KeyringUnusable(f"the key directory {directory} cannot be changed: {error.strerror}") from error


def _written_master(versions: Versions) -> bytes:
    return _written({"format": _FORMAT, "keys": {str(number): _encoded(key) for number, key in versions.items()}})


def _written_checks(versions: Versions) -> bytes:
    return _written({"format": _FORMAT, "master": {str(number): _check(key) for number, key in versions.items()}})


def _check(key: bytes) -> str:
    """What tells a master key from another without telling the key."""
    return hmac.new(key, b"gitserver master key check 1", sha256).hexdigest()[:32]


def _read_versions(path: Path) -> Versions:
    try:
        keys = _read_json(path).get("keys")
    except FileNotFoundError as missing:
        raise _missing_master(path.parent) from missing
    if not isinstance(keys, dict) or not keys or not all(str(number).isdecimal() for number in keys):
        raise _damaged(path)
    versions = {int(number): _decoded(path, text) for number, text in keys.items()}
    if any(len(key) != KEY_BYTES for key in versions.values()):
        raise _damaged(path)
    return versions


def _read_json(path: Path) -> dict[str, Any]:
    """A key file's content, once its mode has been found good.

    Raises:
        FileNotFoundError: there is none.
        KeyringUnusable: others may read it, or it is not one of ours.
    """
    for _ in range(_ATTEMPTS):
        found, replaced = _read_once(path)
        if found is not None:
            return found
        if not replaced:
            break
    raise _damaged(path)


def _read_once(path: Path) -> tuple[dict[str, Any] | None, bool]:
    """The content, None where it makes no sense; and whether the file was replaced while it was read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as refused:
        raise KeyringUnusable(
            f"{path} cannot be read ({refused.strerror}); it must be a file of the user who runs the server"
        ) from refused
    with os.fdopen(file, "rb") as opened:
        _require_mode(path, os.fstat(file), 0o600)
        text = opened.read(_MOST_BYTES)
        replaced = os.fstat(file).st_nlink == 0
    try:
        found = json.loads(text)
    except ValueError:
        return None, replaced
    return (found if isinstance(found, dict) and found.get("format") == _FORMAT else None), replaced


def _require_private(path: Path, mode: int) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as missing:
        raise KeyringUnusable(
            f"the key directory {path} is missing; restore it from the backup of the keys, or say where it is (--keys)"
        ) from missing
    _require_mode(path, status, mode)


def _require_mode(path: Path, status: os.stat_result, mode: int) -> None:
    found = stat.S_IMODE(status.st_mode)
    if found & ~mode:
        raise KeyringUnusable(f"{path} may be used by others (mode {found:04o}); run: chmod {mode:04o} {path}")
    if status.st_uid != os.geteuid():
        raise KeyringUnusable(f"{path} belongs to another user; give it to the user who runs the server (chown)")


def _missing_master(directory: Path) -> KeyringUnusable:
    return KeyringUnusable(
        f"the master key {directory / MASTER_FILE} is missing; put it back from the backup of the keys, "
        "since nothing that was stored can be opened without it"
    )


def _damaged(path: Path) -> KeyringUnusable:
    return KeyringUnusable(f"{path} is damaged or from another version; put it back from the backup of the keys")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(path: Path, text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError as malformed:
        raise _damaged(path) from malformed


def _written(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1).encode() + b"\n"
