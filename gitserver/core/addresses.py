"""Network addresses: one spelling for each, and the part of it that one customer holds."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_MAX_CHARS = 64


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """The address, without a zone, and an IPv4 address that was mapped into IPv6 as itself.

    Raises:
        ValueError: *text* is no address.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def network_of(address: str) -> str:
    """What counts as one customer: all of an IPv4 address; the /64 of an IPv6 address, whose hosts choose freely in it.

    Text that is no address at all (``local``, a UNIX socket) is cut to 64 characters and stands for itself.
    """
    try:
        plain = plain_address(address)
    except ValueError:
        return address[:_MAX_CHARS]
    if isinstance(plain, IPv4Address):
        return str(plain)
    return str(ip_network((plain, 64), strict=False))


class TrustedProxies:
    """The addresses of proxies whose word about a client's address counts."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Take addresses and networks such as ``10.0.0.7`` or ``10.1.0.0/16``.

        Raises:
            ValueError: one of them is neither.
        """
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(entry, strict=False) for entry in entries]

    def __contains__(self, address: object) -> bool:
        try:
            plain = plain_address(str(address))
        except ValueError:
            return False
        return any(plain in network for network in self._networks)
