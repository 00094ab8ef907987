"""What a push may cost: every cap that guards memory, disk and time against what a stranger sends."""

from dataclasses import dataclass, field

from gitserver.core.errors import TooMuch
from gitserver.git.objects import Kind

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class LimitReached(TooMuch):
    """A push is larger, deeper or wider than this server takes."""

    def __init__(self, what: str) -> None:
        super().__init__(what)


@dataclass(frozen=True)
class PackLimits:
    """Caps on one received pack. Sizes are bytes."""

    pack_bytes: int = 16 * GIB
    objects: int = 10_000_000
    blob_bytes: int = 2 * GIB
    tree_bytes: int = 16 * MIB
    commit_bytes: int = 16 * MIB  # commits and tags, message included
    header_bytes: int = 1 * MIB  # of a commit or tag, up to the empty line
    delta_object_bytes: int = 128 * MIB  # a delta, its base or its result: these are held in memory whole
    delta_depth: int = 4095  # what `git pack-objects --depth` can make at most
    inflated_floor_bytes: int = 64 * MIB  # any pack may inflate to this much …
    inflated_ratio: int = 4096  # … and beyond it to this many times its own size
    cache_bytes: int = 48 * MIB  # inflated deltas and bases kept while deltas are resolved


@dataclass(frozen=True)
class PushLimits:
    """Caps on one push."""

    commands: int = 4000
    ref_bytes: int = 1024
    branch_bytes: int = 256
    push_options: int = 100
    push_option_bytes: int = 4096
    shallow_lines: int = 10_000
    spool_memory_bytes: int = 8 * MIB  # larger packs wait in a sealed, nameless file
    pack: PackLimits = field(default_factory=PackLimits)


def cap_size(kind: Kind, size: int, limits: PackLimits) -> None:
    """Refuse an object of more than its kind's size.

    Raises:
        LimitReached: it is larger.
    """
    caps = {Kind.BLOB: limits.blob_bytes, Kind.TREE: limits.tree_bytes}
    cap = caps.get(kind, limits.commit_bytes)
    if size > cap:
        raise LimitReached(f"a {kind.word.decode()} of {size} bytes is too large; at most {cap} bytes are taken")


def delta_too_large(size: int, limits: PackLimits) -> LimitReached:
    """The refusal of a delta that would take too much memory, with the way round it."""
    return LimitReached(
        f"a delta works on {size} bytes; at most {limits.delta_object_bytes} are taken."
        " Push with `git -c core.bigFileThreshold=64m push`, so that large files are sent whole"
    )
