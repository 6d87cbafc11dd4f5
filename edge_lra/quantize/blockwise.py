"""Rounding in blocks of a row's inputs, as com.microsoft.MatMulNBits stores it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BLOCK = 32


class Blocks(NamedTuple):
    """Packed integers, their scales, and the weight they stand for."""

    packed: Array  # (rows, blocks, bytes) uint8
    scale: Array  # (rows, blocks) float32
    weight: Array  # (rows, columns) float64
    max_error: float


def quantize_blocks(weight: Array, bits: int) -> Blocks:
    """Round each block of 32 inputs to `bits` with a scale of its own, zero at 2**(bits - 1).

    The value of the largest magnitude lands on -2**(bits - 1) exactly: a signed scale uses the
    one integer that a symmetric range would leave out (as llama.cpp's Q4_0 and onnxruntime's own
    quantizer do). Two 4-bit integers share a byte, the even input in the low half.

    Args:
        weight: (out, in) float64; the last block is filled up with zeros.
        bits: 4 or 8.
    """
    rows, columns = weight.shape
    count = -(-columns // BLOCK)
    blocks = np.zeros((rows, count, BLOCK))
    blocks.reshape(rows, -1)[:, :columns] = weight
    half = 1 << (bits - 1)
    place = np.abs(blocks).argmax(axis=2, keepdims=True)
    largest = np.take_along_axis(blocks, place, axis=2)[..., 0]
    scale = (np.where(largest, -largest, 1e-30) / half).astype(np.float32)
    wide = scale.astype(np.float64)[..., None]
    values = np.clip(np.rint(blocks / wide), -half, half - 1)
    shown = (values * wide).reshape(rows, -1)[:, :columns]
    stored: Array = (values + half).astype(np.uint8)
    if bits == 4:
        stored = stored[..., 0::2] | stored[..., 1::2] << 4
    return Blocks(stored, scale, shown, float(np.abs(weight - shown).max(initial=0.0)))
