"""upload-pack: a client fetches, in protocol version 0, 1 or 2.

Source: git-upload-pack(1), gitprotocol-v2(5), gitprotocol-pack(5), gitprotocol-http(5).
"""

from collections.abc import Iterator

from gitserver.core.errors import Conflict, Failure, Unavailable
from gitserver.git.delivery import Fetching
from gitserver.git.protocol import PacketReader, Reader, error_packet
from gitserver.git.repository import Repository
from gitserver.git.upload_request import Metered, UploadLimits
from gitserver.git.upload_v0 import advertise_v0, answer_v0
from gitserver.git.upload_v2 import advertise_v2, answer_v2
from gitserver.git.wants import ReachableMemory


class UploadPack:
    """One client's fetch from one opened repository, which it closes.

    *memory* may be shared by all fetches of a process; it makes the later fetches of partial clones quick.
    """

    def __init__(
        self, repository: Repository, version: int, limits: UploadLimits, memory: ReachableMemory | None = None
    ) -> None:
        self._repository = repository
        self._version = version
        self._limits = limits
        self._fetching = Fetching(repository.refs, repository.objects, limits, memory)

    def advertise(self) -> Iterator[bytes]:
        """The refs (versions 0 and 1), or what the server can do (version 2)."""
        return advertise_v2() if self._version == 2 else advertise_v0(self._fetching, self._version)

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        """Answer one smart-HTTP request, or hold a whole conversation, which begins with the advertisement.

        What the client did wrong is told to it in an ``ERR`` packet, and the answer then ends.

        Raises:
            Unavailable, Conflict: the repository cannot be read; the client was told, as far as the protocol lets it.
            Failure: any, once the pack has begun: the connection must be broken.
        """
        if not stateless:
            yield from self.advertise()
        reader = PacketReader(Metered(stream, self._limits.request_bytes))
        try:
            yield from self._requests(reader, stateless)
        except Failure as failure:
            if self._fetching.pack_begun:
                raise
            yield error_packet(failure)
            if isinstance(failure, Unavailable | Conflict):
                raise

    def close(self) -> None:
        """Let go of the repository."""
        self._repository.close()

    def _requests(self, reader: PacketReader, stateless: bool) -> Iterator[bytes]:
        if self._version != 2:
            yield from answer_v0(self._fetching, reader, stateless=stateless)
            return
        for _ in range(1 if stateless else self._limits.rounds):
            answer = answer_v2(self._fetching, reader)
            if answer is None:
                break
            yield from answer
            self._fetching.pack_begun = False
