"""How activations are rounded before an integer product, by what graphs and kernels do.

All return the values that the integers stand for, so that an error is a difference of floats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_lra.quantize.blockwise import BLOCK

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """Rows of one value, and how far the whole value reached in the texts they are from.

    Attributes:
        rows: (rows, in) float32.
        text: (rows,) which text each is from.
        low: (texts, in) each channel's smallest value in a text.
        high: (texts, in) each channel's largest.
    """

    rows: Array
    text: Array
    low: Array
    high: Array

    def divided(self, divisor: Array) -> Sample:
        """Return the same of the value with its channels divided by (in,) positive numbers."""
        parts = [(part / divisor).astype(np.float32) for part in (self.rows, self.low, self.high)]
        return Sample(parts[0], self.text, *parts[1:])

    @property
    def reach(self) -> Array:
        """Each channel's largest magnitude, (in,) float64."""
        return np.asarray(np.maximum(-self.low.min(0), self.high.max(0)), np.float64)


class Rounded(NamedTuple):
    """A sample as a product sees it.

    Attributes:
        values: (rows, in) float32, what the integers stand for.
        integers: (rows, in) uint8, or None where there is none.
        step: (rows, 1) float32, what one integer is worth, or None.
    """

    values: Array
    integers: Array | None = None
    step: Array | None = None


Rounding = Callable[[Sample], Rounded]


def by_tensor(sample: Sample) -> Rounded:
    """Round by the range of the whole value, a text a batch (ONNX DynamicQuantizeLinear)."""
    low, high = (part[sample.text][:, None] for part in (sample.low.min(1), sample.high.max(1)))
    return _affine(sample.rows, low, high)


def by_row(sample: Sample) -> Rounded:
    """Round each row by its own range."""
    rows = sample.rows
    return _affine(rows, rows.min(1, keepdims=True), rows.max(1, keepdims=True))


def _affine(rows: Array, low: Array, high: Array) -> Rounded:
    """Round to 256 steps from low to high, both widened to take in zero; all float32."""
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    step = np.where(high > low, (high - low) / np.float32(255), np.float32(1))
    return fixed(rows, step, np.rint(-low / step))


def fixed(rows: Array, step: Array, zero: Array) -> Rounded:
    """Round with given steps and zero points; what lies beyond 0 to 255 is cut (QuantizeLinear)."""
    integers = np.clip(np.rint(rows / step) + zero, 0, 255)
    values = ((integers - zero) * step).astype(np.float32)
    return Rounded(values, integers.astype(np.uint8), np.broadcast_to(step, (len(rows), 1)))


def by_constant(step: float, zero: int) -> Rounding:
    """Return a rounding with a step and a zero point that the graph holds."""

    def rounding(sample: Sample) -> Rounded:
        return fixed(sample.rows, np.array(step, np.float32), np.array(zero, np.float32))

    return rounding


@dataclass(frozen=True)
class ByBlock:
    """Rounds blocks of a row to -127..127 of their largest (MatMulNBits, accuracy level 4)."""

    size: int = BLOCK

    def __call__(self, sample: Sample) -> Rounded:
        """Return a sample as the product sees it."""
        rows, width = sample.rows, sample.rows.shape[1]
        padded = np.pad(rows, ((0, 0), (0, -width % self.size))).reshape(len(rows), -1, self.size)
        largest = np.abs(padded).max(2, keepdims=True)
        step = np.where(largest > 0, largest / np.float32(127), np.float32(1))
        return Rounded((np.rint(padded / step) * step).reshape(len(rows), -1)[:, :width])


by_block = ByBlock()
