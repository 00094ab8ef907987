"""The repository of the client matrix: a little of everything that Git can hold."""

import os
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

EPOCH = 1_700_000_000  # the first commit's time; one a day from then on
DAY_S = 86_400

_BIG_BYTES = 3_000_000
_FILES = 300


@dataclass
class Stream:
    """A ``git fast-import`` stream under construction."""

    parts: list[bytes] = field(default_factory=list)
    marks: int = 0
    days: int = 0

    def commit(self, branch: str, message: str, *changes: bytes, parents: tuple[int, ...] = ()) -> int:
        """Add a commit; its mark. *parents* other than the branch's tip are given as marks."""
        self.marks += 1
        self.days += 1
        who = f"Zoë Ünïcode <zoe@example.com> {EPOCH + self.days * DAY_S} +0130"
        self.parts.append(f"commit refs/heads/{branch}\nmark :{self.marks}\nauthor {who}\ncommitter {who}\n".encode())
        self.parts.append(_data(message.encode()))
        for word, mark in zip(("from", "merge", "merge"), parents, strict=False):
            self.parts.append(f"{word} :{mark}\n".encode())
        self.parts.extend(changes)
        return self.marks

    def tag(self, name: str, target: int | str) -> None:
        """Add an annotated tag of a mark."""
        who = f"Tagger <tagger@example.com> {EPOCH + self.days * DAY_S} +0000"
        source = f":{target}" if isinstance(target, int) else target
        self.parts.append(f"tag {name}\nfrom {source}\ntagger {who}\n".encode())
        self.parts.append(_data(f"Release {name}\n".encode()))

    def ref(self, name: str, mark: int) -> None:
        """Point a ref at a mark."""
        self.parts.append(f"reset {name}\nfrom :{mark}\n\n".encode())


def make_sample(directory: Path) -> Path:
    """Make the repository, bare, in *directory*: the same objects every time."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", directory], check=True, timeout=60)
    stream = Stream()
    _fill(stream)
    importer = ["git", "-C", str(directory), "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"]
    subprocess.run(importer, input=b"".join(stream.parts), check=True, timeout=60)
    identity = {"GIT_COMMITTER_NAME": "Tagger", "GIT_COMMITTER_EMAIL": "tagger@example.com"}
    environment = {"PATH": os.environ["PATH"], **identity, "GIT_COMMITTER_DATE": f"{EPOCH} +0000"}
    for line in (["tag", "-a", "-m", "A tag of a tag", "v2.0-signed-off", "v2.0"], ["tag", "light", "main~3"]):
        command = ["git", "-C", str(directory), *line]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    return directory


def _fill(stream: Stream) -> None:
    chance = random.Random(2)
    first = stream.commit(
        "main",
        "The first\n",
        *(_file(f"src/package{number % 12}/module{number}.txt", f"line {number}\n" * 9) for number in range(_FILES)),
        _file("README.md", "# Sample\n"),
        _file("empty", ""),
        _file("bin/run", "#!/bin/sh\nexec true\n", "100755"),
        _file("link", "src/package1", "120000"),
        _file("ångström/日本語 имя.txt", "naïve\n"),
        _file("space and 'quote'.txt", "quote\n"),
        _file("🦊.md", "fox\n"),
    )
    stream.commit("main", "A large binary\n", _bytes("big.bin", chance.randbytes(_BIG_BYTES)))
    stream.commit(
        "main",
        "A submodule\n\nWith a body:\nünïcödé\n",
        _file(".gitmodules", '[submodule "lib"]\n\tpath = lib\n\turl = ../lib\n'),
        f"M 160000 {'1234567890' * 4} lib\n".encode(),
    )
    renamed = stream.commit("main", "Rename\n", b"R src/package3 src/renamed\n", b"D src/package4/module4.txt\n")
    stream.tag("v1.0", renamed)
    for number in range(8):
        tip = stream.commit(
            "main", f"Edit {number}\n", _file(f"src/package5/module{5 + 12 * number}.txt", f"{number}\n")
        )
    left = stream.commit("topic/left", "Left\n", _file("left", "1\n"), parents=(tip,))
    right = stream.commit("topic/right", "Right\n", _file("right", "1\n"), parents=(tip,))
    crossed = stream.commit("topic/left", "Cross left\n", _file("right", "1\n"), parents=(left, right))
    other = stream.commit("topic/right", "Cross right\n", _file("left", "1\n"), parents=(right, left))
    stream.commit("topic/right", "Go on\n", _file("right", "2\n"))
    merged = stream.commit(
        "main", "Merge\n", _file("right", "1\n"), _file("left", "1\n"), parents=(tip, crossed, other)
    )
    stream.tag("v2.0", merged)
    stream.commit("main", "Empty on purpose\n")
    stream.commit("main", "After\n", _file("README.md", "# Sample\n\nMore.\n"))
    stream.commit("unrelated", "Another root\n", _file("alone", "x\n"))
    stream.ref("refs/heads/feature/überschrift", first)
    stream.ref("refs/tags/first", first)


def _file(name: str, text: str, mode: str = "100644") -> bytes:
    return _bytes(name, text.encode(), mode)


def _bytes(name: str, data: bytes, mode: str = "100644") -> bytes:
    return f"M {mode} inline {name}\n".encode() + _data(data)


def _data(data: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(data), data)
