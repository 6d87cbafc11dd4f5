from __future__ import annotations

import numpy as np

from edge_lra.quantize.pairsafe import PAIR_LIMIT, quantize_pair_safe, quantize_rows


def pair_sums(values: np.ndarray) -> np.ndarray:
    """The largest 16-bit sums vpmaddubsw forms of two u8 x s8 products, over all u8 pairs."""
    wide = values.astype(np.int64).reshape(len(values), -1, 2)
    return np.maximum(np.clip(wide, 0, None).sum(2), -np.clip(wide, None, 0).sum(2)) * 255


def test_no_pair_of_any_weight_can_saturate_sixteen_bits() -> None:
    random = np.random.default_rng(0)
    weights = [random.normal(size=(64, 128)), np.ones((4, 128)), -np.ones((4, 128))]
    weights += [weight.astype(np.float32) for weight in weights]  # as 16-bit sources come
    for weight in weights:
        assert pair_sums(quantize_pair_safe(weight).values).max() <= 255 * PAIR_LIMIT < 2**15


def test_plain_rows_would_saturate() -> None:
    assert pair_sums(quantize_rows(np.ones((4, 128))).values).max() > 2**15


def test_the_reported_error_is_the_largest_one_and_at_most_half_a_step() -> None:
    weight = np.random.default_rng(1).normal(size=(16, 32))
    found = quantize_pair_safe(weight)
    errors = np.abs(weight - found.values * found.scale.astype(np.float64)[:, None])
    assert found.max_error(weight) == errors.max()
    assert (errors <= found.scale[:, None] * 0.5001).all()
