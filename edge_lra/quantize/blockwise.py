"""Rounding in blocks, as com.microsoft.MatMulNBits and GatherBlockQuantized store it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BLOCK = 32  # inputs of a linear that share a scale


class Blocks(NamedTuple):
    """Packed integers and their scales."""

    packed: Array  # (rows, blocks, bytes) uint8
    scale: Array  # (rows, blocks) float32, of words float16

    def weight(self, bits: int, columns: int) -> Array:
        """Return the weight they stand for, (rows, columns) float64."""
        values = self.packed.astype(np.float64)
        if bits == 4:
            values = np.stack([self.packed & 15, self.packed >> 4], axis=-1).astype(np.float64)
        values = values.reshape(*self.scale.shape, -1) - (1 << (bits - 1))
        values *= self.scale.astype(np.float64)[..., None]
        return values.reshape(len(values), -1)[:, :columns]


def _largest(blocks: Array) -> Array:
    """Return the value of the largest magnitude in each block, of two such the positive one.

    Neighbours are compared until one is left: rows of 32 are too short for numpy's reductions.
    """
    high = low = blocks.reshape(-1)
    while high.size > blocks.size // blocks.shape[-1]:
        high = np.maximum(high[0::2], high[1::2])
        low = np.minimum(low[0::2], low[1::2])
    return np.where(-low > high, low, high).reshape(blocks.shape[:-1])


def _first_largest(blocks: Array) -> Array:
    """Return the value of the largest magnitude in each block, of two such the first one."""
    place = np.abs(blocks).argmax(axis=2, keepdims=True)
    return np.take_along_axis(blocks, place, axis=2)[..., 0]


def in_blocks(weight: Array, block: int = BLOCK) -> Array:
    """Return a weight (out, in) as (out, blocks, block), the last block filled up with zeros."""
    rows, columns = weight.shape
    if not columns % block:
        return weight.reshape(rows, -1, block)
    blocks = np.zeros((rows, -(-columns // block), block), weight.dtype)
    blocks.reshape(rows, -1)[:, :columns] = weight
    return blocks


def pack(integers: Array, bits: int) -> Array:
    """Return integers (rows, blocks, block) uint8, zero at 2**(bits - 1), as bytes.

    Two 4-bit integers share a byte, the even input in the low half.
    """
    return integers if bits == 8 else integers[..., 0::2] | integers[..., 1::2] << 4


def quantize_blocks(weight: Array, bits: int, block: int = BLOCK) -> Blocks:
    """Round each block of inputs to `bits` with a scale of its own, zero at 2**(bits - 1).

    The value of the largest magnitude lands on -2**(bits - 1) exactly: a signed scale uses the
    one integer that a symmetric range would leave out (as llama.cpp's Q4_0 and onnxruntime's own
    quantizer do).

    Args:
        weight: (out, in) float64, or float32; the last block is filled up with zeros.
        bits: 4 or 8.
        block: inputs that share a scale, a power of 2.
    """
    blocks = in_blocks(weight, block)
    half = 1 << (bits - 1)
    largest = _largest(blocks) if weight.dtype == np.float32 else _first_largest(blocks)
    # Below 1e-35 the scale would be no float32 number that divides.
    scale = (np.where(np.abs(largest) > 1e-35, -largest, 1e-30) / half).astype(np.float32)
    values = blocks / scale.astype(weight.dtype)[..., None]
    np.rint(values, out=values)
    np.minimum(values, half - 1, out=values)  # the largest lands on -half: none lies below
    values += half
    return Blocks(pack(values.astype(np.uint8), bits), scale)
