"""Credentials: given by administrators, limited in number, shown once, revoked for good."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select, text

from gitserver.core.caller import Caller, local_caller
from gitserver.core.errors import Failure
from gitserver.core.ids import AccountId, new_unique_id
from gitserver.core.secret import Secret
from gitserver.iam.authorize import AccessDenied
from gitserver.iam.credentials import DuplicateSSHPublicKey, LimitExceeded, access_key_purpose
from gitserver.iam.entities import NoSuchEntity
from gitserver.iam.identities import InvalidName, account_owner
from gitserver.iam.public_keys import InvalidPublicKey, parse_public_key
from gitserver.iam.tables import AccessKeyRow, SSHKeyRow
from gitserver.storage.database import Database
from tests.unit.iam.iam_house import ACCOUNT, IdentityHouse, ed25519_line, identity_house


@pytest.fixture
def house(database: Database) -> Iterator[IdentityHouse]:
    with identity_house(database) as house:
        yield house


def test_a_key_is_added_listed_and_revoked(house: IdentityHouse) -> None:
    key = house.credentials.add_ssh_key(house.admin, "alice", ed25519_line())

    assert key.ssh_public_key_id.startswith("APKA")
    assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", key.fingerprint)
    assert (key.user_name, key.key_type, key.status) == ("alice", "ssh-ed25519", "Active")
    assert house.credentials.list_ssh_keys(house.admin, "alice") == (key,)
    house.credentials.revoke_ssh_key(house.admin, "alice", key.ssh_public_key_id)
    assert house.credentials.list_ssh_keys(house.admin, "alice") == ()


def test_a_sixth_ssh_key_is_refused(house: IdentityHouse) -> None:
    for _ in range(5):
        house.credentials.add_ssh_key(house.admin, "alice", ed25519_line())

    with pytest.raises(LimitExceeded, match="already has 5 SSH keys; revoke one first"):
        house.credentials.add_ssh_key(house.admin, "alice", ed25519_line())


def test_a_public_key_belongs_to_one_user_of_the_whole_server(house: IdentityHouse) -> None:
    line = ed25519_line()
    house.credentials.add_ssh_key(house.admin, "alice", line)
    other = house.identities.create_account(house.operator, "Other")
    stranger = local_caller(other.id, "op")
    house.identities.create_user(stranger, "mallory")

    for caller, user_name in ((house.admin, "alice"), (house.admin, "bob"), (stranger, "mallory")):
        with pytest.raises(DuplicateSSHPublicKey) as refused:
            house.credentials.add_ssh_key(caller, user_name, line.replace("alice@", "another-comment@"))
        assert "alice" not in str(refused.value)


def test_of_two_users_adding_one_key_at_once_one_gets_it(house: IdentityHouse) -> None:
    key = parse_public_key(ed25519_line())
    line = f"{key.type} {base64.b64encode(key.blob).decode()}"
    outcome: list[Exception | None] = []
    adding = threading.Thread(target=lambda: outcome.append(_failure(house, line)))

    with house.database.transaction() as tx:
        tx.add(
            SSHKeyRow(
                id=new_unique_id("APKA"),
                user_id=house.bob.id,
                fingerprint=key.fingerprint,
                key_type=key.type,
                blob=key.blob,
                status="Active",
                created=house.clock.now(),
            )
        )
        tx.flush()
        adding.start()
        adding.join(0.3)  # it saw no such key, and now waits for us
        waited = adding.is_alive()
    adding.join(10)

    assert waited
    assert [type(failure) for failure in outcome] == [DuplicateSSHPublicKey]
    assert len(house.credentials.list_ssh_keys(house.admin, "bob")) == 1


def _failure(house: IdentityHouse, line: str) -> Exception | None:
    try:
        house.credentials.add_ssh_key(house.admin, "alice", line)
    except Failure as failure:
        return failure
    return None


def test_a_revoked_key_may_be_given_to_somebody_else(house: IdentityHouse) -> None:
    line = ed25519_line()
    key = house.credentials.add_ssh_key(house.admin, "alice", line)
    house.credentials.revoke_ssh_key(house.admin, "alice", key.ssh_public_key_id)

    again = house.credentials.add_ssh_key(house.admin, "bob", line)

    assert again.fingerprint == key.fingerprint
    assert again.ssh_public_key_id != key.ssh_public_key_id


def test_a_git_credential_is_named_and_made_as_aws_does(house: IdentityHouse) -> None:
    first = house.credentials.create_git_credential(house.admin, "alice")
    second = house.credentials.create_git_credential(house.admin, "ALICE")

    assert (first.user_name, second.user_name) == (f"alice-at-{ACCOUNT}", f"alice+1-at-{ACCOUNT}")
    assert first.id.startswith("ACCA")
    assert re.fullmatch(r"[A-Za-z0-9]{44}", first.password.reveal())
    assert first.password != second.password
    assert first.password.reveal() not in repr(first)


def test_a_third_git_credential_is_refused_until_one_is_revoked(house: IdentityHouse) -> None:
    first = house.credentials.create_git_credential(house.admin, "alice")
    house.credentials.create_git_credential(house.admin, "alice")

    with pytest.raises(LimitExceeded, match="already has 2 git credentials"):
        house.credentials.create_git_credential(house.admin, "alice")

    house.credentials.revoke_git_credential(house.admin, "alice", first.id)
    assert house.credentials.create_git_credential(house.admin, "alice").user_name == f"alice-at-{ACCOUNT}"


def test_eight_requests_at_once_do_not_get_past_the_limit(house: IdentityHouse) -> None:
    made: list[str] = []
    refused: list[str] = []

    def make() -> None:
        try:
            made.append(house.credentials.create_git_credential(house.admin, "alice").user_name)
        except LimitExceeded as failure:
            refused.append(str(failure))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == [f"alice+1-at-{ACCOUNT}", f"alice-at-{ACCOUNT}"]
    assert len(refused) == 6


def test_a_generated_user_name_that_is_taken_is_passed_over(house: IdentityHouse) -> None:
    house.identities.create_user(house.admin, "alice+1")
    house.credentials.create_git_credential(house.admin, "alice+1")
    house.credentials.create_git_credential(house.admin, "alice")

    second = house.credentials.create_git_credential(house.admin, "alice")

    assert second.user_name == f"alice+2-at-{ACCOUNT}"


def test_an_access_keys_secret_is_sealed_for_that_key_alone(house: IdentityHouse) -> None:
    key = house.credentials.create_access_key(house.admin, "alice")
    house.credentials.create_access_key(house.admin, "alice")

    with house.database.reading() as tx:
        sealed = tx.scalars(select(AccessKeyRow).where(AccessKeyRow.id == key.access_key_id)).one().sealed_secret
    opened = house.vault.open_value(account_owner(ACCOUNT), access_key_purpose(key.access_key_id), sealed)
    assert key.access_key_id.startswith("AKIA")
    assert re.fullmatch(r"[A-Za-z0-9]{40}", key.secret.reveal())
    assert opened.decode() == key.secret.reveal()
    assert key.secret.reveal().encode() not in sealed
    with pytest.raises(LimitExceeded, match="2 access keys"):
        house.credentials.create_access_key(house.admin, "alice")


def test_listings_and_status_changes_show_no_secret(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")
    key = house.credentials.create_access_key(house.admin, "alice")
    house.credentials.set_git_credential_status(house.admin, "alice", made.id, "Inactive")
    house.credentials.set_access_key_status(house.admin, "alice", key.access_key_id, "Inactive")

    (git_listed,) = house.credentials.list_git_credentials(house.admin, "alice")
    (access_listed,) = house.credentials.list_access_keys(house.admin, "alice")

    assert (git_listed.status, access_listed.status) == ("Inactive", "Inactive")
    assert not hasattr(git_listed, "password")
    assert not hasattr(access_listed, "secret")
    house.credentials.revoke_access_key(house.admin, "alice", key.access_key_id)
    assert house.credentials.list_access_keys(house.admin, "alice") == ()


def test_a_credential_is_reached_only_through_its_own_user(house: IdentityHouse) -> None:
    key = house.credentials.add_ssh_key(house.admin, "alice", ed25519_line())

    with pytest.raises(NoSuchEntity, match="no SSH key"):
        house.credentials.revoke_ssh_key(house.admin, "bob", key.ssh_public_key_id)

    assert house.credentials.list_ssh_keys(house.admin, "alice") == (key,)


def test_an_administrator_reaches_no_other_accounts_users(house: IdentityHouse) -> None:
    other = house.identities.create_account(house.operator, "Other")
    stranger = local_caller(other.id, "op")
    admin = house.caller(house.identities.create_user(stranger, "admin", administrator=True))

    with pytest.raises(NoSuchEntity, match="no user 'alice'"):
        house.credentials.create_git_credential(admin, "alice")


Ask = Callable[[IdentityHouse, Caller], object]


USE_CASES: list[tuple[str, Ask]] = [
    ("iam:UploadSSHPublicKey", lambda h, c: h.credentials.add_ssh_key(c, "alice", "not even a key")),
    ("iam:ListSSHPublicKeys", lambda h, c: h.credentials.list_ssh_keys(c, "alice")),
    ("iam:UpdateSSHPublicKey", lambda h, c: h.credentials.set_ssh_key_status(c, "alice", "APKA", "Inactive")),
    ("iam:DeleteSSHPublicKey", lambda h, c: h.credentials.revoke_ssh_key(c, "alice", "APKA")),
    ("iam:CreateServiceSpecificCredential", lambda h, c: h.credentials.create_git_credential(c, "alice")),
    ("iam:ListServiceSpecificCredentials", lambda h, c: h.credentials.list_git_credentials(c, "alice")),
    ("iam:ResetServiceSpecificCredential", lambda h, c: h.credentials.reset_git_credential(c, "alice", "ACCA")),
    (
        "iam:UpdateServiceSpecificCredential",
        lambda h, c: h.credentials.set_git_credential_status(c, "alice", "ACCA", "Inactive"),
    ),
    ("iam:DeleteServiceSpecificCredential", lambda h, c: h.credentials.revoke_git_credential(c, "alice", "ACCA")),
    ("iam:CreateAccessKey", lambda h, c: h.credentials.create_access_key(c, "alice")),
    ("iam:ListAccessKeys", lambda h, c: h.credentials.list_access_keys(c, "alice")),
    ("iam:UpdateAccessKey", lambda h, c: h.credentials.set_access_key_status(c, "alice", "AKIA", "Inactive")),
    ("iam:DeleteAccessKey", lambda h, c: h.credentials.revoke_access_key(c, "alice", "AKIA")),
    ("iam:CreateUser", lambda h, c: h.identities.create_user(c, "carol", administrator=True)),
    ("iam:GetUser", lambda h, c: h.identities.describe_user(c, "alice")),
    ("iam:ListUsers", lambda h, c: h.identities.list_users(c)),
    ("iam:DeleteUser", lambda h, c: h.identities.delete_user(c, "alice")),
    ("iam:UpdateLoginProfile", lambda h, c: h.identities.set_password(c, "alice", Secret("x"))),
]


def test_a_user_who_is_no_administrator_may_do_nothing_yet(house: IdentityHouse) -> None:
    alice = house.caller(house.alice)

    for action, ask in USE_CASES:
        with pytest.raises(AccessDenied, match=f"not authorized to perform: {action} on resource"):
            ask(house, alice)

    denied = [json.loads(entry.detail)["action"] for entry in house.told("AccessDenied")]
    assert denied == [action for action, _ in USE_CASES]


def test_no_secret_reaches_the_journal_the_database_or_an_exception(house: IdentityHouse) -> None:
    made = house.credentials.create_git_credential(house.admin, "alice")
    again = house.credentials.reset_git_credential(house.admin, "alice", made.id)
    key = house.credentials.create_access_key(house.admin, "alice")
    private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaMARKER\n-----END OPENSSH PRIVATE KEY-----"
    with pytest.raises(InvalidPublicKey) as refused:
        house.credentials.add_ssh_key(house.admin, "alice", private)
    secrets = [made.password.reveal(), again.password.reveal(), key.secret.reveal(), "b3BlbnNzaMARKER"]

    house.journal.close()
    with house.database.reading() as tx:
        tables = ("journal", "git_credential", "access_key", "ssh_key", "iam_user", "account")
        rows = [str(tuple(row)) for table in tables for row in tx.execute(text(f"SELECT * FROM {table}"))]

    shown = "\n".join([*rows, repr(made), repr(again), repr(key), repr(refused.value)])
    assert [secret for secret in secrets if secret in shown] == []


def test_names_are_checked_before_anything_is_asked(house: IdentityHouse) -> None:
    with pytest.raises(InvalidName):
        house.credentials.list_ssh_keys(house.caller(house.alice), "../alice")


def test_an_account_that_does_not_exist_gets_no_access_key(house: IdentityHouse) -> None:
    nowhere = local_caller(AccountId("999999999999"), "op")

    with pytest.raises(NoSuchEntity):
        house.credentials.create_access_key(nowhere, "alice")
