"""Write the data file in one pass: offsets from shapes, then every source weight once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from edge_lra.ahead import ahead
from edge_lra.graph.builder import DTYPES, GraphBuilder
from edge_lra.weights import Spec, Stored

PAGE = 4096
SMALL = 16 * 1024  # below this a page of padding each would cost more than it maps
DATA_NAME = "model.onnx.data"


@dataclass(frozen=True)
class Layout:
    """Byte offset of each stored tensor, and the file's size."""

    offsets: dict[str, int]
    size: int


def plan_layout(specs: list[Spec]) -> Layout:
    """Place large tensors on pages and small ones on cache lines, in the graph's order."""
    offsets, end = {}, 0
    for spec in specs:
        align = PAGE if spec.nbytes >= SMALL else 64
        end = -(-end // align) * align
        offsets[spec.name] = end
        end += spec.nbytes
    return Layout(offsets, end)


class DataFile:
    """The data file while it is written: pieces in any order, hashed in the file's.

    Pieces that lie behind one which is still to come wait in memory: the scales of a weight whose
    integers come as a whole.
    """

    def __init__(self, file: BinaryIO, specs: Sequence[Spec], layout: Layout) -> None:
        """Make the file as long as it will be."""
        self.file, self.layout = file, layout
        self.specs = {spec.name: spec for spec in specs}
        ends = [layout.offsets[spec.name] + spec.nbytes for spec in specs]
        self._next = dict(zip(ends, [*layout.offsets.values()][1:], strict=False))
        self._waiting: dict[int, np.ndarray] = {}
        self._hash, self._hashed = hashlib.sha256(), 0
        file.truncate(layout.size)

    def write(self, name: str, row: int, rows: np.ndarray) -> int:
        """Write rows of a tensor; return how many bytes."""
        spec = self.specs[name]
        width = int(np.prod(spec.shape[1:], dtype=np.int64)) * np.dtype(spec.dtype).itemsize
        data = np.ascontiguousarray(rows, dtype=np.dtype(spec.dtype).newbyteorder("<"))
        offset = self.layout.offsets[name] + row * width
        self.file.seek(offset)
        self.file.write(data.data)
        if data.nbytes:
            self._waiting[offset] = data
        while self._hashed in self._waiting:
            self._take(self._waiting.pop(self._hashed))
        return data.nbytes

    def _take(self, data: np.ndarray) -> None:
        """Hash a piece, and the zeros that fill up behind the end of a tensor."""
        self._hash.update(data.data)
        self._hashed += data.nbytes
        while (start := self._next.get(self._hashed, self._hashed)) != self._hashed:
            self._hash.update(bytes(start - self._hashed))
            self._hashed = start

    @property
    def sha256(self) -> str:
        """Return the hash of the whole file.

        Raises:
            RuntimeError: a stored weight yielded less than its specs say.
        """
        if self._hashed != self.layout.size or self._waiting:
            raise RuntimeError(f"found {self._hashed} bytes, expected {self.layout.size}")
        return self._hash.hexdigest()


def write_data(
    builder: GraphBuilder, path: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[Layout, str]:
    """Read each source weight once, in row chunks, and write its tensors at their offsets.

    The next chunks are read and rounded while the last are hashed and written.

    Returns:
        Where each tensor is, and the file's sha256.
    """
    specs = [spec for weight in builder.weights for spec in weight.specs]
    layout = plan_layout(specs)
    done = 0
    with path.open("wb") as opened, closing(ahead(_pieces(builder.weights))) as pieces:
        file = DataFile(opened, specs, layout)
        for name, row, rows in pieces:
            done += file.write(name, row, rows)
            if progress:
                progress(done, layout.size)
    return layout, file.sha256


def _pieces(weights: Sequence[Stored]) -> Iterator[tuple[str, int, np.ndarray]]:
    for weight in weights:
        yield from weight.pieces()


def write_model(
    model: ir.Model, builder: GraphBuilder, layout: Layout, folder: Path, fingerprint: str
) -> None:
    """Save the graph; every stored weight is a reference into the data file."""
    specs = [spec for weight in builder.weights for spec in weight.specs]
    places = [(spec, layout.offsets[spec.name]) for spec in specs]
    places += [(spec, layout.offsets[name]) for name, spec in builder.views.items()]
    for spec, offset in places:
        builder.values[spec.name].const_value = ir.ExternalTensor(
            DATA_NAME,
            offset=offset,
            length=spec.nbytes,
            dtype=DTYPES[spec.dtype],
            shape=ir.Shape(list(spec.shape)),
            name=spec.name,
            base_dir=folder,
        )
    model.metadata_props["edge_lra.base_fingerprint"] = fingerprint
    ir.save(model, folder / "model.onnx")
