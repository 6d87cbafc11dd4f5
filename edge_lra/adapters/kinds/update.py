"""What an adapter does to one tensor of the base, and the updates that several kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Update(Protocol):
    """A change of one stored tensor.

    Attributes:
        rowwise: a row of the result needs that row of the base only.
        additive: the change does not depend on the base, so several may be summed.
    """

    @property
    def rowwise(self) -> bool:
        """Whether rows may come in chunks."""

    @property
    def additive(self) -> bool:
        """Whether it may be summed with others."""

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Return the updated rows in float64.

        Args:
            rows: (n, ..) float64, from row `start` of the stored tensor; all of them where the
                update is not rowwise.
            start: index of the first row.
        """


@dataclass(frozen=True)
class Factors:
    """A linear's update at run time: y' = (1 + gain) (x W^T + scale x down^T up^T) + b + shift.

    Attributes:
        down: (rank, in), or None without low-rank factors.
        up: (out, rank), the scale folded in.
        gain: (out,), or None for 0.
        shift: (out,), or None for 0.
    """

    down: Array | None = None
    up: Array | None = None
    gain: Array | None = None
    shift: Array | None = None

    def apply(self, x: Array, y: Array, bias: Array | None = None) -> Array:
        """Return the adapted output in float64.

        Args:
            x: (.., in) what the linear reads.
            y: (.., out) x W^T + bias.
            bias: (out,) the linear's own, which the gain leaves alone.
        """
        own = np.zeros(y.shape[-1]) if bias is None else bias
        product = y.astype(np.float64) - own
        if self.down is not None and self.up is not None:
            product = product + x.astype(np.float64) @ self.down.T @ self.up.T
        if self.gain is not None:
            product = product * (1 + self.gain)
        return product + own + (0 if self.shift is None else self.shift)


def product(left: Array, right: Array) -> Array:
    """Return left @ right in float64, summed rank by rank.

    A BLAS product may differ by CPU and thread count in its last bits, and then so would int8.

    Args:
        left: (rows, rank).
        right: (rank, columns).
    """
    total = np.zeros((len(left), right.shape[1]))
    wide, tall = right.astype(np.float64), left.astype(np.float64)
    for index in range(len(wide)):
        total += tall[:, index : index + 1] * wide[index]
    return total


@dataclass(frozen=True)
class Shift:
    """b' = b + offset: a trained bias of the update itself."""

    offset: Array  # (out,)
    rowwise: bool = True
    additive: bool = True

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Add the part of the offset that belongs to the rows."""
        return rows + self.offset[start : start + len(rows)].astype(np.float64)


@dataclass(frozen=True)
class Rows:
    """Some rows of an embedding are others (PEFT's trainable tokens)."""

    indices: Array  # (n,) int64, each once
    values: Array  # (n, width)
    rowwise: bool = True
    additive: bool = False

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Put the trained rows into their places."""
        merged = rows.copy()
        inside = (self.indices >= start) & (self.indices < start + len(rows))
        merged[self.indices[inside] - start] = self.values[inside]
        return merged


@dataclass(frozen=True)
class Chain:
    """Several updates of one adapter to one tensor, one after the other."""

    updates: tuple[Update, ...]
    additive: bool = False

    @property
    def rowwise(self) -> bool:
        """Whether every one takes rows in chunks."""
        return all(update.rowwise for update in self.updates)

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Apply each to the result of the one before."""
        for update in self.updates:
            rows = update.merge(rows, start)
        return rows


@dataclass(frozen=True)
class Weighted:
    """The weighted sum of several adapters' changes; the order does not matter."""

    updates: tuple[tuple[float, Update], ...]
    additive: bool = True

    @property
    def rowwise(self) -> bool:
        """Whether every one takes rows in chunks."""
        return all(update.rowwise for _, update in self.updates)

    def merge(self, rows: Array, start: int = 0) -> Array:
        """Add each weighted change. Sorted: a float sum depends on the order in its last bits."""
        zeros = np.zeros_like(rows)
        changes = [weight * update.merge(zeros, start) for weight, update in self.updates]
        merged: Array = rows + np.sort(np.stack(changes), axis=0).sum(axis=0)
        return merged


def weighted(parts: Sequence[tuple[float, Update]]) -> Update:
    """Return the sum of updates, or the only one as it is where it counts fully."""
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return Weighted(tuple(parts))
