"""The drop between two accuracies, against distributions that can be written down."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_lra.paired import RESAMPLES, TELLING, Drop, paired_drop


def drop(lost: int, gained: int, both: int, neither: int = 0) -> Drop:
    """Return the drop of so many rows of each kind."""
    before = np.repeat([True, False, True, False], [lost, gained, both, neither])
    after = np.repeat([False, True, True, False], [lost, gained, both, neither])
    return paired_drop(before, after)


def test_points_are_lost_rows_less_gained_ones() -> None:
    assert drop(3, 1, 90, 6).points == 2.0
    assert drop(1, 3, 90, 6).points == -2.0


def test_two_rows_have_the_interval_of_two_coins() -> None:
    # Of two draws none, one or both are the lost row, in 1/4, 1/2 and 1/4 of all cases.
    found = drop(1, 0, 1)
    assert (found.points, found.low, found.high) == (50.0, 0.0, 100.0)
    found = drop(1, 1, 0)
    assert (found.points, found.low, found.high) == (0.0, -100.0, 100.0)


def test_many_rows_have_the_interval_of_a_normal_distribution() -> None:
    found = drop(200, 100, 9000, 700)
    # The variance of a row's loss is p + q - (p - q)^2 with p lost and q gained.
    reach = 1.96 * 100 * math.sqrt((0.02 + 0.01 - 0.01**2) / 10_000)
    assert found.points == 1.0
    assert found.low == pytest.approx(1 - reach, abs=0.02)
    assert found.high == pytest.approx(1 + reach, abs=0.02)
    assert found.resolution == pytest.approx(reach, abs=0.02)


def test_rows_that_both_answer_alike_add_no_doubt() -> None:
    right, wrong = drop(10, 5, 185, 0), drop(10, 5, 0, 185)
    assert right == wrong


def test_without_a_changed_row_the_rule_of_three_says_what_is_told() -> None:
    found = drop(0, 0, 48)
    assert (found.points, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.resolution == 100 * 3 / 48
    assert drop(0, 0, 299).resolution > TELLING >= drop(0, 0, 300).resolution


def test_the_multinomial_draws_rows_with_replacement() -> None:
    """Resampling the rows themselves gives the same interval, to its own noise."""
    losses = np.repeat([1, -1, 0], [12, 4, 84])
    picks = np.random.default_rng(1).integers(0, 100, (RESAMPLES, 100))
    low, high = np.percentile(losses[picks].sum(1), [2.5, 97.5])
    found = drop(12, 4, 84)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1.01)


def test_the_same_rows_give_the_same_interval() -> None:
    assert drop(7, 3, 90) == drop(7, 3, 90)
