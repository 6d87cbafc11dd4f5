"""Rounding to int8 that no x86 kernel saturates on, and rows with one scale each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# 255 * 128 = 32640 fits the signed 16-bit sums that AVX2 kernels (vpmaddubsw) form of two products.
PAIR_LIMIT = 128


class Quantized(NamedTuple):
    """Integers, their scales, and the largest absolute rounding error."""

    values: Array  # (rows, columns) int8
    scale: Array  # (rows,) float32
    max_error: float


def _finish(weight: Array, scale: Array, top: int) -> Quantized:
    scale = scale.astype(np.float32)
    wide = scale.astype(np.float64)[:, None]
    values = np.clip(np.rint(weight / wide), -top, top).astype(np.int8)
    return Quantized(values, scale, float(np.abs(weight - values * wide).max(initial=0.0)))


def quantize_pair_safe(weight: Array) -> Quantized:
    """Round each row to int8 so that neighbouring inputs of one sign sum to at most 128.

    With |a| + |b| <= 127 scales for every same-signed pair (2k, 2k+1), rounding adds at most one
    half to each, so the integers sum to at most 128 and 255 * 128 < 2**15: u8 x s8 kernels that
    add two products in 16 bits stay exact on every CPU.

    Args:
        weight: (out, in) float64.
    """
    magnitude = np.abs(weight).max(axis=1, initial=0.0)
    even = weight[:, 0 : weight.shape[1] // 2 * 2 : 2]
    odd = weight[:, 1::2]
    same_sign = np.where(even * odd > 0, np.abs(even + odd), 0.0)
    widest = np.maximum(magnitude, same_sign.max(axis=1, initial=0.0))
    # One part in 10**6 above the bound: the float32 rounding of the scale must not cross it.
    return _finish(weight, np.maximum(widest, 1e-30) * (1 + 1e-6) / 127, 127)


def quantize_rows(weight: Array) -> Quantized:
    """Round each row to int8 with the row's largest magnitude at 127 (embedding tables)."""
    return _finish(weight, np.maximum(np.abs(weight).max(axis=1, initial=0.0), 1e-30) / 127, 127)
