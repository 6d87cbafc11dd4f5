from __future__ import annotations

import numpy as np
import pytest

from edge_lra.quantize.blockwise import BLOCK, quantize_blocks
from edge_lra.quantize.compensate.scales import block_scales

Array = np.ndarray


def loss(weight: Array, scale: Array, cost: Array, block: int = BLOCK) -> Array:
    """Return the cost of plain rounding by block, (out, blocks)."""
    step = np.repeat(scale.astype(np.float64), block, axis=1)[:, : weight.shape[1]]
    lost = cost * (weight - np.clip(np.rint(weight / step), -8, 7) * step) ** 2
    padded = np.zeros((len(weight), scale.shape[1] * block))
    padded[:, : weight.shape[1]] = lost
    return padded.reshape(len(weight), -1, block).sum(axis=2)


@pytest.mark.parametrize("block", [16, BLOCK])
@pytest.mark.parametrize("columns", [96, 70])
def test_no_block_costs_more_than_with_the_largest_value_kept(columns: int, block: int) -> None:
    random = np.random.default_rng(0)
    weight, cost = random.normal(size=(50, columns)), random.uniform(0.1, 9, columns)
    plain = loss(weight, quantize_blocks(weight, 4, block).scale, cost, block)
    found = loss(weight, block_scales(weight, 4, cost, block), cost, block)
    assert (found <= plain).all()
    assert found.sum() < 0.9 * plain.sum()


def test_what_costs_nothing_is_clipped_for_what_does() -> None:
    weight = np.random.default_rng(1).normal(size=(1, BLOCK))
    weight[0, 7] = 4.5  # the largest
    cost = np.ones(BLOCK)
    cost[7] = 0
    kept = np.abs(quantize_blocks(weight, 4).scale)
    assert (np.abs(block_scales(weight, 4, cost)) < 0.8 * kept).all()
