"""Low-rank updates: LoRA, with DoRA's magnitudes, on linears, convolutions and embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_lra.adapters.kinds.update import Array, Factors, product


@dataclass(frozen=True)
class LowRank:
    """W' = W + scale * up @ down (LoRA, Hu et al. 2021, eq. 3; PEFT's lora_B and lora_A).

    A convolution's kernel (out, in, ..) counts as (out, in * ..).
    """

    down: Array  # (rank, in) float32
    up: Array  # (out, rank) float32
    scale: float
    transposed: bool = False  # the base stores (in, out), as GPT-2's Conv1D and embeddings do
    rowwise: bool = True
    additive: bool = True

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Return float64 rows of the base weight plus their share of the update.

        Args:
            rows: (n, ..) float64, from row `start` of the stored weight.
            start: index of the first row.
        """
        left, right = (self.down.T, self.up.T) if self.transposed else (self.up, self.down)
        part = left[start : start + len(rows)].astype(np.float64) * self.scale
        return rows + product(part, right).reshape(rows.shape)

    def factors(self) -> Factors:
        """Return what the graph adds to the linear's output."""
        return Factors(self.down, self.up.astype(np.float64) * self.scale)


@dataclass(frozen=True)
class Dora:
    """W' = m (W + scale * up @ down) / ||W + scale * up @ down|| (DoRA, Liu et al. 2024, eq. 5).

    The norm of PEFT is taken per output of a linear or convolution and per column of an
    embedding, whose update is stored transposed.
    """

    low_rank: LowRank
    magnitude: Array  # (out,)
    additive: bool = False

    @property
    def rowwise(self) -> bool:
        """A transposed weight's norms run over all rows."""
        return not self.low_rank.transposed

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Return the rows with the trained norms."""
        merged = self.low_rank.merge(rows, start)
        flat = merged.reshape(len(merged), -1)
        if self.low_rank.transposed:
            ratio = self.magnitude / np.sqrt((flat**2).sum(axis=0))
        else:
            wanted = self.magnitude[start : start + len(rows)]
            ratio = wanted / np.sqrt((flat**2).sum(axis=1))
            ratio = ratio.reshape(-1, *[1] * (rows.ndim - 1))
        scaled: Array = merged * ratio
        return scaled

    def gain(self, weight: Array) -> Array:
        """Return m / ||W + update|| - 1 by output.

        Args:
            weight: the whole stored weight in float64.
        """
        axis = 0 if self.low_rank.transposed else 1
        merged = self.low_rank.merge(weight).reshape(len(weight), -1)
        ratio: Array = self.magnitude / np.sqrt((merged**2).sum(axis=axis)) - 1
        return ratio


@dataclass(frozen=True)
class Experts:
    """LoRA on a stack of experts' weights (PEFT's target_parameters).

    Stored as (experts, out, in), or (experts, in, out) where `transposed`.
    """

    down: Array  # (experts, rank, in)
    up: Array  # (experts, out, rank)
    scale: float
    transposed: bool = False
    rowwise: bool = True
    additive: bool = True

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Return the experts from `start` on with their updates."""
        merged = rows.copy()
        for place in range(len(rows)):
            delta = product(self.up[start + place] * self.scale, self.down[start + place])
            merged[place] += delta.T if self.transposed else delta
        return merged
