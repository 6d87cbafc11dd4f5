"""Weights before they are written: a name, a shape, and where the rows come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_lra.adapters import Update
from edge_lra.ahead import ahead
from edge_lra.checkpoint import Checkpoint

Array = npt.NDArray[Any]
CHUNK_BYTES = 1 << 20  # of float32 rows: what a pass over them reads stays in a core's cache


@dataclass(frozen=True)
class Spec:
    """One stored tensor: its name in the graph, its shape and its numpy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Return the size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Stored(Protocol):
    """Tensors that one pass over a source weight yields together."""

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return what will be written, before anything is read."""

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield (tensor name, first row, rows), each row of each tensor once."""


@dataclass(frozen=True)
class Source:
    """A checkpoint tensor (out, in), or an adapter's replacement of it, with an adapter merged.

    Rows are merged in float64 and rounded by whoever stores them, once.

    Attributes:
        shape: of the rows this yields, after `rows` and `columns` have picked.
        row_scale: (out,) factors of the rows; zeros switch outputs off.
        column_scale: (in,) factors of the columns: what was divided out of the input.
        offset: added to every value, as a norm's 1 that its checkpoint leaves out.
        transposed: the checkpoint stores (in, out); read whole and turned.
        known_as: the name adapters know it by, where it shares another tensor's values.
        rows: only these outputs, ascending.
        columns: only these inputs.
    """

    checkpoint: Checkpoint
    tensor: str
    shape: tuple[int, ...]
    update: Update | None = None
    replacement: Array | None = None
    row_scale: Array | None = None
    column_scale: Array | None = None
    offset: float = 0.0
    transposed: bool = False
    known_as: str | None = None
    rows: Array | None = None
    columns: Array | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors whose adapters it takes in, by the names adapters know them by."""
        return (self.known_as or self.tensor,)

    @property
    def narrow(self) -> bool:
        """Whether float32 holds its values exactly, before they are scaled: 16 bits of a file."""
        plain = self.update is None and self.replacement is None and not self.offset
        info = self.checkpoint.tensors.get(self.tensor)
        return plain and not self.transposed and info is not None and info.dtype in ("F16", "BF16")

    def chunks(self) -> Iterator[tuple[int, Array]]:
        """Yield (first row, float64 rows) in chunks of a few MiB."""
        for start, merged, _ in self.pairs():
            yield start, merged

    def rounding_pairs(self) -> Iterator[tuple[int, Array, Array]]:
        """Yield `pairs` for who rounds them to integers: a narrow source's rows in float32.

        Scaled in float32, a value is off by 1e-7 of itself, and integers have 8 bits.
        """
        if not self.narrow:
            yield from self.pairs()
            return
        rows = None if self.row_scale is None else self.row_scale.astype(np.float32)
        columns = None if self.column_scale is None else self.column_scale.astype(np.float32)
        scaled, count = replace(self, row_scale=rows, column_scale=columns), 0
        with closing(ahead(self.checkpoint.row_chunks(self.tensor, CHUNK_BYTES))) as parts:
            for start, part in parts:
                picked = scaled._picked(part, start)
                yield count, picked, picked
                count += len(picked)

    def pairs(self) -> Iterator[tuple[int, Array, Array]]:
        """Yield float64 chunks, and beside each its rows as they are without the update."""
        count = 0
        for start, merged, plain in self._merged():
            rows = self._picked(merged, start)
            yield count, rows, rows if plain is merged else self._picked(plain, start)
            count += len(rows)

    def _picked(self, part: Array, start: int) -> Array:
        picked = self._scaled(part + self.offset if self.offset else part, start)
        if self.rows is not None:
            inside = self.rows[(self.rows >= start) & (self.rows < start + len(part))]
            picked = picked[inside - start]
        return picked if self.columns is None else picked[:, self.columns]

    def _merged(self) -> Iterator[tuple[int, Array, Array]]:
        """Yield (first row, rows with the update, rows without) as (out, in)."""
        if not self.transposed:
            yield from self._stored()
            return
        parts = list(self._stored())
        merged = np.concatenate([merged for _, merged, _ in parts])
        if self.update is None:
            yield 0, merged.T, merged.T
        else:
            yield 0, merged.T, np.concatenate([plain for _, _, plain in parts]).T

    def _stored(self) -> Iterator[tuple[int, Array, Array]]:
        if self.replacement is not None:
            parts = iter([(0, self.replacement)])
        else:
            parts = self.checkpoint.row_chunks(self.tensor)
        wide = ((start, np.asarray(rows).astype(np.float64)) for start, rows in parts)
        if self.update is None:
            for start, rows in wide:
                yield start, rows, rows
        elif self.update.rowwise:
            for start, rows in wide:
                yield start, self.update.merge(rows, start), rows
        else:
            whole = np.concatenate([rows for _, rows in wide])
            yield 0, self.update.merge(whole), whole

    def _scaled(self, rows: Array, start: int) -> Array:
        if self.row_scale is not None:
            scale = self.row_scale[start : start + len(rows)]
            rows = rows * scale.reshape(-1, *[1] * (rows.ndim - 1))
        return rows if self.column_scale is None else rows * self.column_scale


def read_whole(checkpoint: Checkpoint, tensor: str) -> Array:
    """Return a whole tensor in float64."""
    return checkpoint.rows(tensor).astype(np.float64)


@dataclass(frozen=True)
class Folded:
    """A vector stored as float32 with constants folded in: scale (bias + W shift + added).

    Attributes:
        source: of the bias, (out,).
        weight: of W (out, in), its rows picked and scaled as the bias's.
        shift: (in,) what was taken off the input.
        added: (out,) what whoever reads the output expects besides.
        scale: (out,).
    """

    name: str
    source: Source
    weight: Source | None = None
    shift: Array | None = None
    added: Array | None = None
    scale: Array | None = None

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the one float tensor."""
        return (Spec(self.name, self.source.shape, "float32"),)

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield the whole vector."""
        whole = np.concatenate([rows for _, rows in self.source.chunks()])
        if self.weight is not None and self.shift is not None:
            whole = whole + np.concatenate([rows @ self.shift for _, rows in self.weight.chunks()])
        if self.added is not None:
            whole = whole + self.added
        if self.scale is not None:
            whole = whole * self.scale
        yield self.name, 0, whole.astype(np.float32)


@dataclass(frozen=True)
class Dense:
    """A weight stored as float32; a linear's is transposed to (in, out)."""

    name: str
    source: Source
    transpose: bool = False

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the one float tensor."""
        shape = self.source.shape[::-1] if self.transpose else self.source.shape
        return (Spec(self.name, shape, "float32"),)

    def pieces(self) -> Iterator[tuple[str, int, Array]]:
        """Yield the rows as they are read, or the whole transposed weight."""
        if not self.transpose:
            for start, rows in self.source.chunks():
                yield self.name, start, rows.astype(np.float32)
            return
        whole = np.empty(self.specs[0].shape, np.float32)
        for start, rows in self.source.chunks():
            whole[:, start : start + len(rows)] = rows.T
        yield self.name, 0, whole
