"""What a received pack's objects say, and whether all they name is there.

A pack is *closed* if every object that one of its objects names is in it or in the repository. Only closed packs are
accepted, and maintenance keeps packs closed, so one look at each name answers for a whole history.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

from gitserver.git.fsck import STRICT, FsckPolicy, FsckRefused, check_object
from gitserver.git.gitmodules import check_gitattributes, check_gitmodules
from gitserver.git.limits import PackLimits
from gitserver.git.objects import OID_BYTES, Kind, ObjectId, commit_links, tag_links
from gitserver.git.pack_format import PackDamaged
from gitserver.git.pack_scan import PackTable

# Id, kind and bytes; the bytes None where the file is too large to be looked at, the kind None where there is no such
# object, because a submodule has the file's name.
SpecialBlob = tuple[ObjectId, Kind | None, bytes | None]


class Held(Protocol):
    """The objects that a repository holds already."""

    def __contains__(self, oid: ObjectId, /) -> bool:
        """Whether the object is there."""
        ...

    def kind(self, oid: ObjectId) -> Kind:
        """The object's kind."""
        ...


class Examination:
    """Collects what commits, trees and tags name, checking each as it comes."""

    def __init__(self, limits: PackLimits, policy: FsckPolicy = STRICT) -> None:
        self._limits, self._policy = limits, policy
        self._named: dict[Kind, set[bytes]] = {kind: set() for kind in Kind}
        self.gitmodules: set[bytes] = set()
        self.gitattributes: set[bytes] = set()

    def examine(self, oid: ObjectId, kind: Kind, data: bytes) -> None:
        """Check one commit, tree or tag, and note what it names.

        Raises:
            FsckRefused: the object breaks a rule of git fsck.
            LimitReached: it has too many bytes of headers.
        """
        links = check_object(kind, oid, data, self._limits, self._policy)
        if links:
            self._named[Kind.TREE].update(links.trees)
            self._named[Kind.BLOB].update(links.blobs)
            self.gitmodules.update(links.gitmodules)
            self.gitattributes.update(links.gitattributes)
        elif kind is Kind.COMMIT:
            commit = commit_links(data)
            self._named[Kind.TREE].add(commit.tree)
            self._named[Kind.COMMIT].update(commit.parents)
        elif kind is Kind.TAG:
            target = tag_links(data)
            self._named[target.kind].add(target.target)

    def absent(self, table: PackTable, held: Held) -> Iterator[ObjectId]:
        """What is named, but neither in the pack nor in the repository.

        Raises:
            PackDamaged: an object is not of the kind that another one takes it for.
        """
        self._strike_out(table)
        if any(self._named.values()):
            self._refuse_mismatches(table)
        for kind, named in self._named.items():
            for name in named:
                oid = ObjectId(name)
                if oid not in held:
                    yield oid
                elif held.kind(oid) is not kind:
                    raise _mismatch(oid, kind)

    def _strike_out(self, table: PackTable) -> None:
        """Forget what is named and is there, as what it is named for."""
        named = [self._named.get(Kind(number)) if number else None for number in range(5)]
        oids = bytes(table.oids)
        for number, kind in enumerate(table.kinds):
            known = named[kind]
            if known is not None:
                known.discard(oids[number * OID_BYTES : (number + 1) * OID_BYTES])

    def _refuse_mismatches(self, table: PackTable) -> None:
        for number in range(len(table)):
            oid = table.oid(number)
            for kind, named in self._named.items():
                if oid in named:
                    raise _mismatch(oid, kind)


def check_special_blobs(
    gitmodules: Iterable[SpecialBlob], gitattributes: Iterable[SpecialBlob], policy: FsckPolicy
) -> None:
    """Check the contents of ``.gitmodules`` and ``.gitattributes`` files.

    Raises:
        FsckRefused: one of them breaks a rule that is insisted on.
    """
    for check, files in ((check_gitmodules, gitmodules), (check_gitattributes, gitattributes)):
        for oid, kind, data in files:
            found = check(kind, data)
            finding = policy.first(oid, iter([found] if found else []))
            if finding:
                raise FsckRefused(oid, finding)


def _mismatch(oid: ObjectId, kind: Kind) -> PackDamaged:
    return PackDamaged(f"object type mismatch: {oid.hex()} is not a {kind.word.decode()}")
