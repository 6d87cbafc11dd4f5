"""4-bit blocks with a zero point each, as com.microsoft.MatMulNBits reads them.

A block's integers reach from its least to its largest value, where a symmetric block loses what the
two differ by. SmolLM2-135M, mean KL of the linears by GPTQ: .098 symmetric, .078 with zero points,
for an eighth of a bit a weight; kernels take as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_lra.quantize.blockwise import BLOCK, in_blocks, pack
from edge_lra.quantize.compensate import Coupling
from edge_lra.quantize.compensate.columns import round_columns
from edge_lra.quantize.survival import Survival
from edge_lra.weights import Source, Spec

Array = npt.NDArray[Any]
BITS = 4
HIGHEST = (1 << BITS) - 1
# What is left of a block's two ends, then changes of each alone: an end that is drawn in clips a
# value or two, and its block's steps are finer.
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
CHANGES = (-0.1, -0.05, 0.05, 0.1)


class Range(NamedTuple):
    """What integers 0 to HIGHEST stand for in each block: scale * (integer - zero)."""

    scale: Array  # (out, blocks) float64, of float32 values
    zero: Array  # (out, blocks) float64, whole numbers of 0 to HIGHEST

    def step(self, column: int) -> Array:
        """Return what one integer is worth in a column, (out,)."""
        return np.asarray(self.scale[:, column // BLOCK])

    def nearest(self, column: int, wanted: Array, integers: Array) -> Array:
        """Return the nearest integers less the zero points, (out,)."""
        zero = self.zero[:, column // BLOCK]
        return np.clip(np.rint(wanted), -zero, HIGHEST - zero)


class AffineBlocks(NamedTuple):
    """Packed integers, scales and zero points."""

    packed: Array  # (rows, blocks, bytes) uint8
    scale: Array  # (rows, blocks) float32
    zero: Array  # (rows, bytes) uint8, two blocks a byte

    def weight(self, columns: int) -> Array:
        """Return the weight they stand for, (rows, columns) float64."""
        values, zeros = (
            np.stack([part & 15, part >> 4], axis=-1).reshape(len(part), -1).astype(np.float64)
            for part in (self.packed, self.zero)
        )
        blocks = values.reshape(*self.scale.shape, -1) - zeros[:, : self.scale.shape[1], None]
        shown = blocks * self.scale.astype(np.float64)[..., None]
        return np.asarray(shown.reshape(len(values), -1)[:, :columns])


def block_ranges(weight: Array, cost: Array) -> Range:
    """Return the range of each block that costs least when rounded plainly.

    Zero lies within every range, so that zeros are exact.

    Args:
        weight: (out, in).
        cost: (in,) of a squared error of each column.
    """
    blocks, weights = in_blocks(weight, BLOCK), in_blocks(cost[None], BLOCK)
    high = np.maximum(blocks.max(axis=2), 0.0)
    low = np.minimum(blocks.min(axis=2), 0.0)
    best = np.full(high.shape, np.inf)
    ends = np.ones((2, *high.shape))  # what is left of the upper and of the lower end
    scale, zero = np.ones(high.shape), np.zeros(high.shape)

    def attempt(shares: Array) -> None:
        nonlocal best, ends, scale, zero
        upper, lower = high * shares[0], low * shares[1]
        width = np.maximum((upper - lower) / HIGHEST, 1e-30)
        step = width.astype(np.float32).astype(np.float64)
        offset = np.clip(np.rint(-lower / step), 0, HIGHEST)
        gap = np.rint(blocks / step[..., None])
        np.maximum(gap, -offset[..., None], out=gap)
        np.minimum(gap, (HIGHEST - offset)[..., None], out=gap)
        gap *= step[..., None]
        gap -= blocks
        gap *= gap
        lost = (weights * gap).sum(axis=2)
        better = lost < best
        best, ends = np.where(better, lost, best), np.where(better, shares, ends)
        scale, zero = np.where(better, step, scale), np.where(better, offset, zero)

    for share in SHARES:
        attempt(np.full(ends.shape, share))
    for end in (0, 1):
        found = ends.copy()
        for change in CHANGES:
            tried = found.copy()
            tried[end] += change
            attempt(tried)
    return Range(scale, zero)


def round_affine(weight: Array, coupling: Coupling | None) -> AffineBlocks:
    """Round blocks of 32 inputs to 4 bits, each with a scale and a zero point.

    Args:
        weight: (out, in) some rows or all: the integers of a row do not depend on other rows.
        coupling: of what the weight reads, for the least error of the outputs; None for the
            weight's own.
    """
    wide = weight.astype(np.float64, copy=False)
    cost = np.ones(weight.shape[1]) if coupling is None else coupling.cost
    span = block_ranges(wide, cost)
    zero = span.zero[..., None]
    if coupling is None:
        integers = np.rint(in_blocks(wide) / span.scale[..., None]) + zero
    else:
        integers = in_blocks(round_columns(wide, coupling, span)) + zero
    packed = pack(np.clip(integers, 0, HIGHEST).astype(np.uint8), BITS)
    zeros = np.zeros((len(weight), zero.shape[1] + zero.shape[1] % 2), np.uint8)
    zeros[:, : zero.shape[1]] = span.zero
    return AffineBlocks(packed, span.scale.astype(np.float32), pack(zeros, BITS))


@dataclass(frozen=True)
class AffineWeight:
    """Packed integers, scales and zero points of one weight (out, in), from one pass over it."""

    name: str
    source: Source
    survival: Survival | None = None  # filled while the rows are written
    coupling: Callable[[], Coupling] | None = None  # of the inputs; None rounds plainly

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the place of the packed integers, of the scales and of the zero points."""
        rows, columns = self.source.shape
        blocks = -(-columns // BLOCK)
        return (
            Spec(f"{self.name}.int{BITS}", (rows, blocks, BLOCK * BITS // 8), "uint8"),
            Spec(f"{self.name}.scale", (rows * blocks,), "float32"),
            Spec(f"{self.name}.zero", (rows * -(-blocks // 2),), "uint8"),
        )

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield the rows of all three as they come."""
        values, scale, zero = self.specs
        for start, rows, plain in self.source.rounding_pairs():
            part = round_affine(rows, self.coupling() if self.coupling else None)
            if self.survival is not None:
                self.survival.add(part.weight(rows.shape[1]), part.scale.max(axis=1), rows, plain)
            yield values.name, start, part.packed
            yield scale.name, start * part.scale.shape[1], part.scale.reshape(-1)
            yield zero.name, start * part.zero.shape[1], part.zero.reshape(-1)
