"""A real HTTPS server process for the door's stories: a certificate authority, a tiny git, and its address."""

import datetime as dt
import ipaddress
import json
import logging
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gitserver.core.arn import user_arn
from gitserver.core.caller import Caller, Proof
from gitserver.core.errors import Conflict, Denied, NotFound, TooMuch
from gitserver.core.ids import AccountId, RequestId
from gitserver.core.secret import Secret
from gitserver.git.protocol import FLUSH_PACKET, Reader, pkt
from gitserver.transports.http.server import HttpSettings, serve
from gitserver.transports.http.wsgi import Door, application

ROOT = Path(__file__).parents[2]
ACCOUNT = AccountId("123456789012")
USER, PASSWORD = "alice-at-123456789012", "correct horse"
TIP = "95d09f2b10159347eece71399a7e2e907ea3df4f"


@dataclass(frozen=True)
class Certificates:
    """Files of a certificate authority made for the test, and of a certificate for localhost."""

    authority: Path
    certificate: Path
    key: Path


class Broken(Exception):
    """What a bug would raise."""


class People:
    """Knows one user. Its user "many" tried too often."""

    def git_credential(self, user_name: str, password: Secret, address: str, request_id: RequestId) -> Caller:
        if user_name == "many":
            raise TooMuch("too many wrong passwords from there; wait a minute")
        if user_name != USER or password != Secret(PASSWORD):
            raise Denied("the user name or the password is wrong, or the credential was revoked")
        proof = Proof("git-credential", "ACCAEXAMPLE")
        return Caller(ACCOUNT, user_arn(ACCOUNT, "alice"), "AIDAEXAMPLE", "alice", proof, address, request_id)


class Tale:
    """A conversation whose repository's name says what happens in it. It writes down what it saw."""

    def __init__(self, name: str, version: int, diary: Path) -> None:
        self.name, self.version, self._diary = name, version, diary

    def advertise(self) -> Iterator[bytes]:
        if self.version == 2:
            yield pkt(b"version 2\n") + pkt(b"agent=tale\n") + pkt(b"ls-refs\n") + FLUSH_PACKET
            return
        yield pkt(TIP.encode() + b" HEAD\0symref=HEAD:refs/heads/main agent=tale\n")
        yield pkt(TIP.encode() + b" refs/heads/main\n") + FLUSH_PACKET

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        seen = 0
        try:
            if self.name.startswith("big-"):
                for _ in range(int(self.name[4:])):
                    yield bytes(2**18)
                return
            if self.name == "fails-midway":
                yield bytes(2**18)
                raise Broken("midway")
            if self.name == "fails-politely-midway":
                yield bytes(2**18)
                raise Conflict("somebody was faster")
            if self.name == "fails-at-once":
                raise Broken("at once")
            if self.name == "busy":
                time.sleep(1.5)
            while data := stream.read(65536):
                seen += len(data)
            if self.version == 2:
                yield pkt(f"{TIP} HEAD symref-target:refs/heads/main\n".encode())
                yield pkt(f"{TIP} refs/heads/main\n".encode()) + FLUSH_PACKET
                return
            yield f"{seen} bytes\n".encode()
        except Exception as failure:
            self._note(f"{self.name} raised {type(failure).__name__} after {seen}")
            raise

    def close(self) -> None:
        self._note(f"{self.name} closed")

    def _note(self, line: str) -> None:
        with self._diary.open("a") as diary:
            diary.write(line + "\n")


class Tales:
    """Opens any repository but two."""

    def __init__(self, diary: Path) -> None:
        self._diary = diary

    def upload_pack(self, caller: Caller, name: str, version: int) -> Tale:
        if name == "denied":
            raise Denied(f"User: {caller.principal} is not authorized to perform: codecommit:GitPull on it")
        if name == "absent":
            raise NotFound("absent does not exist")
        return Tale(name, version, self._diary)

    receive_pack = upload_pack


class Server:
    """The door in a process of its own."""

    def __init__(self, folder: Path, certificates: Certificates, **limits: Any) -> None:
        self.folder, self.certificates, self._limits = folder, certificates, limits
        self.diary, self.log = folder / "diary", folder / "log"
        self.diary.touch()
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "Server":
        files = [self.certificates.certificate, self.certificates.key, self.diary]
        command = [
            sys.executable,
            "-m",
            "tests.scenarios.http_door",
            str(self.port),
            json.dumps(self._limits),
            *map(str, files),
        ]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(10)
            self.stop()
            raise AssertionError(self.log.read_text())
        self.port = int(line)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, how: int = signal.SIGTERM) -> float:
        """Seconds it took."""
        began = time.monotonic()
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(40)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None
        return time.monotonic() - began

    def url(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"

    def connect(self, *, receive_buffer: int | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.certificates.authority)
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(10)
        plain.connect(("127.0.0.1", self.port))
        return context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)

    def diary_says(self, line: str, within_s: float = 5.0) -> bool:
        limit = time.monotonic() + within_s
        while time.monotonic() < limit:
            if line in self.diary.read_text().splitlines():
                return True
            time.sleep(0.02)
        return False

    def access_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def make_certificates(folder: Path) -> Certificates:
    """An authority, and a certificate of its for localhost and 127.0.0.1."""
    now = dt.datetime.now(dt.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    authority = (
        builder(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def main() -> None:
    """Be the server: port, limits as JSON, certificate, key, diary."""
    port, limits, certificate, key = int(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    diary = Path(sys.argv[5])
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="%(message)s")
    settings = HttpSettings("127.0.0.1", port, certificate, key, **{"workers": 1, "threads": 16, **limits})

    def close() -> None:
        with diary.open("a") as page:
            page.write("the application closed\n")

    def build() -> Door:
        return application(
            Tales(diary),
            People(),
            max_body_bytes=settings.max_body_bytes,
            trusted_proxies=settings.trusted_proxies,
            on_close=close,
        )

    serve(build, settings, lambda _host, port: print(port, flush=True))  # noqa: T201  # the test reads it


if __name__ == "__main__":
    main()
