"""Write the data file in one pass: offsets from shapes, then every source weight once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from edge_lra.graph.builder import DTYPES, GraphBuilder
from edge_lra.weights import Spec

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


def write_data(
    builder: GraphBuilder, path: Path, progress: Callable[[int, int], None] | None = None
) -> Layout:
    """Read each source weight once, in row chunks, and write its tensors at their offsets."""
    specs = [spec for weight in builder.weights for spec in weight.specs]
    layout = plan_layout(specs)
    by_name = {spec.name: spec for spec in specs}
    done = 0
    with path.open("wb") as file:
        file.truncate(layout.size)
        for weight in builder.weights:
            for name, row, rows in weight.pieces():
                done += _write_rows(file, layout.offsets[name], by_name[name], row, rows)
                if progress:
                    progress(done, layout.size)
    return layout


def _write_rows(file: BinaryIO, offset: int, spec: Spec, row: int, rows: np.ndarray) -> int:
    width = int(np.prod(spec.shape[1:], dtype=np.int64)) * np.dtype(spec.dtype).itemsize
    data = np.ascontiguousarray(rows, dtype=np.dtype(spec.dtype).newbyteorder("<"))
    file.seek(offset + row * width)
    file.write(data.data)
    return data.nbytes


def write_model(
    model: ir.Model, builder: GraphBuilder, layout: Layout, folder: Path, fingerprint: str
) -> None:
    """Save the graph; every stored weight is a reference into the data file."""
    specs = {spec.name: spec for weight in builder.weights for spec in weight.specs}
    for name, value in builder.values.items():
        spec = specs[name]
        value.const_value = ir.ExternalTensor(
            DATA_NAME,
            offset=layout.offsets[name],
            length=spec.nbytes,
            dtype=DTYPES[spec.dtype],
            shape=ir.Shape(list(spec.shape)),
            name=name,
            base_dir=folder,
        )
    model.metadata_props["edge_lra.base_fingerprint"] = fingerprint
    ir.save(model, folder / "model.onnx")
