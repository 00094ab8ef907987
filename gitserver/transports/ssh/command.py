"""What a client asks for: one of git's three commands and a repository's name.

No shell ever sees the text. What is not exactly one of these commands with one path is refused.
"""

import re
from dataclasses import dataclass
from typing import Literal

from gitserver.core.errors import Invalid

Service = Literal["upload-pack", "receive-pack", "upload-archive"]

MAX_COMMAND_BYTES = 1024

_COMMAND = re.compile(rb"git[- ](upload-pack|receive-pack|upload-archive) (\S.*)", re.DOTALL)
_BARE = re.compile(rb"[A-Za-z0-9/._@%+=:,-]+")
_QUOTED = re.compile(rb"(?:'[^']*'|\\['!])+")  # as git and JGit quote: 'it'\''s'
_PIECE = re.compile(rb"'([^']*)'|\\(['!])")
_PATH = re.compile(r"/?v1/repos/([^/]+?)(?:\.git)?/?")

_SERVICES: dict[bytes, Service] = {
    b"upload-pack": "upload-pack",
    b"receive-pack": "receive-pack",
    b"upload-archive": "upload-archive",
}


class CommandRefused(Invalid):
    """The text is not one of git's three commands with one path."""


@dataclass(frozen=True)
class GitCommand:
    """A service of git and the repository it is asked of."""

    service: Service
    repository: str  # as the client spelled it; the service above judges it


def parse_command(text: bytes) -> GitCommand:
    """Read an exec request.

    Args:
        text: ``git-upload-pack '/v1/repos/NAME'``, or with a space for the first dash, or with a path that needs no
            quotes. The path's first slash, a trailing ``.git`` and a trailing slash are forgiven.

    Raises:
        CommandRefused: anything else.
    """
    if len(text) > MAX_COMMAND_BYTES:
        raise CommandRefused(f"a command is at most {MAX_COMMAND_BYTES} bytes long")
    match = _COMMAND.fullmatch(text)
    if match is None:
        raise CommandRefused(
            "this server runs git-upload-pack, git-receive-pack and git-upload-archive, and nothing else"
        )
    return GitCommand(_SERVICES[match[1]], _repository(_unquote(match[2])))


def _unquote(word: bytes) -> bytes:
    if _BARE.fullmatch(word):
        return word
    if _QUOTED.fullmatch(word):
        return b"".join(piece[1] if piece[2] is None else piece[2] for piece in _PIECE.finditer(word))
    raise CommandRefused("expected one path, in single quotes, after the git command")


def _repository(path: bytes) -> str:
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as reason:
        raise CommandRefused("the path is not UTF-8") from reason
    match = _PATH.fullmatch(text)
    if match is None or not text.isprintable():
        raise CommandRefused("a repository's path is /v1/repos/NAME")
    return match[1]
