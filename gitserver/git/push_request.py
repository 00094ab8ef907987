"""What a client says before its pack: which refs it wants where, and how it wants to be answered.

Source: gitprotocol-pack(5), "Pushing data to a server"; gitprotocol-capabilities(5).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gitserver.git.limits import LimitReached, PushLimits
from gitserver.git.objects import ObjectMalformed, oid_from_hex
from gitserver.git.protocol import END, FLUSH, PacketReader, ProtocolError, Special, capabilities, printable
from gitserver.git.refs import RefUpdate


@dataclass(frozen=True)
class PushRequest:
    """The commands of one push, in the order they came."""

    commands: tuple[RefUpdate, ...]
    capabilities: dict[bytes, bytes]
    options: tuple[str, ...]
    trouble: str | None = None  # why the request cannot be fulfilled

    @property
    def atomic(self) -> bool:
        """Whether it is all or nothing."""
        return b"atomic" in self.capabilities

    @property
    def side_band(self) -> bool:
        """Whether answers go in side bands."""
        return b"side-band-64k" in self.capabilities

    @property
    def wants_report(self) -> bool:
        """Whether the client wants to be told what became of its push."""
        return b"report-status" in self.capabilities or b"report-status-v2" in self.capabilities

    @property
    def brings_pack(self) -> bool:
        """Whether a pack follows the commands."""
        return any(not command.deletes for command in self.commands)


def read_request(packets: PacketReader, limits: PushLimits) -> PushRequest | None:
    """Read commands and push options; None if the client has nothing to say.

    What is wrong with a request whose capabilities are known is in its ``trouble``, so that it can be answered in the
    way it asked for.

    Raises:
        ProtocolError: the client does not speak Git's protocol.
        LimitReached: its first line is too long.
    """
    lines = _without_shallow(packets, limits)
    first = next(lines, None)
    if first is None:
        return None
    line, _, words = first.partition(b"\0")
    offered = capabilities(words)
    commands = [_command(line, limits)]
    options: list[str] = []
    trouble = None
    try:
        _rest(lines, commands, limits)
        if offered.get(b"object-format", b"sha1") != b"sha1":
            raise ProtocolError("this repository uses SHA-1 object ids")
        if b"push-options" in offered:
            options = _options(packets, limits)
    except (ProtocolError, LimitReached) as failure:
        trouble = str(failure)
    return PushRequest(tuple(commands), offered, tuple(options), trouble)


def _without_shallow(packets: PacketReader, limits: PushLimits) -> Iterator[bytes]:
    """The commands' lines. A shallow client's edges need no look: parents that nobody has are refused anyway."""
    shallow, first = 0, True
    while isinstance(line := packets.line(), bytes):
        if not line.startswith(b"shallow "):
            first = False
            yield line
            continue
        shallow += 1
        if shallow > limits.shallow_lines:
            raise LimitReached(f"a push names at most {limits.shallow_lines} shallow commits")
    if line is not FLUSH and not (line is END and first):
        raise ProtocolError(f"the list of refs ends with {line}")


def _rest(lines: Iterator[bytes], commands: list[RefUpdate], limits: PushLimits) -> None:
    for line in lines:
        if len(commands) == limits.commands:
            raise LimitReached(f"a push changes at most {limits.commands} refs; push them in several steps")
        commands.append(_command(line, limits))


def _command(line: bytes, limits: PushLimits) -> RefUpdate:
    words = line.split(b" ", 2)
    if len(words) != 3 or not words[2]:
        raise ProtocolError(f"expected old id, new id and ref, got {printable(line[:100])!r}")
    if len(words[2]) > 4 * limits.ref_bytes:
        raise LimitReached(f"a ref name is at most {limits.ref_bytes} bytes long")
    try:
        return RefUpdate(words[2], oid_from_hex(words[0]), oid_from_hex(words[1]))
    except ObjectMalformed as malformed:
        raise ProtocolError(str(malformed)) from malformed


def _options(packets: PacketReader, limits: PushLimits) -> list[str]:
    options: list[str] = []
    while not isinstance(line := packets.line(), Special):
        if len(options) == limits.push_options or len(line) > limits.push_option_bytes:
            raise LimitReached(
                f"a push carries at most {limits.push_options} options of {limits.push_option_bytes} bytes"
            )
        options.append(printable(line))
    if line is END:
        raise ProtocolError("the stream ends inside the push options")
    return options
