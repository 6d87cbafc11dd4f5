from __future__ import annotations

import numpy as np

from edge_lra.quantize.smooth import norm_divisor


def test_an_outlier_channel_is_divided_most_and_the_mean_stays_one() -> None:
    gamma, beta = np.ones(8), np.zeros(8)
    gamma[3], beta[5] = 20.0, -40.0
    divisor = norm_divisor(gamma, beta)
    assert set(np.argsort(divisor)[-2:]) == {3, 5}
    np.testing.assert_allclose(np.exp(np.log(divisor).mean()), 1)


def test_a_dead_channel_does_not_divide_by_nothing() -> None:
    divisor = norm_divisor(np.array([0.0, 1.0]), np.zeros(2))
    assert np.isfinite(divisor).all() and divisor.min() > 0
