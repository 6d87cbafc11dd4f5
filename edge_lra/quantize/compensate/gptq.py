"""GPTQ (Frantar et al. 2022) for the two forms in which weights are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from edge_lra.quantize.blockwise import BLOCK, Blocks, in_blocks, pack
from edge_lra.quantize.compensate.columns import round_columns
from edge_lra.quantize.compensate.coupling import Coupling
from edge_lra.quantize.compensate.error import OutputError, output_error
from edge_lra.quantize.compensate.scales import block_scales
from edge_lra.quantize.pairsafe import PAIR_LIMIT, Quantized, quantize_pair_safe

Array = npt.NDArray[Any]
Stored = TypeVar("Stored", Quantized, Blocks)


class Compensated(NamedTuple, Generic[Stored]):
    """A rounded weight as its form stores it, and the error that is left in its outputs."""

    stored: Stored
    error: OutputError


@dataclass(frozen=True)
class _PairSafe:
    """Integers up to 127 whose neighbours (2k, 2k + 1) of one sign sum to at most 128."""

    scale: Array  # (out,) float64

    def step(self, column: int) -> Array:
        return self.scale

    def nearest(self, column: int, wanted: Array, integers: Array) -> Array:
        other = column ^ 1
        taken = integers[other] if other < len(integers) else np.zeros(len(wanted))
        highest = np.minimum(127, PAIR_LIMIT - np.maximum(taken, 0))
        lowest = np.maximum(-127, -PAIR_LIMIT - np.minimum(taken, 0))
        return np.clip(np.rint(wanted), lowest, highest)


@dataclass(frozen=True)
class _Blocked:
    """Integers of a few bits, with a step for each block of a row."""

    scale: Array  # (out, blocks) float64
    half: int  # 2**(bits - 1)

    def step(self, column: int) -> Array:
        return np.asarray(self.scale[:, column // BLOCK])

    def nearest(self, column: int, wanted: Array, integers: Array) -> Array:
        return np.clip(np.rint(wanted), -self.half, self.half - 1)


def compensate_pair_safe(weight: Array, coupling: Coupling) -> Compensated[Quantized]:
    """Round rows to int8 for the least error of their outputs; pairs stay safe.

    The scales are those of plain rounding. Where a value that made up for others would leave the
    pair's range, it is clipped, and later columns make up for that.

    Args:
        weight: (out, in) some rows or all: the integers of a row do not depend on other rows.
        coupling: of what the weight reads.
    """
    scale = quantize_pair_safe(weight).scale
    wide = scale.astype(np.float64)
    integers = round_columns(weight, coupling, _PairSafe(wide))
    error = output_error(weight, integers * wide[:, None], coupling.moment)
    return Compensated(Quantized(integers.astype(np.int8), scale), error)


def compensate_blocks(weight: Array, coupling: Coupling, bits: int) -> Compensated[Blocks]:
    """Round blocks of 32 inputs to `bits` for the least error of the outputs.

    Args:
        weight: (out, in) some rows or all: the integers of a row do not depend on other rows.
        coupling: of what the weight reads.
        bits: 4 or 8.
    """
    half = 1 << (bits - 1)
    scale = block_scales(weight, bits, coupling.cost)
    integers = round_columns(weight, coupling, _Blocked(scale.astype(np.float64), half))
    stored = Blocks(pack((in_blocks(integers) + half).astype(np.uint8), bits), scale)
    shown = stored.weight(bits, weight.shape[1])
    return Compensated(stored, output_error(weight, shown, coupling.moment))
