"""Backups of a running server, and data directories made from them. The keys are apart: see key_copies.py.

The database is copied first, then the blobs that the copy names, still sealed: never the other way round, or a blob
pushed in between would be missing. Where a blob goes in between (a repository was deleted), the copying begins again.

A backup is a directory:

    manifest.json     what belongs to it, with sizes and SHA-256; written last, so that a backup without it is none
    gitserver.db      the database, as of one moment
    gitserver.toml, tls/, ssh/    the settings and the public halves of the keys
    blobs/            the sealed blobs
"""

import importlib.metadata
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gitserver import config as configuration
from gitserver.app import Services
from gitserver.config import FILE_NAME, Config, Unusable
from gitserver.core.errors import Conflict, Invalid
from gitserver.operations import locks
from gitserver.operations.files import Sum, copy_blob, copy_file, sum_file
from gitserver.operations.installation import NotEmpty, claim, finish, sync_directory, write_private
from gitserver.storage.blobs import BlobMissing
from gitserver.storage.database import Database, NotBackedUpHere, sqlite_url
from gitserver.storage.local import LocalBlobStore
from gitserver.storage.vault import Vault

MANIFEST = "manifest.json"
DATABASE = "gitserver.db"
FORMAT = 1
TRIES = 5  # of the whole copying, where blobs go meanwhile

_PUBLIC = (FILE_NAME, "tls/ca.pem", "tls/server.pem", "ssh/known_hosts")
_BLOBS = "blobs"

Progress = Callable[[str], None]


class NotABackup(Invalid):
    """The directory is no backup, or is not one any more."""

    code = "NotABackup"

    def __init__(self, directory: Path, why: str) -> None:
        super().__init__(f"{directory} cannot be restored: {why}; choose another backup")


class InsideItself(Invalid):
    """The backup would lie where the server keeps, and sweeps, what is backed up."""

    code = "InsideItself"

    def __init__(self, target: Path, own: Path) -> None:
        super().__init__(f"{target} lies in the server's own directory {own}; choose a place outside it")


class TooBusy(Conflict):
    """Repositories went faster than they were copied."""

    def __init__(self) -> None:
        super().__init__("repositories were deleted while they were copied, several times; try again")


@dataclass(frozen=True)
class Manifest:
    """What belongs to a backup."""

    account: str
    files: dict[str, Sum]  # by relative path
    blobs: dict[str, Sum]  # by name


def backup(config: Config, services: Services, target: Path, progress: Progress) -> Manifest:
    """Copy a server, running or not, to *target*.

    Args:
        config: the server's settings.
        services: the server's services.
        target: absent or empty.
        progress: told what is being done.

    Raises:
        NotEmpty: there is something in *target*.
        InsideItself: *target* lies in a directory of the server.
        NotBackedUpHere: the database is PostgreSQL: its own tools copy it.
        TooBusy: see there.
    """
    if not config.on_sqlite:
        raise NotBackedUpHere
    target = target.absolute()
    for own in (config.data, config.blobs, config.key_directory):
        if target.resolve().is_relative_to(own.resolve()):
            raise InsideItself(target, own)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NotEmpty(target, "is not empty and was left as it is", "choose an empty or new directory")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {name: copy_file(config.data / name, target / name) for name in _PUBLIC if (config.data / name).exists()}
    blobs: dict[str, Sum] = {}
    for _ in range(TRIES):
        try:
            _copy_once(services, target, blobs, progress)
        except BlobMissing as missing:
            if _still_named(services, missing.name):
                raise
            progress("A repository was deleted meanwhile; copying again what changed")
            continue
        files[DATABASE] = sum_file(target / DATABASE)
        manifest = Manifest(config.server.account, files, blobs)
        write_private(target / MANIFEST, _written(manifest, services))
        return manifest
    raise TooBusy


def restore(source: Path, data: Path, environ: dict[str, str], progress: Progress) -> Config:
    """Make *data* a data directory again. The keys must be put back too before it serves.

    Args:
        source: a directory that :func:`backup` made.
        data: absent or empty, or left unfinished by an earlier call.
        environ: for ``GITSERVER_SECTION_KEY``.
        progress: told what is being done.

    Raises:
        NotABackup: *source* is no backup, or a file of it is missing or changed.
        NotEmpty: there is something in *data*.
    """
    source, data = source.absolute(), data.absolute()
    manifest = _read_manifest(source)
    config = configuration.combine(data, (source / FILE_NAME).read_bytes(), environ)
    if not config.on_sqlite or config.database.url:
        raise Unusable(
            f"the settings in {source} name a database of their own; set GITSERVER_DATABASE_URL= (empty) to restore "
            f"into {data / DATABASE}"
        )
    claim(data)
    with locks.holding(data):
        progress(f"Restoring {len(manifest.files)} files")
        for name, wanted in manifest.files.items():
            _expect(source, name, copy_file(source / name, data / name), wanted)
        _restore_blobs(source, config, manifest, progress)
        for directory in (data, data / "tls", data / "ssh"):
            if directory.is_dir():
                sync_directory(directory)
    finish(data)
    return config


def _copy_once(services: Services, target: Path, blobs: dict[str, Sum], progress: Progress) -> None:
    """Take a new snapshot; copy the blobs it names and forget those it does not."""
    progress("Copying the database")
    (target / DATABASE).unlink(missing_ok=True)
    services.database.backup_to(target / DATABASE)
    copies = LocalBlobStore(target / _BLOBS)
    with _names(services, target / DATABASE) as names:
        wanted = sorted(names)
    for name in blobs.keys() - set(wanted):
        copies.delete(name)
        del blobs[name]
    missing = [name for name in wanted if name not in blobs]
    for number, name in enumerate(missing, 1):
        blobs[name] = copy_blob(name, services.blobs, copies)
        if number % 100 == 0 or number == len(missing):
            progress(f"Copied {number} of {len(missing)} blobs")


@contextmanager
def _names(services: Services, snapshot: Path) -> Iterator[Iterator[str]]:
    database = Database(sqlite_url(snapshot))
    try:
        with database.reading() as tx:
            catalogue = Vault(database, services.blobs, services.keyring, services.clock).catalogue(tx)
            yield (blob.name for blob in catalogue)
    finally:
        database.close()


def _still_named(services: Services, name: str) -> bool:
    identity = name.rsplit("/", 1)[-1]
    with services.database.reading() as tx:
        try:
            services.vault.find(tx, identity)
        except BlobMissing:
            return False
    return True


def _written(manifest: Manifest, services: Services) -> bytes:
    facts = {
        "format": FORMAT,
        "gitserver": importlib.metadata.version("gitserver"),
        "made": services.clock.now().isoformat(timespec="seconds"),
        "account": manifest.account,
        "files": {name: [one.size_bytes, one.sha256] for name, one in manifest.files.items()},
        "blobs": {name: [one.size_bytes, one.sha256] for name, one in manifest.blobs.items()},
    }
    return json.dumps(facts, indent=1).encode() + b"\n"


def _read_manifest(source: Path) -> Manifest:
    try:
        _expect_file(source, MANIFEST)
        facts = json.loads((source / MANIFEST).read_bytes())
        if facts["format"] != FORMAT:
            raise NotABackup(source, f"its format {facts['format']!r} is not known to this version of gitserver")
        files, blobs = _sums(facts["files"]), _sums(facts["blobs"])
        account = str(facts["account"])
    except FileNotFoundError as missing:
        raise NotABackup(source, f"it has no {MANIFEST}, so it was never finished") from missing
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as malformed:
        raise NotABackup(source, f"its {MANIFEST} is damaged") from malformed
    strangers = [name for name in files if name not in {*_PUBLIC, DATABASE}]
    if strangers or DATABASE not in files or FILE_NAME not in files:
        raise NotABackup(source, f"its {MANIFEST} does not list what a backup has")
    for name in files:
        _expect_file(source, name)
    return Manifest(account, files, blobs)


def _expect_file(source: Path, name: str) -> None:
    """Refuse a link, which may lead anywhere, and a pipe, which may never end; what is missing is told elsewhere."""
    path = source / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise NotABackup(source, f"its {name} is not a regular file")


def _sums(found: dict[str, Any]) -> dict[str, Sum]:
    return {str(PurePosixPath(name)): Sum(int(size), str(digest)) for name, (size, digest) in found.items()}


def _restore_blobs(source: Path, config: Config, manifest: Manifest, progress: Progress) -> None:
    copies, store = LocalBlobStore(source / _BLOBS), LocalBlobStore(config.blobs)
    for number, (name, wanted) in enumerate(manifest.blobs.items(), 1):
        try:
            found = copy_blob(name, copies, store)
        except BlobMissing as missing:
            raise NotABackup(source, f"its blob {name} is missing") from missing
        _expect(source, name, found, wanted)
        if number % 100 == 0 or number == len(manifest.blobs):
            progress(f"Restored {number} of {len(manifest.blobs)} blobs")


def _expect(source: Path, name: str, found: Sum, wanted: Sum) -> None:
    if found != wanted:
        raise NotABackup(source, f"its {name} is not what was backed up")
