"""Names that some file system takes for one of Git's own: ``.git``, ``.gitmodules``, ``.gitattributes``.

A name is dangerous if it *becomes* such a name: HFS+ ignores case and certain code points, NTFS ignores case, drops
dots and spaces at the end, has short names (``GIT~1``) and streams (``.git::$INDEX_ALLOCATION``), and Windows takes a
backslash for a separator.

Source: git-fsck(1) ``hasDotgit``; the advisories for CVE-2014-9390, CVE-2018-11235 and CVE-2019-1352.
"""

import re


def is_dotgit(name: bytes) -> bool:
    """Whether *name*, or what follows a backslash in it, is ``.git`` somewhere."""
    return _hfs(name) == ".git" or any(_NTFS_DOTGIT.match(name, at) for at in _starts(name))


def is_gitmodules(name: bytes) -> bool:
    """Whether *name*, or what follows a backslash in it, is ``.gitmodules`` somewhere."""
    return _hfs(name) == ".gitmodules" or any(_NTFS_GITMODULES.match(name, at) for at in _starts(name))


def is_gitattributes(name: bytes) -> bool:
    """Whether *name* is ``.gitattributes`` somewhere."""
    return _hfs(name) == ".gitattributes" or _NTFS_GITATTRIBUTES.match(name) is not None


_NTFS_DOTGIT = re.compile(rb"(?:\.git|git~1)[. ]*(?:\Z|[\\/:])", re.IGNORECASE)


def _ntfs_short(long_name: bytes, hashed: bytes) -> re.Pattern[bytes]:
    """NTFS's spellings of ``.`` and *long_name*.

    A short name is the first six letters and ``~1`` to ``~4``, or, once those are taken, some of the letters of
    *hashed*, ``~`` and a number, eight characters in all.
    """
    short = [re.escape(long_name[:6]) + rb"~[1-4]"]
    short += [re.escape(hashed[:letters]) + rb"~[1-9]" + rb"[0-9]" * (6 - letters) for letters in range(7)]
    return re.compile(rb"(?:\." + long_name + rb"|" + rb"|".join(short) + rb")[. ]*(?:\Z|:)", re.IGNORECASE)


_NTFS_GITMODULES = _ntfs_short(b"gitmodules", b"gi7eba")
_NTFS_GITATTRIBUTES = _ntfs_short(b"gitattributes", b"gi7d29")

_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_HFS_END = re.compile("[/\ufffe\uffff]")
_HFS_MOST_BYTES = 4096  # no file system has longer names; a longer one is read no further


def _hfs(name: bytes) -> str:
    """What HFS+ makes of *name*, up to a separator or to where it is no longer UTF-8."""
    try:
        text = name[:_HFS_MOST_BYTES].decode("utf-8")
    except UnicodeDecodeError as end:
        text = name[: end.start].decode("utf-8")
    return _HFS_IGNORED.sub("", _HFS_END.split(text, maxsplit=1)[0]).lower()


def _starts(name: bytes) -> list[int]:
    """Where *name* begins, and where something begins behind a backslash."""
    return [0, *(match.end() for match in re.finditer(rb"\\", name))]
