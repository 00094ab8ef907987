"""What ``.gitmodules`` and ``.gitattributes`` may not say.

Source: git-fsck(1): gitmodulesName, gitmodulesUrl, gitmodulesPath, gitmodulesUpdate, gitattributesLineLength; the
advisories for CVE-2018-11235, CVE-2018-17456, CVE-2020-5260 and CVE-2022-23521.
"""

from io import BytesIO
from urllib.parse import unquote_to_bytes

from dulwich.config import ConfigFile

from gitserver.git.fsck import Finding
from gitserver.git.objects import Kind

_ATTRIBUTES_LINE_BYTES = 2048
_ATTRIBUTES_FILE_BYTES = 100 * 1024 * 1024


def check_gitmodules(kind: Kind, data: bytes | None) -> Finding | None:
    """The rule that a ``.gitmodules`` breaks, or None. *data* is None for one too large to read."""
    if kind is not Kind.BLOB:
        return Finding("gitmodulesBlob", "non-blob found at .gitmodules")
    if data is None:
        return Finding("gitmodulesLarge", ".gitmodules too large to parse")
    try:
        config = ConfigFile.from_file(BytesIO(data))
    except ValueError:
        return None  # gitmodulesParse is only information to Git, and no Git will read the file either
    for section in config.sections():
        if section[0].lower() == b"submodule" and len(section) == 2:
            finding = _check_submodule(section[1], dict(config.items(section)))
            if finding:
                return finding
    return None


def check_gitattributes(kind: Kind, data: bytes | None) -> Finding | None:
    """The rule that a ``.gitattributes`` breaks, or None. *data* is None for one too large to read."""
    if kind is not Kind.BLOB:
        return Finding("gitattributesBlob", "non-blob found at .gitattributes")
    if data is None or len(data) > _ATTRIBUTES_FILE_BYTES:
        return Finding("gitattributesLarge", ".gitattributes too large to parse")
    if any(len(line) >= _ATTRIBUTES_LINE_BYTES for line in data.split(b"\n")):
        return Finding("gitattributesLineLength", ".gitattributes has too long lines to parse")
    return None


def _check_submodule(name: bytes, settings: dict[bytes, bytes]) -> Finding | None:
    if not name or b".." in name.replace(b"\\", b"/").split(b"/"):
        return Finding("gitmodulesName", f"disallowed submodule name: {name.decode(errors='replace')}")
    for key, value in settings.items():
        if key == b"url" and not _is_safe_url(value):
            return Finding("gitmodulesUrl", f"disallowed submodule url: {value.decode(errors='replace')}")
        if key == b"path" and value.startswith(b"-"):
            return Finding("gitmodulesPath", f"disallowed submodule path: {value.decode(errors='replace')}")
        if key == b"update" and value.startswith(b"!"):
            return Finding("gitmodulesUpdate", f"disallowed submodule update setting: {value.decode(errors='replace')}")
    return None


def _is_safe_url(url: bytes) -> bool:
    if url.startswith(b"-"):
        return False
    relative = url.startswith((b"./", b"../", b".\\", b"..\\"))
    if relative:
        # the newline would reach a credential helper, and a path that climbs out can name a scheme of its own
        rest = url.replace(b"\\", b"/")
        climbed = 0
        while rest.startswith((b"./", b"../")):
            climbed += rest.startswith(b"../")
            rest = rest.partition(b"/")[2]
        return b"\n" not in unquote_to_bytes(url) and not (climbed and rest.startswith((b":", b"/")))
    remote = url.partition(b"::")[2] if url.startswith((b"http::", b"https::", b"ftp::", b"ftps::")) else url
    if not remote.startswith((b"http://", b"https://", b"ftp://", b"ftps://")):
        return True
    host = remote.partition(b"://")[2].partition(b"/")[0]
    return b"\n" not in unquote_to_bytes(remote) and bool(host.rpartition(b"@")[2])
