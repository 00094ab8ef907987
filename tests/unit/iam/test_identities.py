"""Accounts and users: named by IAM's rules, made and deleted by those who may."""

import json
from collections.abc import Iterator

import pytest

from gitserver.core.caller import local_caller
from gitserver.core.ids import AccountId
from gitserver.core.secret import Secret
from gitserver.iam.authorize import AccessDenied
from gitserver.iam.entities import EntityAlreadyExists, NoSuchEntity
from gitserver.iam.identities import DeleteConflict, InvalidName
from gitserver.iam.passwords import PasswordPolicyViolation
from gitserver.iam.tables import UserRow
from gitserver.storage.database import Database
from tests.unit.iam.iam_house import ACCOUNT, IdentityHouse, ed25519_line, identity_house


@pytest.fixture
def house(database: Database) -> Iterator[IdentityHouse]:
    with identity_house(database) as house:
        yield house


def test_a_user_has_an_arn_and_an_id_of_its_own(house: IdentityHouse) -> None:
    user = house.identities.create_user(house.admin, "carol", path="/team/web/")

    assert str(user.arn) == f"arn:aws:iam::{ACCOUNT}:user/team/web/carol"
    assert user.id.startswith("AIDA")
    assert not user.administrator
    assert house.identities.describe_user(house.admin, "CAROL") == user


def test_names_that_differ_only_in_case_are_the_same(house: IdentityHouse) -> None:
    with pytest.raises(EntityAlreadyExists, match="differ only in case"):
        house.identities.create_user(house.admin, "ALICE")


def test_two_accounts_may_have_a_user_of_the_same_name(house: IdentityHouse) -> None:
    other = house.identities.create_account(house.operator, "Other")

    user = house.identities.create_user(local_caller(other.id, "op"), "alice")

    assert user.account == other.id
    assert user.id != house.alice.id
    assert [account.name for account in house.identities.list_accounts(house.operator)] == ["Example", "Other"]


def test_a_name_or_path_that_breaks_iams_rule_is_refused(house: IdentityHouse) -> None:
    for name in ("", "a b", "é", "a/b", "x" * 65, "alice\n", "a:b", "\0"):
        with pytest.raises(InvalidName, match="1 to 64 letters"):
            house.identities.create_user(house.admin, name)
    for path in ("", "team", "/team", "team/", "/te am/", "/" + "x" * 511 + "/"):
        with pytest.raises(InvalidName, match="a path starts and ends"):
            house.identities.create_user(house.admin, "carol", path=path)


def test_an_account_number_is_given_once(house: IdentityHouse) -> None:
    with pytest.raises(EntityAlreadyExists):
        house.identities.create_account(house.operator, "Twin", ACCOUNT)


def test_an_administrator_cannot_make_or_list_accounts(house: IdentityHouse) -> None:
    with pytest.raises(AccessDenied, match="organizations:CreateAccount"):
        house.identities.create_account(house.admin, "Mine")
    with pytest.raises(AccessDenied, match="organizations:ListAccounts"):
        house.identities.list_accounts(house.admin)


def test_a_user_needs_an_account_that_exists(house: IdentityHouse) -> None:
    nowhere = local_caller(AccountId("999999999999"), "op")

    with pytest.raises(NoSuchEntity, match="account '999999999999'"):
        house.identities.create_user(nowhere, "carol")


def test_users_are_listed_by_name(house: IdentityHouse) -> None:
    assert [user.name for user in house.identities.list_users(house.admin)] == ["admin", "alice", "bob"]


def test_a_user_with_credentials_is_not_deleted(house: IdentityHouse) -> None:
    key = house.credentials.add_ssh_key(house.admin, "alice", ed25519_line())
    made = house.credentials.create_git_credential(house.admin, "alice")

    with pytest.raises(DeleteConflict, match="1 SSH keys and 1 git credentials; revoke them first"):
        house.identities.delete_user(house.admin, "alice")

    house.credentials.revoke_ssh_key(house.admin, "alice", key.ssh_public_key_id)
    house.credentials.revoke_git_credential(house.admin, "alice", made.id)
    house.identities.delete_user(house.admin, "alice")
    with pytest.raises(NoSuchEntity):
        house.identities.describe_user(house.admin, "alice")


def test_a_new_user_of_an_old_name_is_somebody_else(house: IdentityHouse) -> None:
    old = house.caller(house.identities.create_user(house.admin, "carol", administrator=True))
    house.identities.delete_user(house.admin, "carol")

    house.identities.create_user(house.admin, "carol", administrator=True)

    decision = house.authorizer.decide(old, "iam:ListUsers", old.principal)
    assert (decision.allowed, decision.because) == (False, "the user no longer exists")


def test_a_password_is_kept_as_a_hash_and_told_without_it(house: IdentityHouse) -> None:
    house.identities.set_password(house.admin, "alice", Secret("correct horse battery"))

    with house.database.reading() as tx:
        stored = UserRow.find(tx, ACCOUNT, "alice").password_hash
    (entry,) = house.told("PasswordChanged")
    assert stored is not None
    assert stored.startswith("$argon2id$")
    assert json.loads(entry.detail) == {"user_id": house.alice.id}
    assert house.identities.describe_user(house.admin, "alice").has_password


def test_a_short_password_changes_nothing(house: IdentityHouse) -> None:
    with pytest.raises(PasswordPolicyViolation):
        house.identities.set_password(house.admin, "alice", Secret("short"))

    assert not house.identities.describe_user(house.admin, "alice").has_password


def test_every_change_is_told_with_who_did_it(house: IdentityHouse) -> None:
    house.identities.create_user(house.admin, "carol")
    house.identities.delete_user(house.admin, "carol")

    told = [(entry.event, entry.principal_id, entry.resource) for entry in house.told()][-2:]

    carol = f"arn:aws:iam::{ACCOUNT}:user/carol"
    assert told == [("UserCreated", house.admin.principal_id, carol), ("UserDeleted", house.admin.principal_id, carol)]
