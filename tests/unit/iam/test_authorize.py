"""Administrators may, others may not, and what was refused is on record."""

import json
from collections.abc import Iterator

import pytest

from gitserver.core.arn import Arn, repository_arn, user_arn
from gitserver.core.caller import Proof, local_caller
from gitserver.core.ids import AccountId
from gitserver.iam.authorize import AccessDenied
from gitserver.iam.tables import UserRow
from gitserver.storage.database import Database
from tests.unit.iam.iam_house import ACCOUNT, IdentityHouse, identity_house

WEB = repository_arn("us-east-1", ACCOUNT, "web")


@pytest.fixture
def house(database: Database) -> Iterator[IdentityHouse]:
    with identity_house(database) as house:
        yield house


def test_an_administrator_may_do_everything_in_the_account(house: IdentityHouse) -> None:
    decision = house.authorizer.decide(house.admin, "codecommit:DeleteRepository", WEB)

    assert decision.allowed
    assert decision.because == "the user is an administrator of the account"


def test_an_administrator_may_do_nothing_in_another_account(house: IdentityHouse) -> None:
    elsewhere = repository_arn("us-east-1", AccountId("210987654321"), "web")
    everywhere = Arn("organizations", "", "", "account/*")

    for resource in (elsewhere, everywhere):
        decision = house.authorizer.decide(house.admin, "codecommit:GitPull", resource)
        assert not decision.allowed
        assert decision.because == "no resource-based policy allows the codecommit:GitPull action"


def test_the_local_operator_may_do_everything(house: IdentityHouse) -> None:
    operator = local_caller(AccountId("210987654321"), "op")

    assert house.authorizer.decide(operator, "codecommit:GitPush", WEB).allowed


def test_claiming_to_be_local_is_not_enough(house: IdentityHouse) -> None:
    caller = house.caller(house.alice)
    pretender = type(caller)(
        caller.account,
        caller.principal,
        caller.principal_id,
        caller.name,
        Proof("local", "op"),
        "local",
        caller.request_id,
    )

    assert not house.authorizer.decide(pretender, "codecommit:GitPush", WEB).allowed


def test_the_flag_is_read_at_each_decision(house: IdentityHouse) -> None:
    with house.database.transaction() as tx:
        UserRow.find(tx, ACCOUNT, "admin").administrator = False

    assert not house.authorizer.decide(house.admin, "codecommit:GitPull", WEB).allowed


def test_a_denial_explains_itself_as_aws_does(house: IdentityHouse) -> None:
    alice = house.caller(house.alice)

    with pytest.raises(AccessDenied) as denied:
        house.authorizer.require(alice, "codecommit:GitPull", WEB)

    assert str(denied.value) == (
        f"User: arn:aws:iam::{ACCOUNT}:user/alice is not authorized to perform: codecommit:GitPull "
        f"on resource: arn:aws:codecommit:us-east-1:{ACCOUNT}:web because no identity-based policy allows "
        f"the codecommit:GitPull action (request id {alice.request_id})"
    )
    assert denied.value.code == "AccessDeniedException"


def test_a_denial_is_on_record_with_request_id_and_caller(house: IdentityHouse) -> None:
    alice = house.caller(house.alice)
    with pytest.raises(AccessDenied):
        house.authorizer.require(alice, "codecommit:GitPush", WEB, {"codecommit:References": "refs/heads/main"})

    (entry,) = house.told("AccessDenied")

    assert (entry.request_id, entry.principal_id, entry.address) == (alice.request_id, house.alice.id, alice.address)
    assert (entry.method, entry.credential_id) == (alice.proof.method, alice.proof.credential_id)
    assert entry.resource == str(WEB)
    assert json.loads(entry.detail) == {
        "action": "codecommit:GitPush",
        "because": "no identity-based policy allows the codecommit:GitPush action",
        "context": {"codecommit:References": "refs/heads/main"},
    }


def test_whoever_is_denied_does_not_learn_whether_a_user_exists(house: IdentityHouse) -> None:
    alice = house.caller(house.alice)

    for name in ("bob", "nobody"):
        with pytest.raises(AccessDenied) as denied:
            house.identities.describe_user(alice, name)
        assert str(user_arn(ACCOUNT, name)) in str(denied.value)
