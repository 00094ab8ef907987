"""Addresses as both doors, the journal and the back-off see them."""

import pytest

from gitserver.core.addresses import TrustedProxies, plain_address


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fe80::1%eth0"])
def test_a_trusted_network_holds_its_addresses_however_they_are_written(address: str) -> None:
    proxies = TrustedProxies(["10.0.0.0/8", "fe80::/10"])

    assert address in proxies


@pytest.mark.parametrize("address", ["11.0.0.1", "::10.1.2.3", "unix:", "", "10.1.2.3, 10.1.2.4"])
def test_nothing_else_is_trusted(address: str) -> None:
    assert address not in TrustedProxies(["10.0.0.0/8"])


def test_an_ipv4_address_in_ipv6_is_itself() -> None:
    assert str(plain_address("::ffff:192.0.2.1")) == "192.0.2.1"
