from __future__ import annotations

import numpy as np

from edge_lra.quantize.smooth import OUTLIERS, norm_divisor, outlier_channels


def test_an_outlier_channel_is_divided_most_and_the_mean_stays_near_one() -> None:
    extreme = np.full(8, 2.0)
    extreme[[3, 5]] = 40.0, 80.0
    divisor = norm_divisor(extreme)
    assert list(np.argsort(divisor)[-2:]) == [3, 5]
    assert 0.9 < np.exp(np.log(divisor).mean()) < 1.1


def test_a_dead_channel_does_not_divide_by_nothing() -> None:
    divisor = norm_divisor(np.array([0.0, 1.0]))
    assert np.isfinite(divisor).all() and divisor.min() > 0
    assert (norm_divisor(np.zeros(3)) == 1).all()


def test_the_roundings_of_another_cpu_change_nothing() -> None:
    extreme = np.random.default_rng(0).lognormal(size=4096)
    other = extreme * (1 + 1e-12 * np.random.default_rng(1).normal(size=4096))
    assert not np.array_equal(extreme, other)
    np.testing.assert_array_equal(norm_divisor(extreme), norm_divisor(other))


def test_the_channels_that_reach_farthest_are_found() -> None:
    extreme = np.random.default_rng(0).random(200)
    extreme[[77, 120]] = 5, 50
    found = outlier_channels(extreme)
    assert len(found) == OUTLIERS and {77, 120} <= set(found)
    assert list(found) == sorted(found)
