"""What must be so before anything opens the data directory: it is ours, complete, and closed to others.

Modes are refused, not repaired: whoever could read a key may have read it, and the operator should know.
"""

import stat
from pathlib import Path

from gitserver.config import FILE_NAME, Config, NotADataDirectory, Unusable

MARKER = ".being-made"  # in a data and a key directory whose making is not finished
MASTER_KEY = "master.key"


class OpenToOthers(Unusable):
    """A directory or key has a mode that lets others in."""

    code = "OpenToOthers"

    def __init__(self, path: Path, found: int, wanted: int) -> None:
        super().__init__(f"{path} has mode {found:04o} and must have {wanted:04o}; run: chmod {wanted:o} {path}")


class KeyMissing(Unusable):
    """A private key is not where it should be."""

    code = "KeyMissing"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the key {path} is missing, and without it nothing stored can be opened; bring it back from your key "
            f"backup with: gitserver keys restore FILE, or say where the keys are with GITSERVER_KEYS_DIRECTORY"
        )


class BeingMade(Unusable):
    """`init` or `restore` was stopped before it had finished."""

    code = "BeingMade"

    def __init__(self, data: Path) -> None:
        super().__init__(
            f"{data} was never finished: init or restore was stopped in the middle, and nothing was served from it; "
            f"run the same command again"
        )


def check(config: Config) -> None:
    """Refuse a data directory that is unfinished, open to others, or without its master key.

    A finished data directory's keys are in use: a mark that a killed ``init`` left on them goes, so that no later
    ``init`` clears them.

    Raises:
        BeingMade, OpenToOthers, KeyMissing, NotADataDirectory.
    """
    for problem in problems(config):
        raise problem
    (config.key_directory / MARKER).unlink(missing_ok=True)


def problems(config: Config) -> list[Unusable]:
    """Everything :func:`check` would refuse, most important first."""
    if not (config.data / FILE_NAME).exists():
        return [NotADataDirectory(config.data)]
    if (config.data / MARKER).exists():
        return [BeingMade(config.data)]
    master = config.key_directory / MASTER_KEY
    if not master.exists():
        return [KeyMissing(master)]
    wanted = [(config.data, 0o700), (config.key_directory, 0o700), (master, 0o600)]
    if config.private_key.exists():
        wanted.append((config.private_key, 0o600))
    return [OpenToOthers(path, mode(path), bits) for path, bits in wanted if mode(path) & ~bits]


def mode(path: Path) -> int:
    """The permission bits of *path*."""
    return stat.S_IMODE(path.stat().st_mode)
