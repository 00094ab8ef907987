"""Which names a ref may have.

Source: git-check-ref-format(1); gitrevisions(7) for names that would be taken for something else; CodeCommit quotas
for branch names.
"""

import re

BRANCHES = b"refs/heads/"
RESERVED = (b"refs/pull/", b"refs/internal/")
HIDDEN = (b"refs/internal/",)

_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_HEX = re.compile(rb"[0-9a-fA-F]{40}")


def is_hidden(name: bytes) -> bool:
    """Whether clients never see this ref."""
    return name.startswith(HIDDEN)


def is_valid(name: bytes) -> bool:
    """Whether ``git check-ref-format`` takes *name*, and it lies under ``refs/`` with two more levels at least."""
    parts = name.split(b"/")
    return (
        len(parts) >= 3
        and parts[0] == b"refs"
        and not _FORBIDDEN.search(name)
        and not name.endswith((b"/", b"."))
        and all(part and not part.startswith(b".") and not part.endswith(b".lock") for part in parts)
    )


def refusal(name: bytes, *, ref_bytes: int, branch_bytes: int) -> str | None:
    """Why a push may not write *name*, in Git's words where it has them; None if it may.

    Args:
        name: the whole ref name.
        ref_bytes: the longest name taken.
        branch_bytes: the longest branch name taken, without ``refs/heads/``.
    """
    if not is_valid(name) or len(name) > ref_bytes or name == b"refs/stash" or not _is_utf8(name):
        return "funny refname"
    if name.startswith(RESERVED):
        return "reserved refname"
    if not name.startswith(BRANCHES):
        return None
    branch = name.removeprefix(BRANCHES)
    odd = _HEX.fullmatch(branch) or branch.startswith(b"-") or branch == b"HEAD" or len(branch) > branch_bytes
    return "funny refname" if odd else None


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
