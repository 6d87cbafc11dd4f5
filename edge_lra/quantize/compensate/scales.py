"""Scales of blocks for the least squared error, rather than for the largest value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.quantize.blockwise import BLOCK, in_blocks, quantize_blocks

Array = npt.NDArray[Any]
# Of the scale that puts the largest value on -2**(bits - 1). Below 1 it is clipped; a negative
# share puts it on the other sign, where the range is one integer shorter. MiniLM in int4, least
# cosine of 64 texts, compensated: .963 with 1 alone, .968 with all.
SHARES = tuple(
    sign * share / 20 for share in (20, *range(23, 20, -1), *range(19, 12, -1)) for sign in (1, -1)
)


def block_scales(weight: Array, bits: int, cost: Array, block: int = BLOCK) -> Array:
    """Return the scale of each block that costs least when rounded plainly, (out, blocks) float32.

    Args:
        weight: (out, in).
        bits: 4 or 8.
        cost: (in,) of a squared error of each column.
        block: inputs that share a scale, a power of 2.
    """
    half = 1 << (bits - 1)
    blocks, weights = in_blocks(weight, block), in_blocks(cost[None], block)
    largest = quantize_blocks(weight, bits, block).scale
    best, found = np.full(largest.shape, np.inf), largest
    for share in SHARES:
        scale = largest * np.float32(share)
        step = scale.astype(np.float64)[..., None]
        rounded = np.clip(np.rint(blocks / step), -half, half - 1)
        lost = (weights * (blocks - rounded * step) ** 2).sum(axis=2)
        better = lost < best
        best, found = np.where(better, lost, best), np.where(better, scale, found)
    return found
