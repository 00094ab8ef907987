"""The doctor: looks at every part an operator can get wrong, and says how to mend it.

Each check yields findings and raises nothing; what it cannot look at is a finding too.
"""

import datetime as dt
import ipaddress
import itertools
import os
import random
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from gitserver.config import Config, parse_address
from gitserver.core.errors import Failure
from gitserver.operations import guard

if TYPE_CHECKING:
    from gitserver.app import Services

Level = Literal["OK", "WARN", "FAIL"]

PATIENCE_S = 5.0  # for an answer at a door
RENEW_WITHIN = dt.timedelta(days=30)
LEAST_FREE_BYTES = 2 << 30
SAMPLE = 50  # blobs opened wholly, at most …
SAMPLE_BYTES = 64 << 20  # … and no more than this, sealed
CLOCK_TOLERANCE_S = 5.0

_STRANGER = "another program has this port: stop it, or choose another with https.listen or ssh.listen"


@dataclass(frozen=True)
class Finding:
    """What one look found."""

    check: str
    level: Level
    what: str
    fix: str = ""  # a command or an instruction; never empty where the level is FAIL


Check = Callable[[Config], Iterator[Finding]]


def examine(config: Config, only: str | None = None) -> Iterator[Finding]:
    """Run every check, or the one named *only*."""
    for name, check in CHECKS.items():
        if only not in (None, name):
            continue
        try:
            yield from check(config)
        except Failure as failure:
            what, _, fix = str(failure).rpartition("; ")
            yield Finding(name, "FAIL", what or fix, fix)
        except FileNotFoundError as absent:
            fix = "bring it back: gitserver keys restore FILE if it is a key, else from a backup"
            yield Finding(name, "FAIL", f"{absent.filename} is missing", fix)
        except OSError as refused:
            yield Finding(name, "FAIL", f"cannot look: {refused}", "run the doctor as the user who runs the server")


def _permissions(config: Config) -> Iterator[Finding]:
    found = guard.problems(config)
    for problem in found:
        what, _, fix = str(problem).rpartition("; ")
        yield Finding("permissions", "FAIL", what or fix, fix)
    owner = config.data.stat().st_uid
    if owner != os.geteuid():
        fix = f"run as that user, or: chown -R {os.geteuid()} {config.data} {config.key_directory}"
        yield Finding("permissions", "WARN", f"{config.data} belongs to user id {owner}, and this is another", fix)
    if not found:
        yield Finding("permissions", "OK", f"{config.data} and {config.key_directory} are closed to others")


def _keys(config: Config) -> Iterator[Finding]:
    with _services(config) as services:
        bad = [*services.keyring.problems(), *services.vault.problems()]
        for problem in bad:
            yield Finding("keys", "FAIL", problem, "put the keys back: gitserver keys restore FILE")
        if not bad:
            yield Finding("keys", "OK", "the master key opens every other key")
    if config.data.stat().st_dev == config.key_directory.stat().st_dev:
        what = "the keys are on the same disk as the data they open"
        yield Finding("keys", "WARN", what, "set keys.directory to another disk, or encrypt this one")


def _database(config: Config) -> Iterator[Finding]:
    from gitserver.storage import migrate

    with _services(config) as services:
        problems = services.database.problems()
        for problem in problems:
            yield Finding("database", "FAIL", problem, "stop the server and restore the last backup")
        found, wanted = migrate.revision(services.database), migrate.head()
    if found != wanted:
        what = f"the tables are at version {found}, and this gitserver wants {wanted}"
        yield Finding("database", "FAIL", what, "gitserver backup TO, then gitserver db upgrade")
    elif not problems:
        yield Finding("database", "OK", f"sound, at version {found}")


def _blobs(config: Config) -> Iterator[Finding]:
    with _services(config) as services:
        with services.database.reading() as tx:
            every = list(services.vault.catalogue(tx))
        picked, budget = [], SAMPLE_BYTES
        for blob in random.sample(every, min(SAMPLE, len(every))):
            if blob.sealed_bytes <= budget:
                budget -= blob.sealed_bytes
                picked.append(blob)
        damaged = 0
        for blob in picked:
            try:
                reader = services.vault.open(blob)
                try:
                    for _ in reader.chunks():
                        pass
                finally:
                    reader.close()
            except Failure as failure:
                damaged += 1
                yield Finding("blobs", "FAIL", str(failure), "gitserver verify, then restore what it names")
    if not damaged:
        yield Finding("blobs", "OK", f"{len(picked)} of {len(every)} blobs opened, every byte authentic")


def _disk(config: Config) -> Iterator[Finding]:
    for directory in dict.fromkeys((config.data, config.blobs if config.blobs.exists() else config.data)):
        usage = shutil.disk_usage(directory)
        inodes = os.statvfs(directory)
        free = f"{usage.free / 2**30:.1f} GiB free at {directory}"
        if usage.free < LEAST_FREE_BYTES or usage.free < usage.total * 0.02:
            level: Level = "FAIL" if usage.free < LEAST_FREE_BYTES // 8 else "WARN"
            yield Finding("disk", level, f"only {free}", "make room, or move storage.blobs to a larger disk")
        elif inodes.f_files and inodes.f_favail < 10_000:
            yield Finding("disk", "WARN", f"only {inodes.f_favail} files more fit at {directory}", "make room")
        else:
            yield Finding("disk", "OK", free)


def _clock(config: Config) -> Iterator[Finding]:
    probe = config.data / f".clock-{os.getpid()}"
    probe.touch(mode=0o600)
    try:
        drift_s = abs(probe.stat().st_mtime - time.time())
    finally:
        probe.unlink()
    newest = max((path.stat().st_mtime for path in config.data.iterdir()), default=0.0)
    fix = "set the clock: timedatectl set-ntp true"
    if drift_s > CLOCK_TOLERANCE_S:
        yield Finding("clock", "WARN", f"the file system's clock is {drift_s:.0f} s away from the machine's", fix)
    elif newest - time.time() > CLOCK_TOLERANCE_S:
        yield Finding("clock", "FAIL", "there are files from the future: the clock was set back", fix)
    else:
        yield Finding("clock", "OK", dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))


def _tls(config: Config) -> Iterator[Finding]:
    chain = x509.load_pem_x509_certificates(config.certificate.read_bytes())
    now, leaf = dt.datetime.now(dt.UTC), chain[0]
    renew = "gitserver keys renew-certificate, then restart the server"
    if config.https.certificate:
        renew = f"put a new certificate at {config.certificate}, then restart the server"
    for certificate in chain:
        name, ends = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
        if not certificate.not_valid_before_utc <= now < ends:
            yield Finding("tls", "FAIL", f"{name} is not valid now: {ends:%Y-%m-%d} was its last day", renew)
        elif ends - now < RENEW_WITHIN:
            yield Finding("tls", "WARN", f"{name} ends on {ends:%Y-%m-%d}", renew)
    for below, above in itertools.pairwise(chain):
        try:
            below.verify_directly_issued_by(above)
        except (InvalidSignature, ValueError, TypeError):
            yield Finding("tls", "FAIL", f"{config.certificate} is not a chain: each must sign the one before", renew)
    if stat.S_IMODE(config.private_key.stat().st_mode) & 0o077:
        yield Finding("tls", "FAIL", f"{config.private_key} is open to others", f"chmod 600 {config.private_key}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.certificate, config.private_key)
    except (OSError, ssl.SSLError) as unusable:
        yield Finding("tls", "FAIL", f"certificate and key do not belong together: {unusable}", renew)
        return
    host = urlsplit(config.public_url).hostname or ""
    if not _is_for(leaf, host):
        yield Finding("tls", "FAIL", f"the certificate is not for {host}, the host of server.public_url", renew)
    else:
        yield Finding("tls", "OK", f"for {host}, until {leaf.not_valid_after_utc:%Y-%m-%d}")


def _ports(config: Config) -> Iterator[Finding]:
    for door, text in (("https", config.https.listen), ("ssh", config.ssh.listen)):
        address = parse_address(text)
        if address.port == 0:
            yield Finding("ports", "OK", f"{door} takes any free port, which is not known here")
            continue
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - everywhere includes here
        try:
            socket.create_connection((host, address.port), PATIENCE_S).close()
        except OSError as refused:
            fix = f"start the server (gitserver serve), or correct {door}.listen"
            yield Finding("ports", "FAIL", f"nothing listens on {address}: {refused.strerror or refused}", fix)
        else:
            yield Finding("ports", "OK", f"something listens on {address}")


def _doors(config: Config) -> Iterator[Finding]:
    yield from _https_door(config)
    yield from _ssh_door(config)


CHECKS: dict[str, Check] = {
    "permissions": _permissions,
    "keys": _keys,
    "database": _database,
    "blobs": _blobs,
    "disk": _disk,
    "clock": _clock,
    "tls": _tls,
    "ports": _ports,
    "doors": _doors,
}


@contextmanager
def _services(config: Config) -> Iterator["Services"]:
    from gitserver import app

    guard.check(config)
    services = app.build(config)
    try:
        yield services
    finally:
        services.close()


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        dns = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
        return host.lower() in dns or f"*.{host.lower().partition('.')[2]}" in dns


def _https_door(config: Config) -> Iterator[Finding]:
    parts = urlsplit(config.public_url)
    url = config.public_url
    context = ssl.create_default_context()
    if config.ca_certificate.exists():
        context.load_verify_locations(config.ca_certificate)
    host, port = parts.hostname or "localhost", parts.port or 443
    request = f"GET /healthz HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
    try:
        with (
            socket.create_connection((host, port), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as sealed,
        ):
            sealed.sendall(request)
            status = sealed.recv(64).split(b" ")
    except ssl.SSLCertVerificationError as refused:
        yield Finding("doors", "FAIL", f"{url} does not prove who it is: {refused}", _wrong_certificate(config))
    except ssl.SSLError as refused:
        yield Finding("doors", "FAIL", f"{url} does not speak TLS as this server does: {refused}", _STRANGER)
    except OSError as refused:
        yield Finding("doors", "FAIL", f"{url} does not answer: {refused}", _not_reached(config, "https"))
    else:
        if len(status) > 1 and status[1] == b"200":
            yield Finding("doors", "OK", f"{url} answers, and its certificate is trusted")
        else:
            yield Finding("doors", "FAIL", f"{url} answers something else", _STRANGER)


def _ssh_door(config: Config) -> Iterator[Finding]:
    parts = urlsplit(config.ssh_url)
    host, port = parts.hostname or "localhost", parts.port or 22
    try:
        with socket.create_connection((host, port), PATIENCE_S) as connection:
            connection.settimeout(PATIENCE_S)
            banner = connection.recv(255)
    except OSError as refused:
        yield Finding("doors", "FAIL", f"{config.ssh_url} does not answer: {refused}", _not_reached(config, "ssh"))
        return
    if banner.startswith(b"SSH-2.0-"):
        yield Finding("doors", "OK", f"{config.ssh_url} answers: {banner.split()[0].decode(errors='replace')}")
    else:
        yield Finding("doors", "FAIL", f"{config.ssh_url} is no SSH server", _STRANGER)


def _not_reached(config: Config, door: str) -> str:
    listen = parse_address(config.https.listen if door == "https" else config.ssh.listen)
    return f"start the server (gitserver serve), which listens on {listen}; if it runs, correct {door}'s public URL"


def _wrong_certificate(config: Config) -> str:
    if config.https.certificate:
        return "give https.certificate the whole chain, up to an authority that clients trust"
    return "if another server has this port, stop it; if not: gitserver keys renew-certificate, then restart the server"
