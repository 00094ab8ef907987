"""A repository on a git:// port of this process: the engine with real git clients, without users, TLS or SSH."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from gitserver.core.clock import SystemClock
from gitserver.core.ids import AccountId, RepositoryId, new_repository_id
from gitserver.git.fsck import STRICT, FsckPolicy
from gitserver.git.limits import PushLimits
from gitserver.git.protocol import PacketReader, protocol_version
from gitserver.git.receive import ReceivePack
from gitserver.git.refs import RefUpdate
from gitserver.git.repository import GitStorage
from gitserver.git.rules import PushRules
from gitserver.git.upload import UploadPack
from gitserver.git.upload_request import UploadLimits
from gitserver.storage.database import Database
from gitserver.storage.memory import MemoryBlobStore, MemoryKeyring
from gitserver.storage.vault import Owner, Vault

ACCOUNT = AccountId("123456789012")


class SocketReader:
    """A socket as a Reader."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, size: int, /) -> bytes:
        return self._connection.recv(size)


@dataclass
class Depot:
    """One repository, and a server for it."""

    database: Database
    directory: Path
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    limits: PushLimits = field(default_factory=PushLimits)
    policy: FsckPolicy = STRICT
    rules: PushRules = field(default_factory=PushRules)
    judge: Callable[[RefUpdate], str | None] = lambda change: None
    before_finish: Callable[[], None] = lambda: None
    finished: list[tuple[RefUpdate, ...]] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vault = Vault(self.database, self.blobs, MemoryKeyring(), SystemClock())
        self.storage = GitStorage(self.database, self.vault, SystemClock())
        self.repository_id: RepositoryId = new_repository_id()
        with self.database.transaction() as tx:
            self.storage.create(tx, Owner(ACCOUNT, self.repository_id))

    def receive_pack(self, version: int = 0) -> ReceivePack:
        return ReceivePack(
            self.storage,
            self.storage.open(self.repository_id),
            self.database,
            lambda change: self.judge(change),
            self._finish,
            self.rules,
            self.limits,
            self.policy,
            self.directory,
            version,
        )

    def _finish(self, tx: Session, changes: Sequence[RefUpdate], generation: int, options: Sequence[str]) -> None:
        self.before_finish()
        self.finished.append(tuple(changes))
        self.options.extend(options)

    def refs(self) -> dict[str, str]:
        repository = self.storage.open(self.repository_id)
        repository.close()
        return {name.decode(errors="replace"): oid.hex() for name, oid in repository.refs.refs.items()}

    def blob_names(self) -> list[str]:
        return [info.name for info in self.blobs.list()]

    @contextmanager
    def served(self) -> Iterator[str]:
        """A git:// URL for the repository."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            try:
                yield f"git://127.0.0.1:{listener.getsockname()[1]}/depot"
            finally:
                listener.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            stream = SocketReader(connection)
            packets = PacketReader(stream)
            request = packets.packet()
            assert isinstance(request, bytes)
            command, *extra = request.split(b"\0")
            version = protocol_version(next((word for word in map(bytes.decode, extra) if "version=" in word), ""))
            conversation: ReceivePack | UploadPack
            if command.startswith(b"git-receive-pack"):
                conversation = self.receive_pack(version)
            else:
                conversation = UploadPack(self.storage.open(self.repository_id), version, UploadLimits())
            try:
                for piece in conversation.answer(packets, stateless=False):
                    connection.sendall(piece)
            except OSError:
                pass  # the client has left
            finally:
                conversation.close()


def git(
    *arguments: str | Path, cwd: Path | None = None, stdin: bytes | None = None, check: bool = True, **env: str
) -> str:
    """Run git, away from the machine's own configuration; its output, both kinds."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "A U Thor",
        "GIT_AUTHOR_EMAIL": "author@example.com",
        "GIT_COMMITTER_NAME": "C O Mitter",
        "GIT_COMMITTER_EMAIL": "committer@example.com",
        "GIT_TERMINAL_PROMPT": "0",
        **env,
    }
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "gc.auto=0", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    if check and done.returncode:
        raise AssertionError(f"git {arguments} failed: {output}")
    return output.strip()


def commit(work: Path, message: str, **files: str | bytes) -> str:
    """Write *files* (``a__b`` stands for ``a/b``, and a dot is added by ``_dot_``), commit them; the commit's id."""
    for name, data in files.items():
        path = work / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    git("add", "-A", cwd=work)
    git("commit", "--allow-empty", "-qm", message, cwd=work)
    return git("rev-parse", "HEAD", cwd=work)


def new_work(path: Path) -> Path:
    """An empty repository with a work tree."""
    git("init", "-q", path)
    return path
