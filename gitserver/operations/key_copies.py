"""Copies of the key directory: one file that opens everything, to be kept apart from the backups of the data."""

import io
import os
import tarfile
from pathlib import Path, PurePosixPath

from gitserver.config import Config
from gitserver.core.errors import Invalid
from gitserver.operations.files import new_private_file
from gitserver.operations.guard import MASTER_KEY
from gitserver.operations.installation import claim, finish, sync_directory

_MOST_BYTES = 1 << 20  # of one key file
_MOST_FILES = 5_000_000


class NotAKeyCopy(Invalid):
    """The file was not made by ``keys backup``."""

    code = "NotAKeyCopy"

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is not a copy of keys: {why}; give the file that `gitserver keys backup` made")


def copy_keys(config: Config, target: Path) -> Path:
    """Write every key into one tar file, mode 0600.

    Args:
        config: the settings.
        target: a file that does not exist yet (nor need its directory), or a directory to make it in.

    Returns:
        The file.

    Raises:
        FileExistsError: there is such a file.
    """
    file = target / f"{config.data.name}-keys.tar" if target.is_dir() else target
    file.absolute().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with new_private_file(file) as opened:
        with tarfile.open(fileobj=opened, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in _key_files(config.key_directory):
                _add(archive, path, path.relative_to(config.key_directory))
        opened.flush()
        os.fsync(opened.fileno())
    sync_directory(file.absolute().parent)
    return file


def restore_keys(config: Config, file: Path) -> None:
    """Put the keys of a copy into the key directory, which must be absent, empty or unfinished.

    Raises:
        NotAKeyCopy: *file* is no such copy.
        NotEmpty: there is something in the key directory.
    """
    aside = config.key_directory.with_name(config.key_directory.name + ".old")
    try:
        with tarfile.open(file, mode="r:") as archive:
            members = _members(file, archive)
            claim(config.key_directory, instead=f"move it aside first: mv {config.key_directory} {aside}")
            for member in members:
                _extract(archive, member, config.key_directory)
    except tarfile.TarError as malformed:
        raise NotAKeyCopy(file, str(malformed)) from malformed
    finish(config.key_directory)


def _key_files(directory: Path) -> list[Path]:
    return sorted(
        path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".")
    )  # drafts and marks


def _add(archive: tarfile.TarFile, path: Path, name: Path) -> None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return  # a key destroyed meanwhile; it must not be copied
    member = tarfile.TarInfo(name.as_posix())
    member.size, member.mode = len(data), 0o600
    archive.addfile(member, io.BytesIO(data))


def _members(file: Path, archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members, once every one has been found harmless."""
    members = []
    for member in archive:
        path = PurePosixPath(member.name)
        if not member.isreg() or path.is_absolute() or ".." in path.parts or member.size > _MOST_BYTES:
            raise NotAKeyCopy(file, f"it holds {member.name!r}")
        members.append(member)
        if len(members) > _MOST_FILES:
            raise NotAKeyCopy(file, "it holds too many files")
    if MASTER_KEY not in {member.name for member in members}:
        raise NotAKeyCopy(file, "it holds no master key")
    return members


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    opened = archive.extractfile(member)
    if opened is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    path = directory / member.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with new_private_file(path) as copy:
        copy.write(opened.read())
        copy.flush()
        os.fsync(copy.fileno())
    sync_directory(path.parent)
