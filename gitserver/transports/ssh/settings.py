"""The limits of the SSH door: plain values, handed in by whoever starts it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SshSettings:
    """Where the door listens and how much a stranger may take of it. Times are in seconds."""

    host: str
    port: int  # 0: any free port, told through ``ready``
    max_connections: int = 200  # at once; more are closed at the door
    max_unauthenticated: int = 50  # that are proving who they are at once; more wait their turn
    max_unauthenticated_per_address: int = 20  # the same, of one address (IPv6: of one /64)
    login_s: float = 30.0  # from the first byte to a verified signature, and for waiting before it
    login_attempts: int = 10  # keys refused on one connection before it is closed
    max_sessions: int = 10  # commands running at once on one connection
    idle_s: float = 300.0  # without a byte from the client, or without it taking one
    keepalive_s: int = 60  # after which a silent peer is probed (TCP)
    stop_s: float = 30.0  # for running commands, when told to stop
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks that must speak the PROXY protocol; empty: nobody may
