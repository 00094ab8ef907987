"""Identity with everything it needs: one account, one administrator, one user."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gitserver.core.caller import Caller, Proof, local_caller
from gitserver.core.clock import FixedClock
from gitserver.core.ids import AccountId, RequestId, new_request_id
from gitserver.core.secret import Secret
from gitserver.iam.authenticate import Authenticator
from gitserver.iam.authorize import Authorizer
from gitserver.iam.credentials import Credentials
from gitserver.iam.entities import User
from gitserver.iam.identities import Identities
from gitserver.iam.passwords import Passwords
from gitserver.journal.entry import Entry
from gitserver.journal.journal import Journal
from gitserver.storage.database import Database
from gitserver.storage.memory import MemoryBlobStore, MemoryKeyring
from gitserver.storage.vault import Vault

ACCOUNT = AccountId("123456789012")
OFFICE = "192.0.2.10"
ELSEWHERE = "198.51.100.66"


class IdentityHouse:
    """The services of identity over one database, with a clock that stands still."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FixedClock()
        self.vault = Vault(database, MemoryBlobStore(), MemoryKeyring(), self.clock)
        self.journal = Journal(database, self.clock)
        self.authorizer = Authorizer(database, self.journal)
        quick = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        self.identities = Identities(database, self.vault, self.journal, self.authorizer, self.clock, quick)
        self.credentials = Credentials(database, self.vault, self.journal, self.authorizer, self.clock, self.identities)
        self.authenticator = Authenticator(database, self.journal, self.clock)
        self.operator = local_caller(ACCOUNT, "op")
        self.identities.create_account(self.operator, "Example", ACCOUNT)
        self.admin = self.caller(self.identities.create_user(self.operator, "admin", administrator=True))
        self.alice = self.identities.create_user(self.operator, "alice")
        self.bob = self.identities.create_user(self.operator, "bob")

    def caller(self, user: User, address: str = OFFICE) -> Caller:
        """*user*, as if they had just signed in."""
        proof = Proof("git-credential", "ACCAEXAMPLEEXAMPLE23")
        return Caller(user.account, user.arn, user.id, user.name, proof, address, new_request_id())

    def signs_in(self, user_name: str, password: Secret, address: str = OFFICE) -> Caller:
        """Git over HTTPS."""
        return self.authenticator.git_credential(user_name, password, address, RequestId("r" * 32))

    def told(self, event: str | None = None) -> list[Entry]:
        """What the journal holds, after everything queued was written."""
        self.journal.close()
        return list(self.journal.entries(event=event))

    def waits(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(seconds=seconds))


@contextmanager
def identity_house(database: Database) -> Iterator[IdentityHouse]:
    """A house whose journal is closed at the end."""
    house = IdentityHouse(database)
    try:
        yield house
    finally:
        house.journal.close()


def elsewhere(caller: Caller, account: AccountId) -> Caller:
    """The same person, as if they belonged to another account."""
    return replace(caller, account=account)


def ed25519_line(comment: str = "alice@example.com") -> str:
    """A new public key, as ssh-keygen writes it."""
    public = Ed25519PrivateKey.generate().public_key()
    return f"{public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"
