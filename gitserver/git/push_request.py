"""What a client says before its pack: which refs it wants where, and how it wants to be answered.

Source: gitprotocol-pack(5), "Pushing data to a server"; gitprotocol-capabilities(5).
"""

from dataclasses import dataclass

from gitserver.git.limits import LimitReached, PushLimits
from gitserver.git.objects import ObjectMalformed, oid_from_hex
from gitserver.git.protocol import END, PacketReader, ProtocolError, Special, capabilities, printable
from gitserver.git.refs import RefUpdate


@dataclass(frozen=True)
class PushRequest:
    """The commands of one push, in the order they came."""

    commands: tuple[RefUpdate, ...]
    capabilities: dict[bytes, bytes]
    options: tuple[str, ...]

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

    Raises:
        ProtocolError: the client does not speak Git's protocol.
        LimitReached: too many commands, or too long ones.
    """
    commands: list[RefUpdate] = []
    offered: dict[bytes, bytes] = {}
    shallow = 0
    first = True
    while isinstance(line := packets.line(), bytes):
        if line.startswith(b"shallow "):
            shallow += 1
            if shallow > limits.shallow_lines:
                raise LimitReached(f"a push names at most {limits.shallow_lines} shallow commits")
            continue
        if first:
            line, _, words = line.partition(b"\0")
            offered = capabilities(words)
            first = False
        commands.append(_command(line, limits))
        if len(commands) > limits.commands:
            raise LimitReached(f"a push changes at most {limits.commands} refs; push them in several steps")
    if not commands:
        return None
    if line is END:
        raise ProtocolError("the stream ends inside the list of refs")
    if offered.get(b"object-format", b"sha1") != b"sha1":
        raise ProtocolError("this repository uses SHA-1 object ids")
    options = _options(packets, limits) if b"push-options" in offered else ()
    return PushRequest(tuple(commands), offered, options)


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


def _options(packets: PacketReader, limits: PushLimits) -> tuple[str, ...]:
    options: list[str] = []
    while not isinstance(line := packets.line(), Special):
        if len(options) == limits.push_options or len(line) > limits.push_option_bytes:
            raise LimitReached(
                f"a push carries at most {limits.push_options} options of {limits.push_option_bytes} bytes"
            )
        options.append(printable(line))
    if line is END:
        raise ProtocolError("the stream ends inside the push options")
    return tuple(options)
