"""Who uses a data directory: advisory locks that vanish with the processes that hold them.

One file, ``DATA/lock``. A full server holds it alone; servers of one role (``serve --only``) share it among them.
Commands that must not meet a server (``restore``, ``init``) hold it alone. The kernel drops a lock when the last
process that inherited it ends, so a killed server leaves none behind.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gitserver.config import Unusable

FILE_NAME = "lock"
_PATIENCE_S = 1.5  # a server killed a moment ago may still be ending
_TRY_EVERY_S = 0.02


class InUse(Unusable):
    """Another server holds the data directory."""

    code = "InUse"

    def __init__(self, data: Path, shared: bool) -> None:
        who = "a full server" if shared else "another gitserver"
        super().__init__(
            f"{who} is running on {data}; stop it first, or give this one a data directory of its own with --data"
        )


@contextlib.contextmanager
def holding(data: Path, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock of *data*; the value is its descriptor, for children to inherit.

    Args:
        data: the data directory.
        shared: let others hold it too, if they share it.

    Raises:
        InUse: somebody else holds it.
    """
    descriptor = os.open(data / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, data, shared)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data: Path, shared: bool) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            if time.monotonic() > deadline:
                raise InUse(data, shared) from taken
            time.sleep(_TRY_EVERY_S)
        else:
            return
