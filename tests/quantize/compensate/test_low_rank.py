from __future__ import annotations

import numpy as np
import pytest

from edge_lra.adapters.kinds.update import Factors
from edge_lra.quantize.blockwise import quantize_blocks
from edge_lra.quantize.compensate import (
    compensate_blocks,
    couple,
    output_error,
    refit,
    restore,
)

Array = np.ndarray
RANK = 6


@pytest.fixture
def factors() -> Factors:
    random = np.random.default_rng(7)
    return Factors(random.normal(size=(RANK, 96)), 0.05 * random.normal(size=(40, RANK)))


@pytest.fixture
def shown(weight: Array) -> Array:
    return quantize_blocks(weight, 4).weight(4, 96)


def change(factors: Factors) -> Array:
    assert factors.up is not None and factors.down is not None
    return factors.up.astype(np.float64) @ factors.down


def best_possible(gap: Array, activations: Array, rank: int) -> float:
    """Return the least ||(gap - any of that rank) X||, from the singular values beyond the rank."""
    return float(np.linalg.norm(np.linalg.svd(gap @ activations.T)[1][rank:]))


def test_refitted_factors_are_the_best_of_their_rank(
    weight: Array, shown: Array, factors: Factors, activations: Array, moment: Array
) -> None:
    adapted = weight + change(factors)
    found = refit(weight, shown, factors, moment)
    left = np.linalg.norm((adapted - shown - change(found.factors)) @ activations.T)
    assert left == pytest.approx(best_possible(adapted - shown, activations, RANK), rel=1e-4)


def test_refit_reports_the_error_of_the_adapted_outputs_before_and_after(
    weight: Array, shown: Array, factors: Factors, moment: Array
) -> None:
    adapted = weight + change(factors)
    found = refit(weight, shown, factors, moment)
    assert found.before == output_error(adapted, shown + change(factors), moment)
    assert found.after == output_error(adapted, shown + change(found.factors), moment)
    assert found.after.ratio < 0.8 * found.before.ratio
    assert found.factors.down is not None and found.factors.down.shape == (RANK, 96)
    assert found.factors.up is not None and found.factors.up.shape == (40, RANK)


@pytest.mark.parametrize("error", [0.0, 1e-9, 1e-3, 1.0])
@pytest.mark.parametrize("texts", [3, 600])  # 3: fewer than channels, S has no inverse
def test_refit_is_never_worse_than_before(
    weight: Array, factors: Factors, activations: Array, error: float, texts: int
) -> None:
    x = activations[:texts]
    shown = weight + error * np.random.default_rng(8).normal(size=weight.shape)
    found = refit(weight, shown, factors, x.T @ x / texts)
    assert found.after.lost <= found.before.lost


def test_gain_and_shift_stay(weight: Array, shown: Array, factors: Factors, moment: Array) -> None:
    gain, shift = np.full(40, 0.1), np.ones(40)
    given = Factors(factors.down, factors.up, gain, shift)
    found = refit(weight, shown, given, moment).factors
    assert found.gain is gain and found.shift is shift
    alone = Factors(gain=gain)
    assert refit(weight, shown, alone, moment).factors is alone


def test_restored_factors_are_the_best_of_their_rank(
    weight: Array, shown: Array, activations: Array, moment: Array
) -> None:
    found = restore(weight, shown, moment, 8)
    left = np.linalg.norm((weight - shown - change(found.factors)) @ activations.T)
    assert left == pytest.approx(best_possible(weight - shown, activations, 8), rel=1e-4)
    assert found.after == output_error(weight, shown + change(found.factors), moment)
    assert found.after.ratio < found.before.ratio


def test_factors_add_to_what_compensation_gains(weight: Array, moment: Array) -> None:
    compensated = compensate_blocks(weight, couple(moment), 4)
    found = restore(weight, compensated.stored.weight(4, 96), moment, 8)
    assert found.before == compensated.error
    assert found.after.ratio < 0.9 * found.before.ratio


def test_of_an_input_that_is_always_zero_the_plain_error_is_made_up_for(
    weight: Array, shown: Array
) -> None:
    """As behind a layer whose weights are all zero; text that is not calibrated with may differ."""
    found = restore(weight, shown, np.zeros((96, 96)), 40).factors
    np.testing.assert_allclose(change(found), weight - shown, atol=1e-6)
