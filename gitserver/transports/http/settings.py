"""The limits of the HTTPS door: plain values, handed in by whoever starts it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HttpSettings:
    """Where the door listens and how much a stranger may take of it. Times are in seconds.

    Numbers marked *each* hold for every worker process on its own.
    """

    host: str
    port: int  # 0: any free port, told through ``ready``
    certificate: Path  # PEM, the server's certificate first, then its chain
    private_key: Path  # PEM, without a pass phrase
    workers: int = 2  # processes
    threads: int = 32  # each: requests answered at the same time
    max_concurrent_requests: int = 64  # each: answered or waiting for a thread; beyond it a request is told 503
    max_connections: int = 400  # each: open connections; beyond it the longest idle one is closed
    header_timeout_s: float = 20.0  # for a TLS handshake, and for a request's head once its first byte came
    keep_alive_timeout_s: float = 60.0  # between two requests of one connection
    body_idle_timeout_s: float = 30.0  # without one byte of a request body
    body_timeout_s: float = 3600.0  # for a whole request body
    write_idle_timeout_s: float = 30.0  # without the client taking one byte of a response
    response_timeout_s: float = 7200.0  # for a whole response, from its first byte
    stop_timeout_s: float = 30.0  # for running requests, when told to stop
    max_header_bytes: int = 32768  # a request's line and headers together
    max_header_field_bytes: int = 8190
    max_header_fields: int = 100
    max_request_line_bytes: int = 4096
    max_body_bytes: int = 4 * 2**30  # of a request body, as sent and as inflated
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For counts
