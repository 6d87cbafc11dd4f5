"""Rounding to int8 that no x86 kernel saturates on, and rows with one scale each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# 255 * 128 = 32640 fits the signed 16-bit sums that AVX2 kernels (vpmaddubsw) form of two products.
PAIR_LIMIT = 128


class Quantized(NamedTuple):
    """Integers and their scales; `max_error` costs as much again, for who asks."""

    values: Array  # (rows, columns) int8
    scale: Array  # (rows,) float32

    def max_error(self, weight: Array) -> float:
        """Return the largest absolute rounding error."""
        wide = self.scale.astype(np.float64)[:, None]
        return float(np.abs(weight - self.values * wide).max(initial=0.0))


def _magnitude(weight: Array) -> Array:
    """Return each row's largest magnitude, (rows,); two passes without a temporary."""
    low = weight.min(axis=1, initial=0.0)
    return np.asarray(np.maximum(weight.max(axis=1, initial=0.0), -low))


def _finish(weight: Array, widest: Array) -> Quantized:
    """Round each row by what is to land on 127; nothing goes beyond, so nothing is clipped."""
    scale = (widest / 127).astype(np.float32)
    values = weight / scale.astype(weight.dtype)[:, None]
    np.rint(values, out=values)
    return Quantized(values.astype(np.int8), scale)


def quantize_pair_safe(weight: Array) -> Quantized:
    """Round each row to int8 so that neighbouring inputs of one sign sum to at most 128.

    With |a| + |b| <= 127 scales for every same-signed pair (2k, 2k+1), rounding adds at most one
    half to each, so the integers sum to at most 128 and 255 * 128 < 2**15: u8 x s8 kernels that
    add two products in 16 bits stay exact on every CPU.

    Args:
        weight: (out, in) float64, or float32.
    """
    # A pair of two signs sums to less than the larger of the two: it decides nothing.
    pairs = weight[:, 0 : weight.shape[1] // 2 * 2 : 2] + weight[:, 1::2]
    widest = np.maximum(_magnitude(weight), _magnitude(pairs)).astype(np.float64)
    # One part in 10**6 above the bound: the float32 rounding of the scale must not cross it.
    return _finish(weight, np.maximum(widest, 1e-30) * (1 + 1e-6))


def quantize_rows(weight: Array) -> Quantized:
    """Round each row to int8 with the row's largest magnitude at 127 (embedding tables)."""
    return _finish(weight, np.maximum(_magnitude(weight).astype(np.float64), 1e-30))
