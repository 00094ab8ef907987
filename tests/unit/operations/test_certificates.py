"""The local certificate authority, judged by OpenSSL and GnuTLS's rules as Python's ssl has them."""

import datetime as dt
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from gitserver import config as configuration
from gitserver.config import Config
from gitserver.core.clock import FixedClock, SystemClock
from gitserver.operations.certificates import make_certificates, renew_certificate


def config_for(data: Path, public_url: str = "https://localhost:8443") -> Config:
    data.mkdir(mode=0o700, exist_ok=True)
    return configuration.combine(data, f'[server]\npublic_url = "{public_url}"\n'.encode(), {})


def shakes_hands(config: Config, name: str) -> bool:
    """Whether a client that trusts the CA accepts the server under *name*."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(config.certificate, config.private_key)
    client = ssl.create_default_context(cafile=str(config.ca_certificate))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=name).close()
    except ssl.SSLError:
        return False
    finally:
        ours.close()
        thread.join()
    return True


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "git.example.com"])
def test_clients_that_trust_the_ca_accept_the_server_under_each_of_its_names(tmp_path: Path, name: str) -> None:
    config = config_for(tmp_path / "data", "https://git.example.com")

    make_certificates(config, SystemClock())

    assert shakes_hands(config, name)


def test_clients_do_not_accept_another_name(tmp_path: Path) -> None:
    config = config_for(tmp_path / "data")

    make_certificates(config, SystemClock())

    assert not shakes_hands(config, "git.example.com")


def test_the_authority_can_sign_for_this_server_only(tmp_path: Path) -> None:
    config = config_for(tmp_path / "data", "https://git.example.com")

    make_certificates(config, SystemClock())

    authority = x509.load_pem_x509_certificate(config.ca_certificate.read_bytes())
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    names = constraints.value.permitted_subtrees or []
    assert constraints.critical
    assert [str(one.value) for one in names] == ["git.example.com", "localhost", "127.0.0.1/32", "::1/128"]


def test_private_keys_are_closed_to_others_and_outside_the_data_directory(tmp_path: Path) -> None:
    config = config_for(tmp_path / "data")

    make_certificates(config, SystemClock())

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (config.ca_key, config.private_key)]
    assert modes == [0o600, 0o600]
    assert not [path for path in config.data.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]


def test_a_renewed_certificate_is_signed_by_the_same_authority(tmp_path: Path) -> None:
    config = config_for(tmp_path / "data")
    make_certificates(config, SystemClock())
    authority, before = config.ca_certificate.read_bytes(), config.certificate.read_bytes()

    stayed = renew_certificate(config, SystemClock())

    assert stayed
    assert config.ca_certificate.read_bytes() == authority
    assert config.certificate.read_bytes() != before
    assert shakes_hands(config, "localhost")


def test_a_server_that_moves_to_another_host_gets_a_new_authority(tmp_path: Path) -> None:
    make_certificates(config_for(tmp_path / "data"), SystemClock())
    moved = config_for(tmp_path / "data", "https://git.example.com")

    stayed = renew_certificate(moved, SystemClock())

    assert not stayed
    assert shakes_hands(moved, "git.example.com")


def test_an_authority_that_ends_before_the_certificate_would_is_replaced(tmp_path: Path) -> None:
    config = config_for(tmp_path / "data")
    clock = FixedClock()
    make_certificates(config, clock)
    clock.advance(dt.timedelta(days=9 * 365))

    stayed = renew_certificate(config, clock)

    assert not stayed
