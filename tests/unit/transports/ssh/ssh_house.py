"""A running SSH door over small real classes: a key ring and repositories that stream, hash, wait or fail."""

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gitserver.core.arn import user_arn
from gitserver.core.caller import Caller, Proof
from gitserver.core.errors import Denied, NotFound
from gitserver.core.ids import AccountId, RequestId
from gitserver.git.protocol import Reader
from gitserver.transports.ssh.host_keys import fingerprint, make_host_keys
from gitserver.transports.ssh.listener import Listener, quiet_paramiko
from gitserver.transports.ssh.settings import SshSettings

ACCOUNT = AccountId("123456789012")
PIECE = bytes(range(256)) * 1024


@dataclass(frozen=True)
class Offer:
    """A known key."""

    key_id: str
    name: str


class KeyRing:
    """Keys in memory."""

    def __init__(self) -> None:
        self.offers: dict[str, Offer] = {}

    def ssh_key(self, user_name: str, key: bytes) -> Offer | None:
        offer = self.offers.get(fingerprint(key))
        return offer if offer and user_name in ("git", offer.key_id) else None

    def ssh_caller(self, offer: Offer, address: str, request_id: RequestId) -> Caller:
        if offer not in self.offers.values():
            raise Denied("the SSH key was deleted")
        return Caller(
            account=ACCOUNT,
            principal=user_arn(ACCOUNT, offer.name),
            principal_id="AIDA" + offer.name.upper(),
            name=offer.name,
            proof=Proof("ssh-key", offer.key_id),
            address=address,
            request_id=request_id,
        )

    def revoke(self, name: str) -> None:
        self.offers = {print_: offer for print_, offer in self.offers.items() if offer.name != name}


class Talk:
    """A conversation that does what its repository is called."""

    def __init__(self, house: "House", words: str, name: str) -> None:
        self._house = house
        self._words = words
        self._name = name

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        assert stateless is False
        kind, _, number = self._name.partition("-")
        if kind == "down":
            left = int(number)
            while left:
                yield PIECE[:left]
                left -= min(left, len(PIECE))
        elif kind == "sink":
            while stream.read(2**18):
                pass
        elif kind == "up":
            digest = hashlib.sha256()
            try:
                while data := stream.read(2**18):
                    assert len(data) <= 2**18
                    digest.update(data)
            except Exception as reason:
                self._house.failures.append(reason)
                raise
            yield digest.hexdigest().encode()
        elif kind == "wait":
            yield b"waiting"
            self._house.release.wait(30)
            yield b"done"
        elif kind == "broken":
            yield b"half"
            raise RuntimeError("the engine fell over a secret")
        elif kind == "late":
            yield b"half"
            raise NotFound("an object went missing")
        else:
            yield self._words.encode()

    def close(self) -> None:
        self._house.closed.append(self._name)
        self._house.one_closed.set()


class Repositories:
    """Opens talks."""

    def __init__(self, house: "House") -> None:
        self._house = house

    def upload_pack(self, caller: Caller, name: str, version: int) -> Talk:
        return self._open(caller, name, f"fetch {name} v{version} for {caller.name}")

    def receive_pack(self, caller: Caller, name: str, version: int) -> Talk:
        return self._open(caller, name, f"push {name} v{version} for {caller.name}")

    def upload_archive(self, caller: Caller, name: str) -> Talk:
        return self._open(caller, name, f"archive {name} for {caller.name}")

    def _open(self, caller: Caller, name: str, words: str) -> Talk:
        self._house.callers.append(caller)
        if name == "absent":
            raise NotFound("absent does not exist")
        if name == "denied":
            raise Denied("User: x is not authorized to perform: codecommit:GitPull\nask your administrator")
        return Talk(self._house, words, name)


@dataclass(frozen=True)
class Key:
    """A client's key pair."""

    path: Path
    public: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.pkey.asbytes())

    @property
    def pkey(self) -> paramiko.PKey:
        return paramiko.Ed25519Key.from_private_key_file(str(self.path))


class House(AbstractContextManager["House"]):
    """The door on a free port of the loopback interface, in a thread."""

    def __init__(self, home: Path, host_keys: Path, **changes: object) -> None:
        self.home = home
        self.keys = KeyRing()
        self.failures: list[Exception] = []
        self.closed: list[str] = []
        self.one_closed = threading.Event()
        self.release = threading.Event()
        self.callers: list[Caller] = []
        self.failed: list[tuple[str, str, str]] = []
        self.settings = replace(SshSettings("127.0.0.1", 0, stop_s=2.0), **changes)  # type: ignore[arg-type]
        self.host_keys = make_host_keys(host_keys)
        self._stop = threading.Event()

    def __enter__(self) -> "House":
        quiet_paramiko()
        self.listener = Listener(
            self.settings, self.host_keys, self.keys, Repositories(self), lambda *words: self.failed.append(words)
        )
        self.port = self.listener.address[1]
        self._thread = threading.Thread(target=self.listener.run, args=(self._stop,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def key(self, name: str, *, known: bool = True) -> Key:
        key = make_key(self.home / f"{name}.key")
        if known:
            self.keys.offers[key.fingerprint] = Offer(f"APKA{name.upper()}", name)
        return key

    def ssh_command(self, key: Key, user: str = "git", *options: str) -> list[str]:
        words = ["ssh", "-F", "/dev/null", "-p", str(self.port), "-i", str(key.path)]
        for option in (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"UserKnownHostsFile={self.home / 'known'}",
            "LogLevel=ERROR",
            *options,
        ):
            words += ["-o", option]
        return [*words, f"{user}@127.0.0.1"]

    def ssh(
        self, key: Key, command: str | None, user: str = "git", *options: str, feed: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        words = self.ssh_command(key, user, *options)
        return subprocess.run(
            words if command is None else [*words, command], input=feed, capture_output=True, timeout=60, check=False
        )

    def transport(self, **words: object) -> paramiko.Transport:
        """A paramiko client's connection, its key exchange done and nothing proven yet."""
        transport = paramiko.Transport(("127.0.0.1", self.port), **words)
        transport.start_client(timeout=10)
        return transport

    def client(self, key: Key, user: str = "git", **words: object) -> paramiko.Transport:
        transport = self.transport(**words)
        transport.auth_publickey(user, key.pkey)
        return transport


def make_key(path: Path) -> Key:
    private = Ed25519PrivateKey.generate()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    return Key(path, private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def run(transport: paramiko.Transport, command: str, feed: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run *command* on a channel of its own. Returns: status, output, error output."""
    channel = transport.open_session(timeout=10)
    channel.settimeout(20)
    channel.exec_command(command)
    channel.sendall(feed)
    channel.shutdown_write()
    output = b"".join(iter(lambda: channel.recv(2**16), b""))
    error = b"".join(iter(lambda: channel.recv_stderr(2**16), b""))
    return channel.recv_exit_status(), output, error


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether *true* became so in time."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if true():
            return True
        pause.wait(0.02)
    return true()
