"""The loss fuzz at a size for every day: see loss_fuzz for the figures of a long run."""

from __future__ import annotations

import random

import pytest

from tests.property.loss_fuzz import Results, describe_conversation, table, try_conversation, try_pairs

FIXED_SEED = 20_261_128
PAIRS = 50_000


def assert_nothing_wrong(results: Results, seed: int) -> None:
    """Fail with the first conversation that gave a wrong pair unflagged."""
    if results.wrong:
        raise AssertionError(f"seed {seed}\n{describe_conversation(results.wrong[0])}\n{table(results)}")


@pytest.mark.slow
def test_a_fixed_run_pairs_nothing_wrongly_without_a_flag() -> None:
    assert_nothing_wrong(try_pairs(PAIRS, FIXED_SEED), FIXED_SEED)


@pytest.mark.slow
def test_a_run_that_differs_every_day_does_neither() -> None:
    seed = random.SystemRandom().getrandbits(32)
    assert_nothing_wrong(try_pairs(PAIRS, seed), seed)


def test_one_number_gives_one_conversation() -> None:
    first, second = Results(), Results()
    for number in range(200):
        try_conversation(number, first)
        try_conversation(number, second)
    assert first == second
    assert first.total.pairs > 0
