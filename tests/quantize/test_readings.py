"""What is made of a value's range, mean and covariance."""

from __future__ import annotations

import numpy as np
import pytest

from edge_lra.quantize.compensate import couple
from edge_lra.quantize.readings import MomentFile, Reading


def reading(x: np.ndarray) -> Reading:
    centred = x - x.mean(axis=0)
    kept = MomentFile().keep(centred.T @ centred / len(x))
    return Reading(x.min(axis=0), x.max(axis=0), x.mean(axis=0), kept)


@pytest.mark.parametrize("mean", [0.0, 3.0, 3e6])
def test_a_shifted_reading_is_that_of_the_shifted_value(mean: float) -> None:
    random = np.random.default_rng(0)
    x = mean + random.normal(size=(500, 24))
    shift, scale = np.round(x.mean(axis=0)), random.uniform(0.5, 2, 24)
    found, expected = reading(x).shifted(shift, scale), (x - shift) * scale
    assert found.moment is not None
    np.testing.assert_allclose(found.low, expected.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.moment(), expected.T @ expected / 500, atol=1e-6)


@pytest.mark.parametrize("deviation", [0.0, 1e-9, 1e-3])
def test_channels_that_hardly_vary_can_be_coupled(deviation: float) -> None:
    """As a norm's whose gains are all but zero."""
    random = np.random.default_rng(0)
    x = np.linspace(1, 9, 64) + deviation * random.normal(size=(300, 64))
    centred = reading(x).shifted((x.min(axis=0) + x.max(axis=0)) / 2, np.ones(64))
    assert centred.moment is not None
    assert np.isfinite(couple(centred.moment()).shares).all()
