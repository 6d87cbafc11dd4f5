from __future__ import annotations

import numpy as np

from edge_lra.quantize.smooth import OUTLIERS, norm_divisor, outlier_channels


def test_an_outlier_channel_is_divided_most_and_the_mean_stays_one() -> None:
    gamma, beta = np.ones(8), np.zeros(8)
    gamma[3], beta[5] = 20.0, -40.0
    divisor = norm_divisor(gamma, beta)
    assert set(np.argsort(divisor)[-2:]) == {3, 5}
    np.testing.assert_allclose(np.exp(np.log(divisor).mean()), 1)


def test_a_dead_channel_does_not_divide_by_nothing() -> None:
    divisor = norm_divisor(np.array([0.0, 1.0]), np.zeros(2))
    assert np.isfinite(divisor).all() and divisor.min() > 0


def test_a_feed_forward_channel_that_reaches_far_is_found() -> None:
    random = np.random.default_rng(0)
    up = random.normal(size=(200, 16))
    up[77] *= 10
    bias = np.zeros(200)
    bias[120] = 100
    found = outlier_channels(np.ones(16), np.zeros(16), [up[:90], up[90:]], bias)
    assert len(found) == OUTLIERS
    assert {77, 120} <= set(found)
