"""Packs of real repositories, damaged in a thousand ways: does the server judge each as git does?

    python -m tests.scenarios.mutated_packs --count 2000 --seed 1

compares the server's verdict with that of ``git index-pack --strict`` and prints every difference that is not one of
those chosen on purpose (:data:`STRICTER`).
"""

# ruff: noqa: T201  a command that prints

import argparse
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gitserver.git.objects import Kind
from gitserver.git.pack_format import HEADER_BYTES, OFS_DELTA, REF_DELTA, TRAILER_BYTES, entry_header, pack_header
from tests.unit.git.pack_forge import (
    Forged,
    GitJudge,
    Verdict,
    difference,
    dissect,
    forge,
    git,
    oid,
    resealed,
    server_verdict,
    whole,
)

STRICTER = (
    # A cap: what is sent costs more memory or work than the server gives to one push.
    "inflates to more than",
    "is too large; at most",
    "a delta works on",
    "at most 10000000 are taken",
    "does not fit 64 bits",  # git shifts the digits out and goes on with what remains
    # git 2.39 reads a date over the end of its line, and takes signs; later versions refuse both, as we do
    "badDate: ",
    "gitmodulesMissing: ",  # a submodule named .gitmodules: git fsck refuses it, receive-pack does not ask
    "badTree: cannot be parsed",  # modes of more than seven digits
    "4b825dc642cb6eb9a060e54bf8d69288fbee4904 is nowhere",  # git knows the empty tree by heart; we keep what we name
)

NAMES = (
    b".", b"..", b".git", b".GIT", b".Git ", b"git~1", b".g\xe2\x80\x8cit", b".git\xff", b".git\n", b"a\\.git",
    b".gitmodules", b".GITMODULES", b"gitmod~1", b"gi7eba~1", b".gitmodules ", b".gitattributes", b"a/b", b"\xff",
    b"\\", b".git::$INDEX_ALLOCATION", b".git.", b"GIT~2", b".gitignore", b"aux", b"~1", b"x"* 300,
)  # fmt: skip
MODES = (b"100644", b"100755", b"100664", b"120000", b"40000", b"040000", b"160000", b"0", b"100600", b"777", b"8", b"")
LINES = (
    b"parent 0000000000000000000000000000000000000000", b"author A <a@b> 1 +0000", b"tagger T <t@t> 1 +0000",
    b"encoding latin-1", b"gpgsig x", b"type blob", b"tag \xff", b"", b"tree 1234", b"committer <c> 1 +0000",
)  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A sound pack, and its objects whole."""

    pack: bytes
    entries: list[Forged]
    objects: dict[bytes, tuple[Kind, bytes]]


def seeds(directory: Path) -> list[Seed]:
    """Packs of one small repository with a bit of everything, packed in several ways."""
    repository = directory / "seed.git"
    git(directory, "init", "-q", "--bare", str(repository))
    git(repository, "fast-import", "--quiet", stdin=b"".join(_history()))
    git(repository, "update-ref", "refs/tags/tree", git(repository, "rev-parse", "main^{tree}").decode().strip())
    nested = b"object %b\ntype tag\ntag outer\ntagger T <t@example.com> 1700000000 +0000\n\nnested\n"
    inner = git(repository, "rev-parse", "refs/tags/v1").strip()
    git(repository, "hash-object", "-t", "tag", "-w", "--stdin", stdin=nested % inner)
    names = git(repository, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)", "--unordered")
    objects = dict(_objects(repository, names))
    made = []
    for options in (
        ("--window=10", "--depth=50", "--delta-base-offset"),
        ("--window=10", "--depth=50"),
        ("--window=50", "--depth=4", "--delta-base-offset", "--compression=0"),
        ("--window=0",),
    ):
        pack = git(repository, "pack-objects", "--quiet", "--stdout", "--threads=1", *options, stdin=names)
        made.append(Seed(pack, dissect(pack), objects))
    return made


def mutated(seed: Seed, chance: random.Random) -> tuple[str, bytes]:
    """A damaged pack, and the name of the damage."""
    damage = chance.choices(_DAMAGES, _WEIGHTS)[0]
    return damage.__name__.strip("_"), damage(seed, chance)


def is_deliberate(ours: Verdict, theirs: Verdict) -> bool:
    """Whether the server is stricter than git for a reason."""
    if ours.accepted or not theirs.accepted:
        return False
    forgotten = bool(set(ours.message_ids) & set(theirs.message_ids))  # git forgets a tagger's error at the next header
    return forgotten or any(words in ours.reason for words in STRICTER)


def compare(count: int, random_seed: int, directory: Path) -> Iterator[tuple[int, str, bytes, Verdict, Verdict, float]]:
    """Judge *count* damaged packs: number, damage, pack, our verdict, git's, and the seconds that ours took."""
    made = seeds(directory)
    judge = GitJudge(directory)
    for number in range(count):
        chance = random.Random(random_seed * 1_000_003 + number)
        damage, pack = mutated(chance.choice(made), chance)
        begun = time.perf_counter()
        # what lies behind a pack is seen only if it comes along with the pack's end
        piece_bytes = 1 << 18 if damage == "trailed" else chance.choice((1 << 18, 4096, 37))
        ours = server_verdict(pack, piece_bytes=piece_bytes)
        took = time.perf_counter() - begun
        yield number, damage, pack, ours, judge.verdict(pack), took


def main() -> int:
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a directory for the packs that are judged differently")
    options = parser.parse_args()
    tally: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as directory:
        for number, damage, pack, ours, theirs, took in compare(options.count, options.seed, Path(directory)):
            slowest = max(slowest, took)
            ids.update(ours.message_ids)
            if ours.accepted == theirs.accepted:
                tally["accepted by both" if ours.accepted else "refused by both"] += 1
                if ours.message_ids and theirs.message_ids and not set(ours.message_ids) & set(theirs.message_ids):
                    tally["refused by both, other message"] += 1
                    print(f"message {number} {damage}: {ours.reason!r} / {theirs.reason!r}")
            elif is_deliberate(ours, theirs):
                tally[f"stricter on purpose: {ours.reason[:50]}"] += 1
            else:
                tally["DIFFERENT"] += 1
                print(
                    f"{number} {damage}: ours {ours.accepted} {ours.reason!r}, git {theirs.accepted} {theirs.reason!r}"
                )
                if options.keep:
                    (options.keep / f"{options.seed}-{number}.pack").write_bytes(pack)
    for line, times in sorted(tally.items()):
        print(f"{times:6} {line}")
    print("rules met:", ", ".join(f"{name} {times}" for name, times in ids.most_common()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"slowest verdict {slowest * 1000:.0f} ms, peak memory of the process {peak} MiB")
    return 1 if tally["DIFFERENT"] else 0


# --- the seed repository ------------------------------------------------------------------------------------------


def _history() -> Iterator[bytes]:
    chance = random.Random(7)
    text = [b"line %d of the file\n" % number for number in range(300)]
    person = b"A U Thor <author@example.com> %d +0100"
    for number in range(14):
        for _ in range(4):
            text[chance.randrange(len(text))] = b"changed %d\n" % chance.randrange(10**9)
        who = person % (1700000000 + number * 1000)
        yield b"commit refs/heads/main\nmark :%d\nauthor %b\ncommitter %b\n" % (number + 1, who, who)
        yield _data(b"change number %d\n" % number)
        if number == 9:
            yield b"merge :3\n"
        yield b"M 100644 inline src/file.txt\n" + _data(b"".join(text))
        yield b"M 100755 inline src/run-%d\n" % number + _data(b"#!/bin/sh\n")
        yield b"M 120000 inline link\n" + _data(b"src/file.txt")
        yield b"M 100644 inline empty\n" + _data(b"")
        yield b"M 160000 %040x module\n" % 0x1234567890ABCDEF
        yield b"M 100644 inline .gitmodules\n"
        yield _data(b'[submodule "module"]\n\tpath = module\n\turl = https://example.com/module.git\n')
        yield b"M 100644 inline .gitattributes\n" + _data(b"*.txt text\n*.bin binary\n")
        if number == 5:
            yield b"M 100644 inline deep/a/b/c/big.bin\n" + _data(chance.randbytes(40_000))
    yield b"commit refs/heads/nothing\nmark :50\ncommitter %b\n" % (person % 1700000000) + _data(b"an empty tree\n")
    yield b"tag v1\nfrom :10\ntagger %b\n" % (person % 1700000500) + _data(b"version 1\n")
    yield b"done\n"


def _data(data: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(data), data)


def _objects(repository: Path, names: bytes) -> Iterator[tuple[bytes, tuple[Kind, bytes]]]:
    answer = git(repository, "cat-file", "--batch", stdin=names)
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        name, word, size = answer[at:end].split()
        data = answer[end + 1 : end + 1 + int(size)]
        yield bytes.fromhex(name.decode()), (next(kind for kind in Kind if kind.word == word), data)
        at = end + 2 + int(size)


# --- damages to the bytes -----------------------------------------------------------------------------------------


def _flipped(seed: Seed, chance: random.Random) -> bytes:
    pack = bytearray(seed.pack)
    for _ in range(chance.choice((1, 1, 1, 3))):
        pack[chance.randrange(len(pack))] ^= 1 << chance.randrange(8)
    return bytes(pack)


def _flipped_behind_checksum(seed: Seed, chance: random.Random) -> bytes:
    pack = bytearray(seed.pack)
    pack[chance.randrange(len(pack) - TRAILER_BYTES)] ^= 1 << chance.randrange(8)
    return resealed(bytes(pack))


def _byte_set(seed: Seed, chance: random.Random) -> bytes:
    pack = bytearray(seed.pack)
    pack[chance.randrange(len(pack))] = chance.choice((0, 0xFF, 0x80, 0x7F, chance.randrange(256)))
    return resealed(bytes(pack)) if chance.random() < 0.8 else bytes(pack)


def _cut(seed: Seed, chance: random.Random) -> bytes:
    pack = seed.pack[: chance.randrange(len(seed.pack))]
    return pack if len(pack) < 40 or chance.random() < 0.5 else resealed(pack)


def _spliced(seed: Seed, chance: random.Random) -> bytes:
    pack = seed.pack
    at, to = chance.randrange(len(pack)), chance.randrange(len(pack))
    patch = pack[at : at + chance.choice((1, 2, 20, 500))]
    over = chance.choice((0, len(patch)))
    return resealed(pack[:to] + patch + pack[to + over :])


def _trailed(seed: Seed, chance: random.Random) -> bytes:
    return seed.pack + chance.choice((b"\0", b"0000", seed.pack, bytes(100)))


def _header(seed: Seed, chance: random.Random) -> bytes:
    head = bytearray(seed.pack[:HEADER_BYTES])
    head[chance.randrange(HEADER_BYTES)] = chance.randrange(256)
    if chance.random() < 0.5:
        head = bytearray(pack_header(max(0, len(seed.entries) + chance.choice((-1, 1, -5, 5, 1000, 0xF0000000)))))
    if chance.random() < 0.1:
        head[7] = 3
    return resealed(bytes(head) + seed.pack[HEADER_BYTES:])


# --- damages to the entries ---------------------------------------------------------------------------------------


def _dropped(seed: Seed, chance: random.Random) -> bytes:
    entries = list(seed.entries)
    gone = chance.randrange(len(entries))
    if any(entry.base == gone for entry in entries):
        gone = len(entries) - 1
    del entries[gone]
    moved = []
    for entry in entries:
        base = entry.base
        moved.append(replace(entry, base=base - (base > gone)) if isinstance(base, int) else entry)
    return forge(moved)


def _doubled(seed: Seed, chance: random.Random) -> bytes:
    return forge([*seed.entries, chance.choice(seed.entries)])


def _swapped(seed: Seed, chance: random.Random) -> bytes:
    entries = list(seed.entries)
    one, other = chance.randrange(len(entries)), chance.randrange(len(entries))
    entries[one], entries[other] = entries[other], entries[one]
    moved = {one: other, other: one}
    right = chance.random() < 0.7
    for at, entry in enumerate(entries):
        if _is_ofs(entry):
            base = entry.base
            assert isinstance(base, int)
            to = moved.get(base, base) if right else base
            entries[at] = replace(entry, base=min(to, at))
    return forge(entries)


def _resized(seed: Seed, chance: random.Random) -> bytes:
    entries, at = list(seed.entries), chance.randrange(len(seed.entries))
    size = len(entries[at].data)
    lie = chance.choice((size + 1, max(0, size - 1), 0, size * 2, 1 << 31, 1 << 60, (1 << 64) - 1))
    entries[at] = replace(entries[at], size=lie)
    return forge(entries)


def _retyped(seed: Seed, chance: random.Random) -> bytes:
    entries, at = list(seed.entries), chance.randrange(len(seed.entries))
    number = chance.randrange(8)
    base: int | bytes | None = None
    if number == OFS_DELTA:
        base = chance.randrange(at + 1)
    elif number == REF_DELTA:
        base = chance.choice(list(seed.objects))
    entries[at] = replace(entries[at], number=number, base=base)
    return forge(entries)


def _rebased(seed: Seed, chance: random.Random) -> bytes:
    """A delta with another base: often far from any entry."""
    deltas = [at for at, entry in enumerate(seed.entries) if entry.base is not None]
    if not deltas:
        return _relinked(seed, chance)
    entries, at = list(seed.entries), chance.choice(deltas)
    base: int | bytes
    if chance.random() < 0.5:
        base = chance.choice((-1, -chance.randrange(1, 5000), chance.randrange(at + 1), at))
        entries[at] = replace(entries[at], number=OFS_DELTA, base=base)
    else:
        base = chance.choice((*seed.objects, bytes(20), chance.randbytes(20)))
        entries[at] = replace(entries[at], number=REF_DELTA, base=base)
    return forge(entries)


def _as_ref_deltas(seed: Seed, chance: random.Random) -> bytes:
    """Any objects as deltas on any others of their kind, in any order; now and then in a circle."""
    names = list(seed.objects)
    chance.shuffle(names)
    entries = []
    for at, name in enumerate(names):
        kind, data = seed.objects[name]
        others = names[:at] if chance.random() < 0.995 else names
        candidates = [other for other in others if seed.objects[other][0] is kind]
        if candidates and chance.random() < 0.5:
            base = chance.choice(candidates)
            entries.append(Forged(REF_DELTA, difference(seed.objects[base][1], data), base))
        else:
            entries.append(whole(kind, data))
    chance.shuffle(entries)
    return forge(entries)


def _redeltaed(seed: Seed, chance: random.Random) -> bytes:
    """Damage inside a delta on a blob that nothing names, so that only the delta decides."""
    base = chance.choice([data for kind, data in seed.objects.values() if kind is Kind.BLOB and data])
    delta = bytearray(difference(base, base[: len(base) // 2] + b"something new" + base[len(base) // 2 :]))
    for _ in range(chance.choice((0, 1, 1, 2))):
        at = chance.randrange(len(delta))
        if chance.random() < 0.5:
            delta[at] ^= 1 << chance.randrange(8)
        elif chance.random() < 0.5:
            del delta[at]
        else:
            delta[at:at] = chance.randbytes(1)
    blob = whole(Kind.BLOB, base)
    short = chance.choice((bytes(delta), bytes(delta), bytes(delta[: chance.randrange(6)])))
    return forge([blob, Forged(OFS_DELTA, short, 0)])


def _is_ofs(entry: Forged) -> bool:
    return entry.number == OFS_DELTA


def _restreamed(seed: Seed, chance: random.Random) -> bytes:
    """A zlib stream that is unfinished, followed by rubbish, or of many empty blocks."""
    entries, at = list(seed.entries), chance.randrange(len(seed.entries))
    packed = entries[at].packed or b""
    header = entry_header(3, 0)
    empty_block = b"\x00\x00\x00\xff\xff"
    streams = (
        packed[:-1],
        packed[:-4],
        packed + header,
        packed[:-5] + b"\0" + packed[-4:],
        packed[:2] + empty_block * 9 + packed[2:],
    )
    entries[at] = replace(entries[at], packed=chance.choice(streams))
    return forge(entries)


# --- damages to the objects ---------------------------------------------------------------------------------------


def _relinked(seed: Seed, chance: random.Random) -> bytes:
    """One object changed, and everything that names it changed with it: only the object's own sense decides."""
    weights = {Kind.COMMIT: 4, Kind.TREE: 6, Kind.TAG: 3, Kind.BLOB: 1}
    kinds = {kind for kind, _ in seed.objects.values()}
    kind = chance.choices([kind for kind in Kind if kind in kinds], [weights[k] for k in Kind if k in kinds])[0]
    victim = chance.choice([name for name, (found, _) in seed.objects.items() if found is kind])
    renamed: dict[bytes, bytes] = {}
    made: dict[bytes, tuple[Kind, bytes]] = {}

    def rewrite(name: bytes) -> bytes:
        if name in renamed or name not in seed.objects:
            return renamed.get(name, name)
        kind, data = seed.objects[name]
        for other in _named(kind, data):
            new = rewrite(other)
            if new != other and kind is Kind.TREE:
                data = data.replace(other, new)
            elif new != other:
                data = data.replace(other.hex().encode(), new.hex().encode())
        if name == victim:
            data = _CHANGES[kind](data, chance)
        renamed[name] = oid(kind, data)
        made[renamed[name]] = (kind, data)
        return renamed[name]

    for name in seed.objects:
        rewrite(name)
    entries = [whole(kind, data) for kind, data in made.values()]
    if chance.random() < 0.3:
        kind, data = made[renamed[victim]]
        base = next(at for at, entry in enumerate(entries) if entry.number == kind)
        if entries[base].data != data and len(data) > 3:
            entries = [entry for entry in entries if entry.data != data]
            base = next(at for at, entry in enumerate(entries) if entry.number == kind)
            entries.append(Forged(OFS_DELTA, difference(entries[base].data, data), base))
    return forge(entries)


def _named(kind: Kind, data: bytes) -> list[bytes]:
    if kind is Kind.BLOB:
        return []
    if kind is Kind.TREE:
        return [name for _, _, name in _tree_lines(data)]
    head = data.partition(b"\n\n")[0].split(b"\n")
    words = [line.split(b" ")[1] for line in head if line.startswith((b"tree ", b"parent ", b"object "))]
    return [bytes.fromhex(word.decode()) for word in words]


def _tree_lines(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    lines, at = [], 0
    while at < len(data):
        end = data.index(b"\0", at)
        mode, _, name = data[at:end].partition(b" ")
        lines.append((mode, name, data[end + 1 : end + 21]))
        at = end + 21
    return lines


def _changed_tree(data: bytes, chance: random.Random) -> bytes:
    lines = _tree_lines(data)
    if not lines or chance.random() < 0.15:
        return _changed_bytes(data, chance)
    at = chance.randrange(len(lines))
    mode, name, target = lines[at]
    change = chance.randrange(7)
    if change == 0:
        lines[at] = (mode, chance.choice(NAMES), target)
    elif change == 1:
        lines[at] = (chance.choice(MODES), name, target)
    elif change == 2:
        lines.insert(chance.randrange(len(lines) + 1), lines[at])
    elif change == 3:
        lines.reverse()
    elif change == 4:
        lines[at] = (mode, name, chance.choice((bytes(20), target[:-1] + b"\0", chance.choice(lines)[2])))
    elif change == 5:
        lines[at] = (chance.choice(MODES[:5]), chance.choice(NAMES), target)
        lines.sort(key=lambda line: line[1] + (b"/" if line[0] == b"40000" else b""))
    else:
        lines[at] = (mode, name + chance.choice((b" ", b".", b"\\", b"~1", b"\xe2\x80\x8c", b"\xef\xbb\xbf")), target)
    return b"".join(b"%s %s\0%s" % line for line in lines)


def _changed_text(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.4:
        return _changed_bytes(data, chance)
    lines = data.split(b"\n")
    at = chance.randrange(min(6, len(lines)))
    change = chance.randrange(7)
    if change == 0:
        del lines[at]
    elif change == 1:
        lines.insert(at, lines[at])
    elif change == 2:
        other = chance.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif change == 3:
        lines.insert(at, chance.choice(LINES))
    elif change == 4:
        word, _, rest = lines[at].partition(b" ")
        lines[at] = lines[at].upper() if chance.random() < 0.3 else b"%b %b" % (word, rest.upper())
    elif change == 5:
        old, new = chance.choice(_LINE_CHANGES)
        lines[at] = lines[at].replace(old, new)
    else:
        lines = lines[: at + 1]
    return b"\n".join(lines)


_LINE_CHANGES = (
    (b" +", b" "), (b"> ", b">"), (b" <", b"<"), (b"<", b""), (b">", b""), (b"17", b"017"), (b"17", b"9" * 18),
    (b"> ", b">  "), (b"> 1", b"> -1"), (b" 0", b" \n0"),
)  # fmt: skip


def _changed_bytes(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data or b"x")
    at = chance.randrange(min(len(changed), 400))
    change = chance.randrange(4)
    if change == 0:
        changed[at] ^= 1 << chance.randrange(8)
    elif change == 1:
        del changed[at : at + chance.choice((1, 1, 5))]
    elif change == 2:
        changed[at:at] = chance.choice((b"\0", b"\n", b" ", b"\xff", b"<", b">", b"0"))
    else:
        del changed[at:]
    return bytes(changed)


def _changed_blob(data: bytes, chance: random.Random) -> bytes:
    if data.startswith(b"[submodule") and chance.random() < 0.9:
        return data.replace(*chance.choice(_SUBMODULE_CHANGES))
    if data.startswith(b"*.txt"):
        return data + b"x" * chance.choice((10, 2047, 2048, 5000))
    return _changed_bytes(data, chance)


_SUBMODULE_CHANGES = (
    (b'"module"', b'"../x"'), (b'"module"', b'"a\\\\..\\\\b"'), (b'"module"', b'""'), (b'"module"', b'"..\\x"'),
    (b"https:", b"-u"), (b"path = ", b"path = -"), (b"\turl", b"\turl = -x\n\turl"),
    (b"\tpath", b"\tupdate = !ls\n\tpath"), (b"https://example.com", b"https://"), (b".git", b"%0a"),
    (b"https://example.com", b"../../:"), (b"\tpath", b"\tpath\n"), (b"[submodule", b"\xef\xbb\xbf[SubModule"),
    (b'\n\turl = h', b'\n\turl = "h'), (b"\turl = ", b"[x]\nurl=-u\n["),
)  # fmt: skip

_CHANGES: dict[Kind, Callable[[bytes, random.Random], bytes]] = {
    Kind.COMMIT: _changed_text,
    Kind.TREE: _changed_tree,
    Kind.TAG: _changed_text,
    Kind.BLOB: _changed_blob,
}

_DAMAGES: tuple[Callable[[Seed, random.Random], bytes], ...] = (
    _flipped, _flipped_behind_checksum, _byte_set, _cut, _spliced, _trailed, _header, _dropped, _doubled, _swapped,
    _resized, _retyped, _rebased, _as_ref_deltas, _redeltaed, _restreamed, _relinked,
)  # fmt: skip
_WEIGHTS = (2, 6, 6, 2, 4, 1, 3, 3, 2, 4, 5, 5, 6, 3, 14, 4, 40)


if __name__ == "__main__":
    sys.exit(main())
