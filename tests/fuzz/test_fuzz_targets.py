"""Each fuzz target runs, and withstands a few thousand inputs that are always the same."""

from collections.abc import Callable, Iterator
from itertools import islice
from random import Random

import pytest

from tests.fuzz import fuzz_pack, fuzz_pkt_line
from tests.unit.git.pack_forge import forge, server_verdict

Target = tuple[Callable[[bytes], None], Callable[[Random], Iterator[bytes]]]


@pytest.mark.parametrize(
    ("target", "count"),
    [((fuzz_pkt_line.one_input, fuzz_pkt_line.examples), 4000), ((fuzz_pack.one_input, fuzz_pack.examples), 2500)],
    ids=["pkt-line", "pack"],
)
def test_nothing_but_promised_errors_comes_out(target: Target, count: int) -> None:
    one_input, examples = target

    for data in islice(examples(Random(20261123)), count):
        one_input(data)


def test_noise_is_withstood_too() -> None:
    chance = Random(1)

    for _ in range(1500):
        noise = chance.randbytes(chance.randrange(80))
        fuzz_pkt_line.one_input(noise)
        fuzz_pack.one_input(noise)


def test_the_examples_of_packs_are_often_sound() -> None:
    taken = 0
    for data in islice(fuzz_pack.examples(Random(3)), 300):
        taken += server_verdict(forge(fuzz_pack.described(data[1:]))).accepted

    assert taken > 30
