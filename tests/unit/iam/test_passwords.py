"""Console passwords are argon2id, and an unknown user costs what a wrong password costs."""

from typing import Any

import pytest
from argon2 import PasswordHasher

from gitserver.core.secret import Secret
from gitserver.iam.passwords import PasswordPolicyViolation, Passwords, generate_password


def _quick() -> PasswordHasher:
    return PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


class CountingHasher(PasswordHasher):
    """Counts what it verifies."""

    def __init__(self, **costs: Any) -> None:
        super().__init__(**costs)
        self.verified: list[str] = []

    def verify(self, hash: Any, password: Any) -> Any:  # noqa: A002 - argon2's name
        self.verified.append(hash)
        return super().verify(hash, password)


def test_the_stored_hash_has_the_parameters_of_rfc_9106() -> None:
    passwords = Passwords()
    password = generate_password()

    stored = passwords.hash(password)

    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.verify(stored, password).right
    assert not passwords.verify(stored, generate_password()).right


def test_an_unknown_user_costs_one_verification_with_the_same_parameters() -> None:
    hasher = CountingHasher(time_cost=1, memory_cost=64, parallelism=1)
    passwords = Passwords(hasher)
    stored = passwords.hash(Secret("correct horse battery"))
    hasher.verified.clear()

    known = passwords.verify(stored, Secret("wrong horse battery"))
    unknown = passwords.verify(None, Secret("wrong horse battery"))

    assert (known.right, unknown.right) == (False, False)
    costs = [verified.split("$")[1:4] for verified in hasher.verified]
    lengths = [len(verified) for verified in hasher.verified]
    assert len(costs) == 2
    assert costs[0] == costs[1]
    assert lengths[0] == lengths[1]


def test_a_hash_made_with_older_parameters_is_replaced_when_the_password_is_next_right() -> None:
    old = Passwords(_quick()).hash(Secret("correct horse battery"))
    now = Passwords(PasswordHasher(time_cost=2, memory_cost=64, parallelism=1))

    verdict = now.verify(old, Secret("correct horse battery"))

    assert verdict.right
    assert verdict.new_hash is not None
    assert now.verify(verdict.new_hash, Secret("correct horse battery")).new_hash is None


@pytest.mark.parametrize("password", ["short", "x" * 129, ""])
def test_a_password_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(PasswordPolicyViolation, match="12 to 128"):
        Passwords(_quick()).hash(Secret(password))


def test_generated_passwords_differ_and_survive_a_shell() -> None:
    made = [generate_password().reveal() for _ in range(50)]

    assert len(set(made)) == 50
    assert all(password.isalnum() and len(password) == 24 for password in made)
