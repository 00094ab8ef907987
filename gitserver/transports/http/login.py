"""Who sends this request, from where."""

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from typing import Protocol

from flask import Request

from gitserver.core.addresses import TrustedProxies, plain_address
from gitserver.core.caller import Caller
from gitserver.core.errors import Denied, Invalid
from gitserver.core.ids import RequestId
from gitserver.core.secret import Secret
from gitserver.transports.http.errors import Unauthenticated
from gitserver.transports.http.exchange import REQUEST_ID

MAX_USER_NAME_CHARS = 256
MAX_PASSWORD_CHARS = 1024
MAX_HOPS = 32
CALLER = "gitserver.caller"  # environ key, for the access log


class InvalidProxy(Invalid):
    """A trusted proxy is neither an address nor a network."""

    def __init__(self, entry: str) -> None:
        super().__init__(f"trusted proxy {entry!r} is neither an address nor a network like 10.0.0.0/8")


class GitCredentials(Protocol):
    """Turns a git credential into a caller."""

    def git_credential(self, user_name: str, password: Secret, address: str, request_id: RequestId) -> Caller:
        """Raises a Denied if they are wrong or expired, a TooMuch after too many tries."""
        ...


class Login:
    """Finds a request's caller.

    Args:
        credentials: knows the users.
        trusted_proxies: addresses or networks whose ``X-Forwarded-For`` is believed.
        realm: what git shows when it asks for a password.
    """

    def __init__(self, credentials: GitCredentials, trusted_proxies: Sequence[str], realm: str) -> None:
        self._credentials = credentials
        self._trusted = TrustedProxies(_checked(entry) for entry in trusted_proxies)
        self._realm = realm

    def caller(self, request: Request) -> Caller:
        """The caller that *request*'s ``Authorization`` proves.

        Raises:
            Unauthenticated: it is absent, not Basic, wrong or expired.
            TooMuch: too many wrong ones came from there.
        Source: RFC 7617.
        """
        user_name, password = self._basic(request.headers.get("Authorization", ""))
        address = self.address(request)
        try:
            caller = self._credentials.git_credential(user_name, password, address, request.environ[REQUEST_ID])
        except Denied as wrong:
            raise Unauthenticated(str(wrong), self._realm) from wrong
        request.environ[CALLER] = caller
        return caller

    def address(self, request: Request) -> str:
        """Where *request* comes from: the last hop that is not a trusted proxy."""
        peer: str = _address(request.environ["REMOTE_ADDR"]) or request.environ["REMOTE_ADDR"]
        hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")[-MAX_HOPS:]]
        while peer in self._trusted and hops:
            hop = _address(hops.pop())
            if hop is None:
                break
            peer = hop
        return peer

    def _basic(self, header: str) -> tuple[str, Secret]:
        scheme, _, encoded = header.partition(" ")
        if not header:
            raise Unauthenticated("sign in with a git user name and password", self._realm)
        if scheme.lower() != "basic":
            raise Unauthenticated("sign in with Basic authentication: a git user name and password", self._realm)
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError) as garbled:
            raise Unauthenticated(
                "the Authorization header is not valid Basic authentication", self._realm
            ) from garbled
        user_name, colon, password = decoded.partition(":")
        if not colon or not user_name or not password:
            raise Unauthenticated("sign in with a git user name and password", self._realm)
        if len(user_name) > MAX_USER_NAME_CHARS or len(password) > MAX_PASSWORD_CHARS:
            raise Unauthenticated("the user name or the password is too long to be one of ours", self._realm)
        return user_name, Secret(password)


def _checked(entry: str) -> str:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError as wrong:
        raise InvalidProxy(entry) from wrong
    return entry


def _address(hop: str) -> str | None:
    try:
        return str(plain_address(hop))
    except ValueError:
        return None
