"""A raw smart-HTTP client, for pushes that no git would make. It keeps one connection open.

wire = Wire(house, "repository")
report = wire.push([(ZERO, commit.oid, "refs/heads/main")], pack(tree, commit))
assert report.refs["refs/heads/main"] == "ok"
"""

import base64
import http.client
import ssl
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1

from tests.house import House

ZERO = "0" * 40
CAPABILITIES = "report-status side-band-64k object-format=sha1"

_TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
_WHO = "A <a@example.com> 1700000000 +0000"


@dataclass(frozen=True)
class Made:
    """An object made by hand."""

    kind: str
    data: bytes

    @property
    def oid(self) -> str:
        """Its id."""
        return sha1(f"{self.kind} {len(self.data)}\0".encode() + self.data).hexdigest()


def blob(text: str) -> Made:
    """A file."""
    return Made("blob", text.encode())


def tree(**entries: "Made | str") -> Made:
    """A directory; an entry is an object, or the id of a blob."""
    return raw_tree(*((_mode(entry), name.encode(), _oid(entry)) for name, entry in sorted(entries.items())))


def raw_tree(*entries: tuple[str, bytes, str]) -> Made:
    """A directory of (mode, name, id), as odd as one likes."""
    return Made(
        "tree", b"".join(b"%b %b\0%b" % (mode.encode(), name, bytes.fromhex(oid)) for mode, name, oid in entries)
    )


def commit(directory: "Made | str", *parents: "Made | str", message: str = "Work\n") -> Made:
    """A commit of a tree."""
    links = f"tree {_oid(directory)}\n" + "".join(f"parent {_oid(parent)}\n" for parent in parents)
    return Made("commit", f"{links}author {_WHO}\ncommitter {_WHO}\n\n{message}".encode())


def tag(target: Made, name: str = "v1") -> Made:
    """An annotated tag."""
    return Made("tag", f"object {target.oid}\ntype {target.kind}\ntag {name}\ntagger {_WHO}\n\nTag\n".encode())


def pack(*objects: Made) -> bytes:
    """A pack of whole objects."""
    return raw_pack(*(entry(made) for made in objects))


def raw_pack(*entries: bytes, count: int | None = None) -> bytes:
    """A pack of entries as they are; *count* is what its header claims."""
    body = b"PACK" + (2).to_bytes(4, "big") + (len(entries) if count is None else count).to_bytes(4, "big")
    body += b"".join(entries)
    return body + sha1(body).digest()


def entry(made: Made) -> bytes:
    """One whole object as it stands in a pack."""
    return entry_header(_TYPES[made.kind], len(made.data)) + zlib.compress(made.data)


def entry_header(type_number: int, size: int) -> bytes:
    """The type and inflated size in front of an entry."""
    first = (type_number << 4) | (size & 15)
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    return bytes(out)


def pkt(text: str | bytes) -> bytes:
    """One pkt-line."""
    data = text.encode() if isinstance(text, str) else text
    return b"%04x" % (len(data) + 4) + data


@dataclass(frozen=True)
class Answer:
    """A response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Report:
    """What the server says became of a push."""

    unpack: str
    refs: dict[str, str] = field(default_factory=dict)  # "ok", or the reason why not


class Wire:
    """One connection to one repository, as the administrator."""

    def __init__(self, house: House, repository: str) -> None:
        shown = house.git_credential()
        basic = base64.b64encode(f"{shown.user_name}:{shown.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}"}
        self._path = f"/v1/repos/{repository}"
        context = ssl.create_default_context(cafile=str(house.ca_file))
        self.connection = http.client.HTTPSConnection("localhost", house.https_port, context=context, timeout=30)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request below the repository's address; an iterator goes out chunked."""
        chunked = body is not None and not isinstance(body, bytes)
        self.connection.request(
            method, self._path + path, body, {**self._headers, **(headers or {})}, encode_chunked=chunked
        )
        response = self.connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())

    def refs(self) -> dict[str, str]:
        """The refs advertised for a push."""
        answer = self.request("GET", "/info/refs?service=git-receive-pack")
        assert answer.status == 200, answer
        lines = [line.split(b"\0")[0] for line in _packets(answer.body) if line is not None][1:]
        found = [line.decode().rstrip("\n").split(" ", 1) for line in lines]
        return {name: oid for oid, name in found if name != "capabilities^{}"}

    def push(
        self,
        commands: Sequence[tuple[str, str, str | bytes]],
        packed: bytes = b"",
        *,
        capabilities: str = CAPABILITIES,
    ) -> Report:
        """Push by hand: old id, new id and name of each ref, and a pack or none."""
        answer = self.post(push_body(commands, packed, capabilities))
        assert answer.status == 200, answer
        return read_report(answer.body)

    def post(self, body: bytes | Iterator[bytes], headers: Mapping[str, str] | None = None) -> Answer:
        """Send the body of a push."""
        media_type = {"Content-Type": "application/x-git-receive-pack-request"}
        return self.request("POST", "/git-receive-pack", body, {**media_type, **(headers or {})})


def push_body(
    commands: Sequence[tuple[str, str, str | bytes]], packed: bytes, capabilities: str = CAPABILITIES
) -> bytes:
    """The body of a push."""
    lines = [
        f"{old} {new} ".encode() + (name if isinstance(name, bytes) else name.encode()) for old, new, name in commands
    ]
    lines[0] += b"\0" + capabilities.encode()
    return b"".join(map(pkt, lines)) + b"0000" + packed


def read_report(body: bytes) -> Report:
    """Read a report-status out of side band 1."""
    data = b"".join(line[1:] for line in _packets(body) if line and line[:1] == b"\1")
    lines = [line.decode().rstrip("\n") for line in _packets(data) if line is not None]
    assert lines[:1], body
    assert lines[0].startswith("unpack "), body
    refs = {}
    for line in lines[1:]:
        verdict, _, rest = line.partition(" ")
        name, _, reason = rest.partition(" ")
        refs[name] = "ok" if verdict == "ok" else reason
    return Report(lines[0].removeprefix("unpack "), refs)


def _packets(data: bytes) -> Iterator[bytes | None]:
    at = 0
    while at < len(data):
        size = int(data[at : at + 4], 16)
        yield data[at + 4 : at + size] if size else None
        at += size or 4


def _mode(made: Made | str) -> str:
    return "40000" if isinstance(made, Made) and made.kind == "tree" else "100644"


def _oid(made: Made | str) -> str:
    return made.oid if isinstance(made, Made) else made
