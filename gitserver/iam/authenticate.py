"""Who is this: from what a stranger shows to a Caller.

Invariants:
- A name or key that does not exist *must* cost what a wrong password costs: one query, one hash, one comparison.
- An SSH offer is not an identity: anybody may show a public key. Only ``ssh_caller``, called after the signature was
  verified, makes a Caller, and it reads the row again, as the key may have been revoked meanwhile.
- Why somebody failed is not said: an unknown name, a wrong password and an inactive credential read the same.

Back-off (backoff.py) is for what can be guessed. SSH keys cannot be, and an agent with six keys fails five times on
every ordinary day, so a key that is not known makes nobody wait; the SSH door tells the journal of a connection that
ended without anybody proving who they are.
"""

import hmac
import re
import secrets
from dataclasses import dataclass

from sqlalchemy import select

from gitserver.core.caller import Caller, Method, Proof
from gitserver.core.clock import Clock
from gitserver.core.errors import Denied
from gitserver.core.ids import RequestId
from gitserver.core.secret import Secret
from gitserver.iam.backoff import BackOff, BackOffLimits, TooManyFailures
from gitserver.iam.credentials import hash_git_password
from gitserver.iam.public_keys import LONGEST_KEY, fingerprint
from gitserver.iam.tables import GitCredentialRow, SSHKeyRow, UserRow
from gitserver.journal.journal import Journal
from gitserver.storage.database import Database

GIT_USER = "git"  # finds the key by its fingerprint

_GIT_USER_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{1,200}")
_NOBODY = "-"  # no credential is ever called this
_LONGEST_PASSWORD = 1024  # characters; ours have 44


class AuthenticationFailed(Denied):
    """They did not prove who they are. Doors ask again: 401 over HTTPS."""

    code = "UnrecognizedClientException"


@dataclass(frozen=True)
class SSHKeyOffer:
    """A public key that somebody showed and that is known here. Not an identity."""

    ssh_public_key_id: str  # APKA…
    fingerprint: str


class Authenticator:
    """Turns credentials into callers. Safe to use from many threads."""

    def __init__(self, database: Database, journal: Journal, clock: Clock, limits: BackOffLimits | None = None) -> None:
        self._db = database
        self._journal = journal
        self._backoff = BackOff(clock, limits)
        self._nothing = secrets.token_bytes(32)  # compared with where there is no such credential

    def git_credential(self, user_name: str, password: Secret, address: str, request_id: RequestId) -> Caller:
        """Git over HTTPS, with Basic.

        Args:
            user_name: the generated one, such as ``alice-at-123456789012``.
            password: what came with it.
            address: where from, after trusted proxies.
            request_id: of this request.

        Raises:
            AuthenticationFailed: wrong, unknown, inactive or revoked.
            TooManyFailures: this name from there, or that network, has to wait; nothing was checked.
        """
        name = user_name if _GIT_USER_NAME.fullmatch(user_name) else _NOBODY
        try:
            self._backoff.check(name, address)
        except TooManyFailures:
            self._journal.failed_authentication(address, "git-credential", user_name)
            raise
        found = self._find_git_credential(name)
        stored = found[0].password_sha256 if found else self._nothing
        given = hash_git_password(Secret(password.reveal()[:_LONGEST_PASSWORD]))
        right = hmac.compare_digest(given, stored)
        if found is None or not right or found[0].state != "Active":
            self._backoff.failed(name, address)
            self._journal.failed_authentication(address, "git-credential", user_name)
            raise AuthenticationFailed(
                "the user name or the password is wrong, or the git credential is inactive or revoked"
            )
        self._backoff.succeeded(name, address)
        credential, user = found
        return _caller(user, "git-credential", credential.id, address, request_id)

    def ssh_key(self, user_name: str, key: bytes) -> SSHKeyOffer | None:
        """Look up a public key that somebody showed, signed or not.

        Args:
            user_name: the id of the key (``APKA…``), or ``git``.
            key: the public key's blob as on the wire.

        Returns:
            None where the key is unknown or inactive, or is not the one that *user_name* names.
        """
        shown = fingerprint(key[: LONGEST_KEY + 1])
        with self._db.reading() as tx:
            row = tx.scalar(select(SSHKeyRow).where(SSHKeyRow.fingerprint == shown))
            if row is None or row.state != "Active" or row.blob != key or user_name not in (GIT_USER, row.id):
                return None
            return SSHKeyOffer(row.id, row.fingerprint)

    def ssh_caller(self, offer: SSHKeyOffer, address: str, request_id: RequestId) -> Caller:
        """The user whose key it is. Call it only after the client's signature with that key was verified.

        Raises:
            AuthenticationFailed: the key was revoked or made inactive since it was looked up.
        """
        with self._db.reading() as tx:
            found = tx.execute(
                select(SSHKeyRow, UserRow)
                .join(UserRow, UserRow.id == SSHKeyRow.user_id)
                .where(SSHKeyRow.id == offer.ssh_public_key_id, SSHKeyRow.fingerprint == offer.fingerprint)
            ).one_or_none()
        if found is None or found[0].state != "Active":
            self._journal.failed_authentication(address, "ssh-key", offer.ssh_public_key_id)
            raise AuthenticationFailed(f"the SSH key {offer.fingerprint} was revoked or made inactive")
        return _caller(found[1], "ssh-key", offer.ssh_public_key_id, address, request_id)

    def _find_git_credential(self, user_name: str) -> tuple[GitCredentialRow, UserRow] | None:
        query = (
            select(GitCredentialRow, UserRow)
            .join(UserRow, UserRow.id == GitCredentialRow.user_id)
            .where(GitCredentialRow.user_name == user_name)
        )
        with self._db.reading() as tx:
            found = tx.execute(query).one_or_none()
        return (found[0], found[1]) if found else None


def _caller(user: UserRow, method: Method, credential_id: str, address: str, request_id: RequestId) -> Caller:
    known = user.view()
    return Caller(
        account=known.account,
        principal=known.arn,
        principal_id=known.id,
        name=known.name,
        proof=Proof(method, credential_id),
        address=address,
        request_id=request_id,
    )
