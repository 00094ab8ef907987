"""How a pack and its entries are spelled.

Source: gitformat-pack(5).
"""

import struct
from typing import Final

from gitserver.core.errors import Invalid

OFS_DELTA: Final = 6
REF_DELTA: Final = 7

HEADER_BYTES: Final = 12
TRAILER_BYTES: Final = 20
MAX_ENTRY_HEADER_BYTES: Final = 40  # ten size digits, and ten offset digits or an object id


class PackDamaged(Invalid):
    """The bytes are not a pack that Git would take."""


def pack_header(objects: int) -> bytes:
    """A pack's first twelve bytes."""
    return struct.pack(">4sLL", b"PACK", 2, objects)


def read_pack_header(data: bytes) -> int:
    """The number of objects that a pack's first twelve bytes announce.

    Raises:
        PackDamaged: wrong signature or version.
    """
    if len(data) < HEADER_BYTES:
        raise PackDamaged("the pack ends inside its header")
    signature, version, objects = struct.unpack(">4sLL", data[:HEADER_BYTES])
    if signature != b"PACK":
        raise PackDamaged("this is not a pack: it does not begin with PACK")
    if version not in (2, 3):
        raise PackDamaged(f"pack version {version} is not supported")
    return int(objects)


def entry_header(number: int, size: int) -> bytes:
    """An entry's type and inflated size."""
    first = (number << 4) | (size & 0x0F)
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first = size & 0x7F
        size >>= 7
    out.append(first)
    return bytes(out)


def ofs_distance(distance: int) -> bytes:
    """The distance back to an ofs-delta's base."""
    out = [distance & 0x7F]
    distance >>= 7
    while distance:
        distance -= 1
        out.append(0x80 | (distance & 0x7F))
        distance >>= 7
    return bytes(reversed(out))


def read_entry_header(data: bytes | memoryview, at: int) -> tuple[int, int, int]:
    """Read an entry's header at *at*: its type number, its inflated size, and where the header ends.

    Raises:
        PackDamaged: the header is not finished within the data, or absurdly long.
    """
    try:
        byte = data[at]
        at += 1
        number = (byte >> 4) & 7
        size = byte & 0x0F
        shift = 4
        while byte & 0x80:
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 67:
                raise PackDamaged("an entry's size does not fit 64 bits")
    except IndexError as end:
        raise PackDamaged("the pack ends inside an entry's header") from end
    return number, size, at


def read_ofs_distance(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read an ofs-delta's distance at *at*: the distance, and where it ends.

    Raises:
        PackDamaged: it is not finished within the data, or absurdly long.
    """
    try:
        byte = data[at]
        at += 1
        distance = byte & 0x7F
        while byte & 0x80:
            byte = data[at]
            at += 1
            distance = ((distance + 1) << 7) | (byte & 0x7F)
            if distance > 1 << 63:
                raise PackDamaged("a delta's base offset does not fit 64 bits")
    except IndexError as end:
        raise PackDamaged("the pack ends inside a delta's base offset") from end
    return distance, at


def read_delta_sizes(delta: bytes) -> tuple[int, int]:
    """A delta's own claim: the size of its base and of its result.

    *delta* may be cut short, as long as both numbers are whole (20 bytes are enough).

    Raises:
        PackDamaged: they are not.
    """
    sizes = []
    at = 0
    for _ in range(2):
        size = shift = 0
        while True:
            if at >= len(delta) or shift > 63:
                raise PackDamaged("a delta ends inside its sizes")
            byte = delta[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        sizes.append(size)
    return sizes[0], sizes[1]
