"""The local certificate authority, and the server certificate it signs.

The authority is constrained to the names the server has: whoever steals its key can pose as this server and as
nobody else. Source: RFC 5280, sections 4.2.1.6 (names) and 4.2.1.10 (constraints).
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gitserver.config import Config
from gitserver.core.clock import Clock

AUTHORITY_LIFE = timedelta(days=3653)  # ten years
SERVER_LIFE = timedelta(days=825)  # the longest that Apple's clients accept
_BACKDATED = timedelta(hours=1)  # for clients whose clock is a little behind
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_P256 = ec.SECP256R1()


@dataclass(frozen=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def make_certificates(config: Config, clock: Clock) -> None:
    """Write a new authority and a server certificate signed by it."""
    names = server_names(config.public_url)
    authority = _authority(names, clock.now())
    _write(config.ca_key, authority.key_pem(), 0o600)
    _write(config.ca_certificate, authority.certificate_pem(), 0o644)
    _sign_server(config, authority, names, clock.now())


def renew_certificate(config: Config, clock: Clock) -> bool:
    """Write a new server certificate, with a new key.

    Returns:
        Whether the authority stayed. It is replaced, and clients must be given the new CA file, where it expires too
        soon or is not allowed to sign for the host of ``public_url``.
    """
    names = server_names(config.public_url)
    authority = _read_authority(config)
    ends = authority.certificate.not_valid_after_utc
    if ends < clock.now() + SERVER_LIFE or not _may_sign(authority.certificate, names):
        make_certificates(config, clock)
        return False
    _sign_server(config, authority, names, clock.now())
    return True


def server_names(public_url: str) -> list[str]:
    """The host names and addresses the certificate is for: the public one, then the local ones."""
    host = urlsplit(public_url).hostname or "localhost"
    return list(dict.fromkeys((host, *_LOCAL_NAMES)))


def _sign_server(config: Config, authority: _Pair, names: Sequence[str], now: datetime) -> None:
    server = _server(authority, names, now)
    private_key = config.key_directory / "tls" / "server.key"
    _write(private_key, server.key_pem(), 0o600)
    chain = server.certificate_pem() + authority.certificate_pem()
    _write(config.data / "tls" / "server.pem", chain, 0o644)


def _authority(names: Sequence[str], now: datetime) -> _Pair:
    key = ec.generate_private_key(_P256)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gitserver local CA for {names[0]}"[:64])])
    certificate = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.NameConstraints([_permitted(one) for one in names], None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _server(authority: _Pair, names: Sequence[str], now: datetime) -> _Pair:
    key = ec.generate_private_key(_P256)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    signer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, authority.certificate.subject, key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(one) for one in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now - _BACKDATED + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _permitted(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(ipaddress.ip_network(address))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _may_sign(authority: x509.Certificate, names: Sequence[str]) -> bool:
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    allowed = constraints.permitted_subtrees or []
    return all(_permitted(name) in allowed for name in names)


def _read_authority(config: Config) -> _Pair:
    certificate = x509.load_pem_x509_certificate(config.ca_certificate.read_bytes())
    key = serialization.load_pem_private_key(config.ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - we wrote it
    return _Pair(certificate, key)


def _write(path: Path, text: bytes, mode: int) -> None:
    """Replace *path* at once; it never exists with a wider mode or half its text."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    beside.rename(path)
