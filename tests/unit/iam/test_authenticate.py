"""Who is this: proven, or refused in a way that tells a stranger nothing."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gitserver.core.errors import Denied
from gitserver.core.ids import RequestId
from gitserver.core.secret import Secret
from gitserver.iam.authenticate import AuthenticationFailed, SSHKeyOffer
from gitserver.iam.backoff import TooManyFailures
from gitserver.iam.public_keys import parse_public_key
from gitserver.storage.database import Database
from tests.unit.iam.iam_house import ACCOUNT, ELSEWHERE, OFFICE, IdentityHouse, ed25519_line, identity_house

WRONG = Secret("w" * 44)
REQUEST = RequestId("0" * 32)


@pytest.fixture
def house(database: Database) -> Iterator[IdentityHouse]:
    with identity_house(database) as house:
        yield house


def test_a_git_credential_makes_a_caller(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")

    caller = house.signs_in(made.user_name, made.password)

    assert (caller.account, caller.principal, caller.principal_id) == (ACCOUNT, house.alice.arn, house.alice.id)
    assert (caller.name, caller.address, caller.request_id) == ("alice", OFFICE, "r" * 32)
    assert (caller.proof.method, caller.proof.credential_id, caller.proof.mfa) == ("git-credential", made.id, None)


def test_wrong_unknown_inactive_and_revoked_read_the_same(house: IdentityHouse) -> None:
    good = house.credentials.create_git_credential(house.admin, "alice")
    inactive = house.credentials.create_git_credential(house.admin, "alice")
    house.credentials.set_git_credential_status(house.admin, "alice", inactive.id, "Inactive")
    revoked = house.credentials.create_git_credential(house.admin, "bob")
    house.credentials.revoke_git_credential(house.admin, "bob", revoked.id)
    attempts = [
        (good.user_name, WRONG),
        ("nobody-at-123456789012", WRONG),
        ("'; drop table account --", WRONG),
        ("\0", WRONG),
        ("\udcff", Secret("\udcff\0")),
        ("x" * 100_000, Secret("x" * 100_000)),
        ("", Secret("")),
        (inactive.user_name, inactive.password),
        (revoked.user_name, revoked.password),
        (good.user_name.upper(), good.password),
    ]

    said = set()
    for user_name, password in attempts:
        with pytest.raises(AuthenticationFailed) as refused:
            house.signs_in(user_name, password)
        said.add(str(refused.value))

    assert len(said) == 1
    assert issubclass(AuthenticationFailed, Denied)
    house.signs_in(good.user_name, good.password)


def test_a_credential_works_again_when_it_is_active_again(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")
    house.credentials.set_git_credential_status(house.admin, "alice", made.id, "Inactive")
    house.credentials.set_git_credential_status(house.admin, "alice", made.id, "Active")

    assert house.signs_in(made.user_name, made.password).name == "alice"


def test_a_reset_password_replaces_the_old_one(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")

    again = house.credentials.reset_git_credential(house.admin, "alice", made.id)

    assert (again.id, again.user_name, again.reset) == (made.id, made.user_name, house.clock.now())
    assert house.signs_in(again.user_name, again.password).name == "alice"
    with pytest.raises(AuthenticationFailed):
        house.signs_in(made.user_name, made.password)


@dataclass
class Work:
    """What an attempt costs."""

    queries: list[str]
    hashes: int = 0
    comparisons: int = 0


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Work]:
    def measured(attempt: Callable[[], object]) -> Work:
        work = Work([])
        sha256, compare = hashlib.sha256, hmac.compare_digest

        def note_query(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            work.queries.append(statement)

        def counting_sha256(*arguments: Any, **named: Any) -> Any:
            work.hashes += 1
            return sha256(*arguments, **named)

        def counting_compare(one: bytes, other: bytes) -> bool:
            work.comparisons += 1
            return compare(one, other)

        event.listen(Engine, "before_cursor_execute", note_query)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(hashlib, "sha256", counting_sha256)
                patched.setattr(hmac, "compare_digest", counting_compare)
                attempt()
        except AuthenticationFailed:
            pass
        finally:
            event.remove(Engine, "before_cursor_execute", note_query)
        work.queries = [query for query in work.queries if query.startswith("SELECT") and "pg_catalog" not in query]
        return work

    return measured


def test_an_unknown_name_costs_what_a_wrong_password_costs(
    house: IdentityHouse, measure: Callable[[Callable[[], object]], Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.journal, "failed_authentication", lambda *_: None)  # its thread asks at its own time
    good = house.credentials.create_git_credential(house.admin, "alice")
    inactive = house.credentials.create_git_credential(house.admin, "alice")
    house.credentials.set_git_credential_status(house.admin, "alice", inactive.id, "Inactive")

    works = [
        measure(lambda: house.signs_in(good.user_name, WRONG)),
        measure(lambda: house.signs_in("nobody-at-123456789012", WRONG)),
        measure(lambda: house.signs_in("not a name\0", WRONG)),
        measure(lambda: house.signs_in(inactive.user_name, inactive.password)),
        measure(lambda: house.signs_in(good.user_name, good.password)),
    ]

    assert [(len(work.queries), work.hashes, work.comparisons) for work in works] == [(1, 1, 1)] * 5
    assert len({work.queries[0] for work in works}) == 1


def test_an_unknown_key_costs_what_an_unknown_key_id_costs(
    house: IdentityHouse, measure: Callable[[Callable[[], object]], Work]
) -> None:
    line = ed25519_line()
    key = house.credentials.add_ssh_key(house.admin, "alice", line)
    blob, stranger = parse_public_key(line).blob, parse_public_key(ed25519_line()).blob

    works = [
        measure(lambda: house.authenticator.ssh_key("git", blob)),
        measure(lambda: house.authenticator.ssh_key("git", stranger)),
        measure(lambda: house.authenticator.ssh_key(key.ssh_public_key_id, stranger)),
        measure(lambda: house.authenticator.ssh_key("APKAAAAAAAAAAAAAAAAA", blob)),
        measure(lambda: house.authenticator.ssh_key("root", b"")),
        measure(lambda: house.authenticator.ssh_key("\0", b"x" * 1_000_000)),
    ]

    assert [(len(work.queries), work.hashes) for work in works] == [(1, 1)] * 6
    assert len({work.queries[0] for work in works}) == 1


def test_a_key_is_found_under_git_and_under_its_own_id_only(house: IdentityHouse) -> None:
    line = ed25519_line()
    key = house.credentials.add_ssh_key(house.admin, "alice", line)
    other = house.credentials.add_ssh_key(house.admin, "bob", ed25519_line())
    blob = parse_public_key(line).blob
    offer = SSHKeyOffer(key.ssh_public_key_id, key.fingerprint)

    assert house.authenticator.ssh_key("git", blob) == offer
    assert house.authenticator.ssh_key(key.ssh_public_key_id, blob) == offer
    for user_name in (other.ssh_public_key_id, "alice", "", "GIT", key.ssh_public_key_id.lower()):
        assert house.authenticator.ssh_key(user_name, blob) is None
    assert house.authenticator.ssh_key("git", blob + b"\0") is None


def test_an_offer_becomes_a_caller_only_on_asking_again(house: IdentityHouse) -> None:
    line = ed25519_line()
    key = house.credentials.add_ssh_key(house.admin, "alice", line)
    offer = house.authenticator.ssh_key("git", parse_public_key(line).blob)
    assert offer is not None

    caller = house.authenticator.ssh_caller(offer, OFFICE, REQUEST)

    assert (caller.name, caller.principal_id, caller.request_id) == ("alice", house.alice.id, REQUEST)
    assert (caller.proof.method, caller.proof.credential_id) == ("ssh-key", key.ssh_public_key_id)


def test_a_key_revoked_between_offer_and_signature_is_refused(house: IdentityHouse) -> None:
    line = ed25519_line()
    key = house.credentials.add_ssh_key(house.admin, "alice", line)
    offer = house.authenticator.ssh_key("git", parse_public_key(line).blob)
    assert offer is not None
    house.credentials.revoke_ssh_key(house.admin, "alice", key.ssh_public_key_id)

    with pytest.raises(AuthenticationFailed, match="revoked or made inactive"):
        house.authenticator.ssh_caller(offer, OFFICE, REQUEST)

    (entry,) = house.told("AuthenticationFailed")
    assert json.loads(entry.detail)["claimed"] == [key.ssh_public_key_id]


def test_an_inactive_key_is_neither_offered_nor_accepted(house: IdentityHouse) -> None:
    line = ed25519_line()
    key = house.credentials.add_ssh_key(house.admin, "alice", line)
    house.credentials.set_ssh_key_status(house.admin, "alice", key.ssh_public_key_id, "Inactive")

    offer = SSHKeyOffer(key.ssh_public_key_id, key.fingerprint)

    assert house.authenticator.ssh_key("git", parse_public_key(line).blob) is None
    with pytest.raises(AuthenticationFailed):
        house.authenticator.ssh_caller(offer, OFFICE, REQUEST)


def test_whoever_guesses_waits_longer_and_longer(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")
    for _ in range(5):
        with pytest.raises(AuthenticationFailed):
            house.signs_in(made.user_name, WRONG, ELSEWHERE)

    with pytest.raises(TooManyFailures) as first:
        house.signs_in(made.user_name, made.password, ELSEWHERE)
    house.waits(first.value.retry_after_s)
    with pytest.raises(AuthenticationFailed):
        house.signs_in(made.user_name, WRONG, ELSEWHERE)
    with pytest.raises(TooManyFailures) as second:
        house.signs_in(made.user_name, WRONG, ELSEWHERE)

    assert (first.value.retry_after_s, second.value.retry_after_s) == (1, 2)
    house.waits(2)
    assert house.signs_in(made.user_name, made.password, ELSEWHERE).name == "alice"


def test_guessing_from_elsewhere_does_not_lock_the_owner_out(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")
    for _ in range(50):
        with pytest.raises((AuthenticationFailed, TooManyFailures)):
            house.signs_in(made.user_name, WRONG, ELSEWHERE)

    assert house.signs_in(made.user_name, made.password, OFFICE).name == "alice"


def test_failures_are_counted_for_the_journal_by_address(house: IdentityHouse) -> None:
    for _ in range(10):
        with pytest.raises((AuthenticationFailed, TooManyFailures)):
            house.signs_in("alice-at-123456789012", WRONG, ELSEWHERE)

    first, rest = house.told("AuthenticationFailed")

    assert (first.address, json.loads(first.detail)["claimed"]) == (ELSEWHERE, ["alice-at-123456789012"])
    assert json.loads(rest.detail)["count"] == 9
    assert "wwww" not in first.detail + rest.detail


def test_a_deleted_users_name_does_not_bring_old_credentials_back(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")
    house.credentials.revoke_git_credential(house.admin, "alice", made.id)
    house.identities.delete_user(house.admin, "alice")
    house.identities.create_user(house.admin, "alice")
    house.credentials.create_git_credential(house.admin, "alice")

    with pytest.raises(AuthenticationFailed):
        house.signs_in(made.user_name, made.password)
