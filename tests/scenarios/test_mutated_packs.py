"""Damaged packs are judged as git judges them: the short version of ``python -m tests.scenarios.mutated_packs``."""

from pathlib import Path

from tests.scenarios.mutated_packs import compare, is_deliberate


def test_damaged_packs_are_judged_as_git_judges_them(tmp_path: Path) -> None:
    outcomes = list(compare(200, 20261123, tmp_path))

    different = [
        (number, damage, ours.reason, theirs.reason)
        for number, damage, _, ours, theirs, _ in outcomes
        if ours.accepted != theirs.accepted and not is_deliberate(ours, theirs)
    ]
    assert not different
    assert sum(ours.accepted for _, _, _, ours, _, _ in outcomes) > 20
    assert max(seconds for *_, seconds in outcomes) < 10
