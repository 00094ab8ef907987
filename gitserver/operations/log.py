"""Where log lines go: standard error, at one level."""

import logging

_QUIET = ("paramiko", "alembic", "dulwich")  # they tell of every packet and step


def log_to_stderr(level: str) -> None:
    """Send log lines to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s",
        force=True,
    )
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
