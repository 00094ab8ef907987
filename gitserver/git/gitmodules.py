"""What ``.gitmodules`` and ``.gitattributes`` may not say.

A file is judged setting by setting up to the first line that Git could not read: what stands before it counts, and
every occurrence of a setting does.

Source: git-fsck(1): gitmodulesName, gitmodulesUrl, gitmodulesPath, gitmodulesUpdate, gitattributesLineLength;
git-config(1), "Syntax"; the advisories for CVE-2018-11235, CVE-2018-17456, CVE-2020-5260, CVE-2020-11008 and
CVE-2022-23521.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from gitserver.git.fsck import Finding
from gitserver.git.objects import Kind

MAX_GITMODULES_BYTES = 4 << 20  # thousands of submodules
_ATTRIBUTES_LINE_BYTES = 2048
_ATTRIBUTES_FILE_BYTES = 100 * 1024 * 1024


def check_gitmodules(kind: Kind | None, data: bytes | None) -> Finding | None:
    """The rule that a ``.gitmodules`` breaks, or None.

    *kind* is None where there is no such object, *data* where it is too large to read.
    """
    if kind is None:
        return Finding("gitmodulesMissing", "unable to read .gitmodules blob")
    if kind is not Kind.BLOB:
        return Finding("gitmodulesBlob", "non-blob found at .gitmodules")
    if data is None or len(data) > MAX_GITMODULES_BYTES:
        return Finding("gitmodulesLarge", ".gitmodules too large to parse")
    for text in _readings(data):
        for variable, value in _settings(text):
            finding = _check_setting(variable, value)
            if finding:
                return finding
    return None  # a file that cannot be read to its end is gitmodulesParse, only information to Git


def check_gitattributes(kind: Kind | None, data: bytes | None) -> Finding | None:
    """The rule that a ``.gitattributes`` breaks, or None.

    *kind* is None where there is no such object, *data* where it is too large to read.
    """
    if kind is None:
        return Finding("gitattributesMissing", "unable to read .gitattributes blob")
    if kind is not Kind.BLOB:
        return Finding("gitattributesBlob", "non-blob found at .gitattributes")
    if data is None or len(data) > _ATTRIBUTES_FILE_BYTES:
        return Finding("gitattributesLarge", ".gitattributes too large to parse")
    text = data.partition(b"\0")[0]  # Git reads no further
    if any(len(line) >= _ATTRIBUTES_LINE_BYTES for line in text.split(b"\n")):
        return Finding("gitattributesLineLength", ".gitattributes has too long lines to parse")
    return None


# --- the syntax of Git's configuration files ----------------------------------------------------------------------

_BLANK = re.compile(rb"[ \t\r\n]*(?:[#;][^\n]*(?:\n[ \t\r\n]*|$))*")
_HEADER = re.compile(rb'\[([A-Za-z0-9.-]*)(?:\]|[ \t\r]+"((?:[^"\\\n]|\\[^\n])*+)"\])')
_KEY = re.compile(rb"([A-Za-z][A-Za-z0-9-]*)[ \t]*(=)?")
_PLAIN_VALUE = re.compile(rb'([^\n"\\;#]*)(?:\n|\Z)')
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES = {b"t": b"\t", b"b": b"\b", b"n": b"\n", b"\\": b"\\", b'"': b'"'}


def _readings(data: bytes) -> Iterator[bytes]:
    """The file as Git reads it from disk and, if that is another, as it reads it from an object.

    There the byte 255 is taken for the end of the file, except that it continues a line if it follows a backslash.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    yield text
    end = text.find(b"\xff")
    if end >= 0:
        rest = re.split(rb"[\n\xff]", text[end + 1 :], maxsplit=1)[0]
        yield text[:end] + b"\n" + rest if text[:end].endswith(b"\\") else text[:end]


def _settings(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Each variable's whole name and its value, as far as the file can be read; None: no ``=`` at all."""
    section = b""
    at = 0
    while (at := _end(_BLANK, data, at)) < len(data):
        header = _HEADER.match(data, at)
        if header is not None:
            base, subsection = header.groups()
            if not base and subsection is None:
                return
            section = base.lower() + b"."
            if subsection is not None:
                section += _ESCAPED.sub(rb"\1", subsection) + b"."
            at = header.end()
            continue
        key = _KEY.match(data, at)
        if key is None:
            return
        name, equals = key.groups()
        at = key.end()
        value = None
        if equals:
            read = _value(data, at)
            if read is None:
                return
            value, at = read
        elif data[at : at + 1] not in (b"\n", b""):
            return
        yield section + name.lower(), value


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = pattern.match(data, at)
    return match.end() if match else at


def _value(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The value that begins at *at*, and where the next line begins; None if it cannot be read."""
    plain = _PLAIN_VALUE.match(data, at)
    if plain is not None:
        return re.sub(rb"[\t\r]", b" ", plain.group(1).strip(b" \t\r")), plain.end()
    return _quoted_value(data, at)


_TOKEN = re.compile(rb'([^ \t\r\n"\\;#]+)|([ \t\r]+)|(")|\\(\n|.|\Z)|([;#])|(\n|\Z)', re.DOTALL)


def _quoted_value(data: bytes, at: int) -> tuple[bytes, int] | None:
    out = bytearray()
    spaces = b""
    quoted = False
    while (token := _TOKEN.match(data, at)) is not None:
        at = token.end()
        text, blank, quote, escaped, comment, newline = token.groups()
        if newline is not None:
            return None if quoted else (bytes(out), at)
        if blank and not quoted:
            spaces += b" " * len(blank) if out else b""
            continue
        if comment and not quoted:
            end = data.find(b"\n", at)
            return bytes(out), len(data) if end < 0 else end + 1
        out += spaces
        spaces = b""
        if quote:
            quoted = not quoted
        elif escaped in (b"\n", b""):
            continue
        elif escaped:
            if escaped not in _ESCAPES:
                return None
            out += _ESCAPES[escaped]
        else:
            out += text or blank or comment or b""
    raise AssertionError("every byte begins a token")


# --- what the settings may say ------------------------------------------------------------------------------------


def _check_setting(variable: bytes, value: bytes | None) -> Finding | None:
    section, _, rest = variable.partition(b"\0")[0].partition(b".")
    name, dot, key = rest.rpartition(b".")
    if section != b"submodule" or not dot:
        return None
    if not name or b".." in name.replace(b"\\", b"/").split(b"/"):
        return Finding("gitmodulesName", f"disallowed submodule name: {_shown(name)}")
    if value is None:
        return None
    value = value.partition(b"\0")[0]
    if key == b"url" and not _is_safe_url(value):
        return Finding("gitmodulesUrl", f"disallowed submodule url: {_shown(value)}")
    if key == b"path" and value.startswith(b"-"):
        return Finding("gitmodulesPath", f"disallowed submodule path: {_shown(value)}")
    if key == b"update" and value.startswith(b"!"):
        return Finding("gitmodulesUpdate", f"disallowed submodule update setting: {_shown(value)}")
    return None


def _shown(value: bytes) -> str:
    return value[:200].decode(errors="replace")


_RELATIVE = re.compile(rb"\.\.?[/\\]")
_CLIMB = re.compile(rb"(?:\.[/\\])*\.\.[/\\](?:\.\.?[/\\])*[:/]")
_HTTP = re.compile(rb"(?:https?|ftps?)(?:::|(?=://))")


def _is_safe_url(url: bytes) -> bool:
    """Whether *url* is no option, hides no newline from a credential helper, and names no scheme by climbing."""
    if url.startswith(b"-"):
        return False
    if _RELATIVE.match(url) or url.startswith(b"git://"):
        return b"\n" not in _decoded(url) and not _CLIMB.match(url)
    http = _HTTP.match(url)
    return http is None or _has_clean_host(url[http.end() :] if http.group().endswith(b"::") else url)


def _has_clean_host(url: bytes) -> bool:
    scheme, separator, rest = url.partition(b"://")
    if not separator or not scheme:
        return False
    host = re.split(rb"[/?#]", rest, maxsplit=1)[0]
    path = rest[len(host) :].lstrip(b"/")
    user, at, named = host.partition(b"@")
    if at:
        host = named
    login, _, password = user.partition(b":") if at else (b"", b"", b"")
    parts = (login, password, host, path)
    return bool(host) and b"\n" not in scheme and not any(b"\n" in _decoded(part) for part in parts)


def _decoded(part: bytes) -> bytes:
    """A part of a URL, as Git's credential code decodes it: what stands before a colon is left alone."""
    head, colon, rest = part.partition(b":")
    return head + colon + unquote_to_bytes(rest) if colon and head else unquote_to_bytes(part)
