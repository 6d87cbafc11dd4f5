"""The error of a product is taken apart by what causes it."""

from __future__ import annotations

import numpy as np
import pytest

from edge_lra.attribution.errors import product_errors, relative
from edge_lra.attribution.rounding import Sample, by_tensor
from edge_lra.attribution.saturation import pair_loss
from edge_lra.quantize.pairsafe import quantize_pair_safe, quantize_rows

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(64, 96)).astype(np.float32)
WEIGHT = RANDOM.normal(size=(48, 96))


def whole(rows: np.ndarray) -> Sample:
    return Sample(rows, np.zeros(len(rows), int), rows.min(0)[None], rows.max(0)[None])


def dequantized(weight: np.ndarray) -> np.ndarray:
    values, scale = quantize_pair_safe(weight)
    return values * scale.astype(np.float64)[:, None]


def test_the_errors_are_those_of_the_products_themselves() -> None:
    sample, rounded = whole(ROWS), dequantized(WEIGHT)
    x, moved = ROWS.astype(np.float64), by_tensor(sample).values.astype(np.float64)
    exact = x @ WEIGHT.T
    found = product_errors(sample, WEIGHT, rounded, by_tensor)
    assert found.weights == pytest.approx(relative(x @ rounded.T - exact, exact), rel=1e-4)
    assert found.activations == pytest.approx(relative(moved @ WEIGHT.T - exact, exact), rel=1e-4)
    assert found.both == pytest.approx(relative(moved @ rounded.T - exact, exact), rel=1e-4)


def test_an_outlier_channel_shows_as_an_error_of_activations() -> None:
    rows = ROWS.copy()
    rows[:, 7] *= 50
    plain, found = (
        product_errors(whole(r), WEIGHT, dequantized(WEIGHT), by_tensor) for r in (ROWS, rows)
    )
    assert plain.activations < 1.5 * plain.weights
    assert found.activations > 5 * found.weights


def test_an_outlier_weight_shows_as_an_error_of_weights() -> None:
    weight = WEIGHT.copy()
    weight[:, 7] *= 50
    rows = ROWS.copy()
    rows[:, 7] = 0
    found = product_errors(whole(rows), weight, dequantized(weight), by_tensor)
    assert found.weights > 5 * found.activations


def test_a_pair_unsafe_weight_saturates_where_pairs_are_summed_in_16_bits() -> None:
    integers = np.full((3, 4), 255, np.uint8)
    weight = np.array([[127, 1], [127, 1], [-127, 64], [-127, 64]], np.int8)
    reach = 2 * 255 * 127
    lost = pair_loss(integers, weight)
    np.testing.assert_array_equal(lost[0], [(32767 - reach) + (reach - 32768), 0])
    np.testing.assert_array_equal(pair_loss(integers, weight[:2])[0], [32767 - reach, 0])


def test_only_weights_that_are_not_pair_safe_saturate() -> None:
    weight = np.abs(WEIGHT)
    integers = RANDOM.integers(0, 256, (64, 96), dtype=np.uint8)
    assert not pair_loss(integers, quantize_pair_safe(weight).values.T).any()
    assert pair_loss(integers, quantize_rows(weight).values.T).any()


def test_pairs_are_summed_as_one_by_one() -> None:
    integers = RANDOM.integers(0, 256, (8, 96), dtype=np.uint8).astype(np.int64)
    weight = quantize_rows(np.abs(WEIGHT)).values.T
    terms = integers[:, :, None] * weight
    sums = np.clip(terms[:, 0::2] + terms[:, 1::2], -(2**15), 2**15 - 1).sum(1)
    found = pair_loss(integers.astype(np.uint8), weight)
    np.testing.assert_array_equal(found, sums - terms.sum(1))
