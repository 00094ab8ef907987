"""Names that some file system takes for one of Git's own: ``.git``, ``.gitmodules``, ``.gitattributes``.

A name is dangerous if it *becomes* such a name: HFS+ ignores case and certain code points, NTFS ignores case, drops
dots and spaces at the end, has short names (``GIT~1``) and streams (``.git::$INDEX_ALLOCATION``), and Windows takes a
backslash for a separator.

Source: git-fsck(1) ``hasDotgit``; the advisories for CVE-2014-9390, CVE-2018-11235 and CVE-2019-1352.
"""

import re

_HFS_IGNORED = re.compile(
    "[\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u206a\u206b\u206c\u206d\u206e\u206f\ufeff]"
)


def is_dotgit(name: bytes) -> bool:
    """Whether *name*, or what follows a backslash in it, is ``.git`` somewhere."""
    return _hfs(name) == ".git" or any(_NTFS_DOTGIT.match(part) for part in _after_backslashes(name))


def is_gitmodules(name: bytes) -> bool:
    """Whether *name* is ``.gitmodules`` somewhere."""
    return _is_dot(name, "gitmodules", _NTFS_GITMODULES)


def is_gitattributes(name: bytes) -> bool:
    """Whether *name* is ``.gitattributes`` somewhere."""
    return _is_dot(name, "gitattributes", _NTFS_GITATTRIBUTES)


_NTFS_DOTGIT = re.compile(rb"(?:\.git|git~1)[. ]*(?:$|[\\/:])", re.IGNORECASE)


def _ntfs_short(long_name: bytes, hashed: bytes) -> re.Pattern[bytes]:
    """NTFS's spellings of ``.`` and *long_name*.

    A short name is the first six letters and ``~1`` to ``~4``, or, once those are taken, some of the letters of
    *hashed*, ``~`` and a number, eight characters in all.
    """
    short = [re.escape(long_name[:6]) + rb"~[1-4]"]
    short += [re.escape(hashed[:letters]) + rb"~[1-9]" + rb"[0-9]" * (6 - letters) for letters in range(7)]
    return re.compile(rb"(?:\." + long_name + rb"|" + rb"|".join(short) + rb")[. ]*(?:$|:)", re.IGNORECASE)


_NTFS_GITMODULES = _ntfs_short(b"gitmodules", b"gi7eba")
_NTFS_GITATTRIBUTES = _ntfs_short(b"gitattributes", b"gi7d29")


def _is_dot(name: bytes, word: str, ntfs: re.Pattern[bytes]) -> bool:
    return _hfs(name) == "." + word or any(ntfs.match(part) for part in _after_backslashes(name))


def _hfs(name: bytes) -> str:
    return _HFS_IGNORED.sub("", name.decode("utf-8", "replace")).lower()


def _after_backslashes(name: bytes) -> list[bytes]:
    parts = name.split(b"\\")
    return [b"\\".join(parts[at:]) for at in range(len(parts))]
