"""Requests packet by packet: the answers of C git's server where it has one, and what strangers are refused."""

import io
import random
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from gitserver.core.errors import Unavailable
from gitserver.git.protocol import AGENT, pkt
from gitserver.git.repository import Repository
from gitserver.git.upload import UploadPack
from gitserver.git.upload_request import UploadLimits
from gitserver.git.upload_v2 import Prefixes
from tests.unit.git.upload_house import ENVIRONMENT, EPOCH, Origin


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin")
    origin.commits(12)
    origin.commits(4, branch="other", since=EPOCH + 5)
    origin.git("tag", "-a", "-m", "x", "v1", "main~3")
    origin.git("tag", "light", "main~4")
    return origin


class Request:
    """A request's bytes, given in small pieces."""

    def __init__(self, data: bytes, piece: int = 7) -> None:
        self._data, self._piece = data, piece

    def read(self, size: int, /) -> bytes:
        size = min(size, self._piece)
        piece, self._data = self._data[:size], self._data[size:]
        return piece


def packets(*lines: bytes | None) -> bytes:
    """Lines as packets; None is a flush packet."""
    return b"".join(b"0000" if line is None else pkt(line + b"\n") for line in lines)


def command(name: bytes, *arguments: bytes) -> bytes:
    """A request in protocol v2."""
    return packets(b"command=" + name, b"object-format=sha1") + b"0001" + packets(*arguments, None)


def fetch_v2(*arguments: bytes) -> bytes:
    """A fetch in protocol v2."""
    return command(b"fetch", *arguments)


def ask(
    origin: Origin, request: bytes, version: int, *, stateless: bool = True, limits: UploadLimits | None = None
) -> bytes:
    """All that our server answers."""
    talk = UploadPack(cast(Repository, origin.open()), version, limits or UploadLimits())
    try:
        return b"".join(talk.answer(Request(request), stateless=stateless))
    finally:
        talk.close()


def ask_git(origin: Origin, request: bytes, version: int) -> bytes:
    """All that C git's server answers."""
    environment = ENVIRONMENT | {"GIT_PROTOCOL": f"version={version}"}
    done = subprocess.run(
        ["git", "upload-pack", "--stateless-rpc", str(origin.path)],
        input=request,
        env=environment,
        capture_output=True,
        check=False,
    )
    return done.stdout


def oid(origin: Origin, name: str) -> bytes:
    return origin.git("rev-parse", name).encode()


def lines_before_pack(answer: bytes) -> list[bytes]:
    """The packets in front of the side band, or all of them."""
    found, at = [], 0
    while at < len(answer):
        length = int(answer[at : at + 4], 16)
        line = answer[at + 4 : at + max(length, 4)]
        if line[:1] != b"\2":
            found.append(line if length > 3 else answer[at : at + 4])
        at += max(length, 4)
        if line == b"packfile\n" or line[:1] in (b"\1", b"\2"):
            break
    return found


LS_REFS = {
    "plain": [],
    "all": [b"peel", b"symrefs", b"unborn"],
    "prefixes": [b"peel", b"ref-prefix refs/tags/", b"ref-prefix HEAD"],
    "heads": [b"symrefs", b"ref-prefix refs/heads/m"],
    "none": [b"ref-prefix nothing"],
}


@pytest.mark.parametrize("arguments", LS_REFS.values(), ids=LS_REFS)
def test_refs_are_listed_as_git_lists_them(origin: Origin, arguments: list[bytes]) -> None:
    request = command(b"ls-refs", *arguments)

    assert ask(origin, request, 2) == ask_git(origin, request, 2)


def test_an_unborn_head_is_told_as_git_tells_it(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "empty")
    request = command(b"ls-refs", b"peel", b"symrefs", b"unborn")

    answer = ask(origin, request, 2)

    assert answer == ask_git(origin, request, 2) == packets(b"unborn HEAD symref-target:refs/heads/main", None)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("empty", [False, True])
def test_the_advertisement_is_gits_but_for_the_agent(origin: Origin, tmp_path: Path, version: int, empty: bool) -> None:
    origin = Origin(tmp_path / "empty") if empty else origin
    origin.git("config", "uploadpack.allowAnySHA1InWant", "false")
    origin.git("config", "uploadpack.allowTipSHA1InWant", "true")
    origin.git("config", "uploadpack.allowReachableSHA1InWant", "true")
    talk = UploadPack(cast(Repository, origin.open()), version, UploadLimits())

    ours = b"".join(talk.advertise())

    theirs = subprocess.run(
        ["git", "upload-pack", "--advertise-refs", str(origin.path)],
        env=ENVIRONMENT | {"GIT_PROTOCOL": f"version={version}"},
        capture_output=True,
        check=True,
    ).stdout
    if empty:  # where git 2.39 says nothing, and later versions say this
        assert b"0" * 40 + b" capabilities^{}\0multi_ack" in ours
        assert b" symref=HEAD:refs/heads/main " in ours
    else:
        assert _without_agent(ours) == _without_agent(theirs)


def _without_agent(advertisement: bytes) -> list[bytes]:
    lines = lines_before_pack(advertisement)
    return [line[: line.index(b"agent=")] if b"agent=" in line else line for line in lines]


def test_the_capabilities_of_version_2_are_gits(origin: Origin) -> None:
    talk = UploadPack(cast(Repository, origin.open()), 2, UploadLimits())

    said = lines_before_pack(b"".join(talk.advertise()))

    assert said == [
        b"version 2\n",
        AGENT + b"\n",
        b"ls-refs=unborn\n",
        b"fetch=shallow wait-for-done filter ref-in-want\n",
        b"server-option\n",
        b"object-format=sha1\n",
        b"object-info\n",
        b"0000",
    ]


def haves(origin: Origin, *names: str) -> list[bytes]:
    return [b"have " + (oid(origin, name) if name else b"1" * 40) for name in names]


ROUNDS = {
    "clone": ([], True),
    "nothing common": ([""], False),
    "common": (["main~5", ""], False),
    "common only": (["main~5", "main~8"], False),
    "no base yet": (["other", ""], False),
    "common, done": (["main~5", ""], True),
    "nothing common, done": ([""], True),
}


@pytest.mark.parametrize(("names", "done"), ROUNDS.values(), ids=ROUNDS)
def test_version_2_negotiates_as_git_does(origin: Origin, names: list[str], done: bool) -> None:
    lines = [b"want " + oid(origin, "main"), *haves(origin, *names), b"ofs-delta"] + [b"done"] * done
    request = fetch_v2(*lines)

    assert lines_before_pack(ask(origin, request, 2)) == lines_before_pack(ask_git(origin, request, 2))


@pytest.mark.parametrize("wait", [b"wait-for-done"])
def test_version_2_waits_for_done_when_told(origin: Origin, wait: bytes) -> None:
    request = fetch_v2(b"want " + oid(origin, "main"), *haves(origin, "main~5"), wait)

    answer = ask(origin, request, 2)

    assert answer == ask_git(origin, request, 2) == packets(b"acknowledgments", b"ACK " + oid(origin, "main~5"), None)


MODES = {
    "detailed": b"multi_ack_detailed side-band-64k",
    "detailed, no done": b"multi_ack_detailed no-done side-band-64k",
    "multi": b"multi_ack side-band-64k",
    "none": b"side-band",
}


@pytest.mark.parametrize(("names", "done"), list(ROUNDS.values())[1:], ids=list(ROUNDS)[1:])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_version_0_negotiates_as_git_does(origin: Origin, mode: bytes, names: list[str], done: bool) -> None:
    end = [b"done"] if done else [None]
    request = packets(b"want " + oid(origin, "main") + b" " + mode, None, *haves(origin, *names), *end)

    assert lines_before_pack(ask(origin, request, 0)) == lines_before_pack(ask_git(origin, request, 0))


@pytest.mark.parametrize("depth", [1, 2, 100, 0x7FFFFFFF])
def test_version_0_tells_the_ends_of_history_as_git_does(origin: Origin, depth: int) -> None:
    request = packets(
        b"want " + oid(origin, "main") + b" side-band-64k",
        b"shallow " + oid(origin, "main~1"),
        b"deepen %d" % depth,
        None,
    )

    assert ask(origin, request, 0) == ask_git(origin, request, 0)


def test_a_client_without_any_capability_gets_a_bare_pack(origin: Origin, tmp_path: Path) -> None:
    request = packets(b"want " + oid(origin, "main"), None, b"done")

    answer = ask(origin, request, 0)

    assert answer.startswith(b"0008NAK\nPACK")
    assert indexed(tmp_path, answer[8:]) == origin.objects_of("main")


def test_the_small_side_band_is_cut_small(origin: Origin, tmp_path: Path) -> None:
    request = packets(b"want " + oid(origin, "main") + b" side-band no-progress", None, b"done")

    answer = ask(origin, request, 0)

    pack, at, longest = b"", 8, 0
    while (length := int(answer[at : at + 4], 16)) > 0:
        pack += answer[at + 5 : at + length]
        longest = max(longest, length)
        at += length
    assert longest == 1000
    assert indexed(tmp_path, pack) == origin.objects_of("main")


def indexed(where: Path, pack: bytes) -> set[str]:
    """The ids in a pack, after C git has checked it."""
    (where / "check.pack").write_bytes(pack)
    subprocess.run(
        ["git", "index-pack", "--strict", "check.pack"], cwd=where, env=ENVIRONMENT, check=True, capture_output=True
    )
    listing = subprocess.run(
        ["git", "show-index"],
        input=(where / "check.idx").read_bytes(),
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    (where / "check.idx").unlink()
    return {line.split()[1] for line in listing.stdout.decode().splitlines()}


def test_object_info_tells_sizes_of_reachable_objects_only(origin: Origin) -> None:
    blob, lost = oid(origin, "main:top1"), origin.git("hash-object", "-w", "--stdin", text="lost\n").encode()

    answer = ask(origin, command(b"object-info", b"size", b"oid " + blob, b"oid " + lost, b"oid " + b"1" * 40), 2)

    size = origin.git("cat-file", "-s", blob.decode()).encode()
    assert lines_before_pack(answer) == [b"size", blob + b" " + size, lost + b" ", b"1" * 40 + b" ", b"0000"]


def test_several_commands_in_one_conversation_are_answered(origin: Origin) -> None:
    request = (
        command(b"ls-refs", b"ref-prefix HEAD") + fetch_v2(b"want " + oid(origin, "main"), b"done") + packets(None)
    )

    answer = ask(origin, request, 2, stateless=False)

    assert answer.startswith(b"000eversion 2\n")
    assert b" HEAD\n0000" in answer
    assert b"packfile\n" in answer
    assert answer.endswith(b"0000")


REFUSED = {
    "no such command": (2, command(b"eat"), b"invalid command 'eat'"),
    "two commands": (2, packets(b"command=fetch", b"command=fetch", None), b"requested after"),
    "no command": (2, packets(b"agent=x", None), b"no command requested"),
    "unknown capability": (2, packets(b"command=fetch", b"magic", None), b"unknown capability 'magic'"),
    "another hash": (2, packets(b"command=fetch", b"object-format=sha256", None), b"mismatched object format"),
    "unknown argument": (2, fetch_v2(b"magic"), b"unexpected line: 'magic'"),
    "unknown ls-refs argument": (2, command(b"ls-refs", b"magic"), b"unexpected line: 'magic'"),
    "want of nonsense": (2, fetch_v2(b"want nonsense"), b"is not an object id"),
    "want of the unknown": (2, fetch_v2(b"want " + b"1" * 40, b"done"), b"upload-pack: not our ref " + b"1" * 40),
    "want-ref of the unknown": (2, fetch_v2(b"want-ref refs/heads/no", b"done"), b"unknown ref refs/heads/no"),
    "deepen of nonsense": (2, fetch_v2(b"deepen -1"), b"invalid deepen"),
    "depth and date": (2, fetch_v2(b"deepen 1", b"deepen-since 5"), b"cannot be used together"),
    "cut short": (2, packets(b"command=fetch"), b"expected a flush packet"),
    "cut in a packet": (2, b"0032command", b"the stream ends inside a packet"),
    "bad length": (2, b"zzzz", b"bad packet length"),
    "no object id": (0, packets(b"hello", None), b"expected to get object ID, not 'hello'"),
    "v0 want of the unknown": (0, packets(b"want " + b"1" * 40, None, b"done"), b"not our ref " + b"1" * 40),
    "v0 cut short": (0, b"0032want ", b"the stream ends inside a packet"),
}


@pytest.mark.parametrize(("version", "request_bytes", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said_in_an_error_packet(
    origin: Origin, version: int, request_bytes: bytes, reason: bytes
) -> None:
    answer = ask(origin, request_bytes, version)

    assert b"ERR " in answer
    assert reason in answer


def test_every_cap_holds_with_a_clear_refusal(origin: Origin) -> None:
    tip = oid(origin, "main")
    limits = UploadLimits(wants=3, haves=3, shallow_lines=3, deepen_not_lines=3, server_options=3, object_info_ids=3)
    many = [b"%040x" % number for number in range(5)]
    requests = [
        fetch_v2(*(b"want " + one for one in many)),
        fetch_v2(b"want " + tip, *(b"have " + one for one in many)),
        fetch_v2(b"want " + tip, *(b"have " + tip for _ in many)),
        fetch_v2(b"want " + tip, *(b"shallow " + one for one in many)),
        fetch_v2(b"want " + tip, *(b"deepen-not " + one for one in many)),
        fetch_v2(*(b"want-ref refs/" + one for one in many)),
        packets(b"command=fetch", *(b"server-option=" + one for one in many), None),
        command(b"object-info", *(b"oid " + one for one in many)),
    ]

    for request in requests:
        assert b"ERR " in (said := ask(origin, request, 2, limits=limits))
        assert b"no more than 3" in said


def test_many_useless_arguments_cost_no_memory_and_end(origin: Origin) -> None:
    request = io.BytesIO(packets(b"command=fetch") + b"0001" + b"0008done" * 20_001 + b"0000")
    talk = UploadPack(cast(Repository, origin.open()), 2, UploadLimits(lines=20_000))
    tracemalloc.start()

    said = b"".join(talk.answer(request, stateless=True))

    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    talk.close()
    assert b"ERR no more than 20000 arguments may be sent" in said
    assert peak_bytes < 800_000  # as a list they would take 1.2 million


def test_the_first_unknown_argument_ends_a_request(origin: Origin) -> None:
    request = io.BytesIO(packets(b"command=ls-refs") + b"0001" + b"0006ab" * 200_000 + b"0000")
    talk = UploadPack(cast(Repository, origin.open()), 2, UploadLimits())

    said = b"".join(talk.answer(request, stateless=True))
    talk.close()

    assert b"ERR unexpected line: 'ab'" in said
    assert request.tell() < 200_000


@pytest.mark.parametrize("seed", range(20))
def test_a_name_is_found_among_many_prefixes_as_among_few(seed: int) -> None:
    chance = random.Random(seed)
    words = [bytes(chance.choices(b"ab/", k=chance.randint(0, 6))) for _ in range(40)]
    given, names = tuple(words[: chance.randint(1, 12)]), words

    prefixes = Prefixes(given)

    assert [prefixes.begin(name) for name in names] == [name.startswith(given) for name in names]


def test_a_request_that_never_ends_is_stopped(origin: Origin) -> None:
    request = fetch_v2(b"want " + oid(origin, "main"), *(b"have %040x" % number for number in range(5000)))

    said = ask(origin, request, 2, limits=UploadLimits(request_bytes=10_000))

    assert b"ERR a request may be 10000 bytes long" in said


def test_a_search_for_a_blob_stops_at_its_limit(origin: Origin) -> None:
    old = oid(origin, "main~11:top0")

    said = ask(origin, fetch_v2(b"want " + old, b"done"), 2, limits=UploadLimits(searched_trees=3))

    assert b"ERR upload-pack: the history is too large to look for " + old in said


def test_a_pack_that_breaks_off_is_told_on_band_3_and_raised(origin: Origin) -> None:
    opened = origin.open()

    def broken(start: int, end: int) -> Iterator[bytes]:
        yield bytes(min(100, end - start))
        raise Unavailable("blob b_1 is damaged")

    for pack in opened.objects.packs:
        pack.chunks = broken  # type: ignore[method-assign]
    talk = UploadPack(cast(Repository, opened), 2, UploadLimits())
    request = Request(fetch_v2(b"want " + oid(origin, "main"), b"done"))
    said: list[bytes] = []

    with pytest.raises(Unavailable):
        said.extend(talk.answer(request, stateless=True))
    talk.close()

    assert b"".join(said).endswith(pkt(b"\3upload-pack: blob b_1 is damaged\n"))
    assert opened.closed
