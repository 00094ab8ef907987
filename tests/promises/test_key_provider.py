"""Every provider of keys keeps the same promises."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitserver.storage.keyring import FileKeyring
from gitserver.storage.keys import KeyExists, KeyIdInvalid, KeyMissing, KeyProvider, UnwrapRefused
from gitserver.storage.memory import MemoryKeyring

KEY = "123456789012.0b3e-1"
CONTEXT = {"aws:codecommit:id": "0b3e-1", "gitserver:account": "123456789012"}
PLAIN = bytes(range(32))


@pytest.fixture(params=["memory", "file"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> KeyProvider:
    """One of each, with one key."""
    made: KeyProvider = MemoryKeyring() if request.param == "memory" else FileKeyring.create_at(tmp_path / "keys")
    made.create(KEY)
    return made


def test_what_is_wrapped_unwraps(keys: KeyProvider) -> None:
    for plain in (b"", PLAIN, bytes(4096)):
        assert keys.unwrap(KEY, keys.wrap(KEY, plain, CONTEXT), CONTEXT) == plain


def test_the_order_of_the_context_does_not_matter(keys: KeyProvider) -> None:
    wrapped = keys.wrap(KEY, PLAIN, CONTEXT)

    assert keys.unwrap(KEY, wrapped, dict(reversed(CONTEXT.items()))) == PLAIN


def test_the_same_secret_is_never_wrapped_alike(keys: KeyProvider) -> None:
    assert keys.wrap(KEY, PLAIN, CONTEXT) != keys.wrap(KEY, PLAIN, CONTEXT)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"aws:codecommit:id": "0b3e-1"},
        {**CONTEXT, "aws:codecommit:id": "0b3e-2"},
        {**CONTEXT, "more": ""},
        {"aws:codecommit:id": '0b3e-1","gitserver:account":"123456789012'},
    ],
)
def test_another_context_is_refused(keys: KeyProvider, context: dict[str, str]) -> None:
    wrapped = keys.wrap(KEY, PLAIN, CONTEXT)

    with pytest.raises(UnwrapRefused, match=KEY):
        keys.unwrap(KEY, wrapped, context)


def test_another_key_is_refused(keys: KeyProvider) -> None:
    keys.create("another")

    with pytest.raises(UnwrapRefused, match="another"):
        keys.unwrap("another", keys.wrap(KEY, PLAIN, CONTEXT), CONTEXT)


def test_no_changed_byte_unwraps(keys: KeyProvider) -> None:
    wrapped = keys.wrap(KEY, PLAIN, CONTEXT)

    damaged = [wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :] for at in range(len(wrapped))]
    cut = [wrapped[:at] for at in range(len(wrapped))]
    for each in [*damaged, *cut, wrapped + b"\0", bytes(10_000)]:
        with pytest.raises(UnwrapRefused):
            keys.unwrap(KEY, each, CONTEXT)


def test_a_secret_that_is_too_long_is_not_wrapped(keys: KeyProvider) -> None:
    with pytest.raises(ValueError, match="4096"):
        keys.wrap(KEY, bytes(4097), CONTEXT)


def test_what_an_older_version_wrapped_unwraps_after_rotations(keys: KeyProvider) -> None:
    wrapped = [keys.wrap(KEY, PLAIN, CONTEXT)]
    for _ in range(3):
        keys.rotate(KEY)
        wrapped.append(keys.wrap(KEY, PLAIN, CONTEXT))

    assert [keys.unwrap(KEY, each, CONTEXT) for each in wrapped] == [PLAIN] * 4


def test_a_destroyed_key_opens_nothing_ever_again(keys: KeyProvider) -> None:
    wrapped = keys.wrap(KEY, PLAIN, CONTEXT)

    keys.destroy(KEY)
    keys.destroy(KEY)

    assert not keys.exists(KEY)
    with pytest.raises(KeyMissing, match=KEY):
        keys.unwrap(KEY, wrapped, CONTEXT)
    with pytest.raises(KeyMissing, match=KEY):
        keys.wrap(KEY, PLAIN, CONTEXT)
    with pytest.raises(KeyMissing):
        keys.rotate(KEY)
    keys.create(KEY)
    with pytest.raises(UnwrapRefused):
        keys.unwrap(KEY, wrapped, CONTEXT)


def test_a_key_is_made_once(keys: KeyProvider) -> None:
    wrapped = keys.wrap(KEY, PLAIN, CONTEXT)

    with pytest.raises(KeyExists, match=KEY):
        keys.create(KEY)

    assert keys.unwrap(KEY, wrapped, CONTEXT) == PLAIN


def test_every_key_is_listed(keys: KeyProvider) -> None:
    keys.create("b")
    keys.create("a")

    assert list(keys.key_ids()) == sorted([KEY, "a", "b"])
    assert keys.exists("a")
    assert not keys.exists("c")


@pytest.mark.parametrize("key_id", ["", ".", "..", "../up", "a/b", ".hidden", "a\0b", "x" * 129])
def test_a_key_id_cannot_lead_anywhere(keys: KeyProvider, key_id: str) -> None:
    for use in (keys.create, keys.destroy, keys.rotate):
        with pytest.raises(KeyIdInvalid):
            use(key_id)


def test_threads_use_and_rotate_one_key_at_once(keys: KeyProvider) -> None:
    def work(number: int) -> bool:
        wrapped = keys.wrap(KEY, PLAIN, CONTEXT)
        if number % 10 == 0:
            keys.rotate(KEY)
        return keys.unwrap(KEY, wrapped, CONTEXT) == PLAIN

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(100)))
