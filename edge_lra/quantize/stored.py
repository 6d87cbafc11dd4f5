"""Rounded weights as the data file holds them, from one pass over their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.quantize.blockwise import BLOCK, Blocks, quantize_blocks
from edge_lra.quantize.compensate import Coupling, compensate_blocks, restore
from edge_lra.quantize.pairsafe import Quantized
from edge_lra.quantize.readings import Extra
from edge_lra.quantize.survival import Survival
from edge_lra.weights import Source, Spec, Stored

Array = npt.NDArray[Any]
TURNED = 16  # rows turned at once: the lines of that many columns stay in L1


@dataclass(frozen=True)
class Int8Weight:
    """Integers and scales of one weight, from one pass over its rows."""

    name: str
    source: Source
    quantize: Callable[[Array], Quantized]
    transpose: bool
    survival: Survival | None = None  # filled while the rows are written

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the integers' and the scales' place."""
        rows, columns = self.source.shape
        values = (columns, rows) if self.transpose else (rows, columns)
        scale = (rows,) if self.transpose else (rows, 1)
        return Spec(f"{self.name}.int8", values, "int8"), Spec(
            f"{self.name}.scale", scale, "float32"
        )

    def shown(self, integers: Array, scale: Array) -> Array:
        """Return the weight that both tensors stand for as they are stored, (out, in) float64."""
        values = integers.T if self.transpose else integers
        return np.asarray(values * scale.astype(np.float64).reshape(-1, 1))

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield embedding rows as they come; a linear's integers whole, turned to (in, out)."""
        values, scale = self.specs
        if self.transpose:
            whole = np.empty(values.shape, np.int8)
            for start, found in self.turn_into(whole):
                yield scale.name, start, found
            yield values.name, 0, whole
            return
        for start, part in self.rounded():
            yield scale.name, start, part.scale[:, None]
            yield values.name, start, part.values

    def rounded(self) -> Iterator[tuple[int, Quantized]]:
        """Yield (first row, rows as integers)."""
        for start, rows, plain in self.source.rounding_pairs():
            part = self.quantize(rows)
            if self.survival is not None:
                wide = part.scale.astype(np.float64)[:, None]
                self.survival.add(part.values * wide, part.scale, rows, plain)
            yield start, part

    def turn_into(self, whole: Array) -> Iterator[tuple[int, Array]]:
        """Write the integers into (in, out); yield (first output, scales)."""
        for start, part in self.rounded():
            for row in range(0, len(part.values), TURNED):
                values = part.values[row : row + TURNED]
                whole[:, start + row : start + row + len(values)] = values.T
            yield start, part.scale


@dataclass(frozen=True)
class BlockWeight:
    """Packed integers and block scales of one weight (out, in), from one pass over its rows."""

    name: str
    source: Source
    bits: int
    survival: Survival | None = None  # filled while the rows are written
    coupling: Callable[[], Coupling] | None = None  # of the inputs; None rounds plainly
    block: int = BLOCK  # inputs that share a scale; another only where nothing is coupled

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the packed integers' and the scales' place."""
        rows, columns = self.source.shape
        blocks = -(-columns // self.block)
        packed = (rows, blocks, self.block * self.bits // 8)
        return Spec(f"{self.name}.int{self.bits}", packed, "uint8"), Spec(
            f"{self.name}.scale", (rows * blocks,), "float32"
        )

    def shown(self, integers: Array, scale: Array) -> Array:
        """Return the weight that both tensors stand for as they are stored, (out, in) float64."""
        blocks = Blocks(integers, scale.reshape(integers.shape[:2]))
        return blocks.weight(self.bits, self.source.shape[1])

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield both tensors' rows as they come."""
        values, scale = self.specs
        for start, rows, plain in self.source.rounding_pairs():
            part = self.rounded(rows)
            if self.survival is not None:
                shown = part.weight(self.bits, rows.shape[1])
                self.survival.add(shown, np.abs(part.scale).max(axis=1), rows, plain)
            yield values.name, start, part.packed
            yield scale.name, start * part.scale.shape[1], part.scale.reshape(-1)

    def rounded(self, rows: Array) -> Blocks:
        """Return rows as blocks."""
        if self.coupling is None:
            return quantize_blocks(rows, self.bits, self.block)
        return compensate_blocks(rows, self.coupling(), self.bits).stored


@dataclass(frozen=True)
class RestoredWeight:
    """A rounded weight, and factors of low rank that make up for the error of its outputs."""

    rounded: Int8Weight | BlockWeight
    extra: Extra

    @property
    def name(self) -> str:
        """The weight's name."""
        return self.rounded.name

    @property
    def source(self) -> Source:
        """Where its float rows come from."""
        return self.rounded.source

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the rounded weight's place and the factors', down (in, rank), up (rank, out)."""
        out, width = self.source.shape
        rank = min(self.extra.rank, out, width)
        down = Spec(f"{self.name}.extra_down", (width, rank), "float32")
        up = Spec(f"{self.name}.extra_up", (rank, out), "float32")
        return (*self.rounded.specs, down, up)

    def shown(self, integers: Array, scale: Array, down: Array, up: Array) -> Array:
        """Return the weight that all four stand for, (out, in) float64."""
        return self.rounded.shown(integers, scale) + (down.astype(np.float64) @ up).T

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield the rounded weight's pieces, and the factors behind them."""
        values, scale, down, up = self.specs
        kept = {spec.name: np.empty(spec.shape, spec.dtype) for spec in (values, scale)}
        for name, start, rows in self.rounded.pieces():
            kept[name][start : start + len(rows)] = rows
            yield name, start, rows
        weight = np.concatenate([rows for _, rows in self.source.chunks()])
        shown = self.rounded.shown(kept[values.name], kept[scale.name])
        factors = restore(weight, shown, self.extra.moment(), up.shape[0]).factors
        assert factors.down is not None and factors.up is not None
        yield down.name, 0, factors.down.T
        yield up.name, 0, factors.up.T


@dataclass(frozen=True)
class JoinedWeight:
    """Int8 weights that read one input, side by side as one: (in, all outputs)."""

    parts: tuple[Int8Weight, ...]

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the integers' and the scales' place, under the first part's name."""
        name = self.parts[0].name
        outputs = sum(part.source.shape[0] for part in self.parts)
        values = (self.parts[0].source.shape[1], outputs)
        return Spec(f"{name}.int8", values, "int8"), Spec(f"{name}.scale", (outputs,), "float32")

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield scales as they come, and the integers whole."""
        values, scale = self.specs
        whole = np.empty(values.shape, np.int8)
        first = 0
        for part in self.parts:
            outputs = part.source.shape[0]
            for start, found in part.turn_into(whole[:, first : first + outputs]):
                yield scale.name, first + start, found
            first += outputs
        yield values.name, 0, whole


Rounded = Int8Weight | BlockWeight | RestoredWeight  # one weight of one source


def single_weights(weights: Sequence[Stored]) -> list[Stored]:
    """Return the weights, the parts of joined ones and those that were restored in their place."""
    apart: list[Stored] = []
    for weight in weights:
        if isinstance(weight, RestoredWeight):
            apart.append(weight.rounded)
        else:
            apart.extend(weight.parts if isinstance(weight, JoinedWeight) else [weight])
    return apart


def survival_of(weight: Source) -> Survival | None:
    """Return where to count what is left of an adapter's change; None where nothing changes."""
    return Survival(weight.tensor) if weight.update is not None else None
