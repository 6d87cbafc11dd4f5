"""How a language model is verified in the memory there is, and whether an export fits at all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.runner.memory import (
    FACTORS,
    GIB,
    PROCESS_BYTES,
    WORST,
    available_bytes,
    shared_bytes,
)
from edge_lra.tensor_files import ITEM_BYTES, TensorInfo

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
# Resident once torch, transformers and peft are imported beside onnxruntime: 430 MiB measured.
LIBRARIES_BYTES = 480 << 20
ACTIVATIONS_BYTES = 160 << 20  # of a layer over a window, and 16 rows of logits several times
EXPORT_BYTES = 200 << 20  # Python with onnx_ir and a few chunks of rows
COUPLED = 5  # matrices (in, in) float64 while a covariance is decomposed
DEQUANTIZED = 4  # bytes of a value whose dtype is a GGUF block: it is float32 once it is read
Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Sizes:
    """A checkpoint's parameters, by where they are.

    Attributes:
        whole: all.
        layer: of the largest layer.
        layers: how many there are.
        table: of the largest tensor outside of layers: the embedding, or the head.
        table_bytes: what that takes once it is read, in the checkpoint's own dtype.
    """

    whole: int
    layer: int
    layers: int
    table: int
    table_bytes: int

    @classmethod
    def of(cls, tensors: Tensors) -> Sizes:
        """Count a checkpoint's tensors."""
        by_layer: dict[int, int] = {}
        table = table_bytes = whole = 0
        for name, info in tensors.items():
            count = math.prod(info.shape)
            whole += count
            match = LAYER.search(name)
            if match:
                by_layer[int(match[1])] = by_layer.get(int(match[1]), 0) + count
            elif count > table:
                table, table_bytes = count, count * ITEM_BYTES.get(info.dtype, DEQUANTIZED)
        return cls(whole, max(by_layer.values(), default=0), len(by_layer), table, table_bytes)

    @property
    def oracle_whole(self) -> int:
        """Bytes of the float model as a whole: float32, beside the checkpoint's own a tensor."""
        return 4 * self.whole + self.table_bytes

    @property
    def oracle_layered(self) -> int:
        """Bytes of the float model a layer at a time, with its head in the checkpoint's dtype."""
        return 5 * self.layer + 2 * self.table_bytes


@dataclass(frozen=True)
class Way:
    """How a bundle is verified.

    Attributes:
        oracle_whole: the float model is in memory as a whole.
        layers: how many of the first layers are compared; None for all.
    """

    oracle_whole: bool
    layers: int | None = None

    @property
    def whole_bundle(self) -> bool:
        """Whether the bundle is run as it is."""
        return self.layers is None


def choose_way(tensors: Tensors, folder: Path) -> Way:
    """Return how to verify a bundle that is written.

    Args:
        tensors: the checkpoint's.
        folder: the bundle's.

    Raises:
        EdgeError: not even one layer fits; gives the figures.
    """
    manifest = load_manifest(folder)
    bundle = (folder / "model.onnx.data").stat().st_size + shared_bytes(manifest)
    return way_for(Sizes.of(tensors), bundle, manifest["scheme"], available_bytes())


def way_for(sizes: Sizes, bundle_bytes: int, scheme: str, free: int | None) -> Way:
    """Return how to verify a bundle of a size.

    Args:
        sizes: the checkpoint's.
        bundle_bytes: of its graph's weights.
        scheme: of the bundle.
        free: bytes; None where that is unknown.

    Raises:
        EdgeError: not even one layer fits; gives the figures.
    """
    if free is None:
        return Way(True)
    session = bundle_bytes * FACTORS.get(scheme, WORST)
    left = free - LIBRARIES_BYTES - ACTIVATIONS_BYTES
    if session + sizes.oracle_whole <= left:
        return Way(True)
    if session + sizes.oracle_layered <= left:
        return Way(False)
    per_layer = session * sizes.layer / max(1, sizes.whole)
    outside = session - per_layer * sizes.layers
    fit = int((left - sizes.oracle_layered - outside) // max(1.0, per_layer))
    if fit >= 1:
        return Way(False, min(fit, sizes.layers))
    needed = LIBRARIES_BYTES + ACTIVATIONS_BYTES + sizes.oracle_layered + outside + per_layer
    raise EdgeError(
        f"verification: found {free / GIB:.2f} GiB of free memory, expected {needed / GIB:.2f} "
        f"for one layer and the head beside their bundle ({session / GIB:.2f} as a whole); close "
        "other programs, or --no-verify"
    )


def check_export(
    tensors: Tensors, weights: Sequence[Any], shared: int, scheme: str, verify: bool
) -> None:
    """Refuse an export that does not fit, before anything is written.

    Args:
        tensors: the checkpoint's.
        weights: what will be stored (`weights.Stored`).
        shared: bytes of it that the graph reads by two names.
        scheme: a key of `SCHEMES`.
        verify: whether a verification follows.

    Raises:
        EdgeError: gives the figures.
    """
    free = available_bytes()
    if free is None:
        return
    largest = max((writing_bytes(weight) for weight in weights), default=0)
    if EXPORT_BYTES + largest > free:
        raise EdgeError(
            f"export: found {free / GIB:.2f} GiB of free memory, expected "
            f"{(EXPORT_BYTES + largest) / GIB:.2f} to write the largest weight "
            f"({largest / GIB:.2f}); close other programs"
        )
    if verify:
        size = sum(spec.nbytes for weight in weights for spec in weight.specs)
        way_for(Sizes.of(tensors), size + shared, scheme, free)


def writing_bytes(weight: Any) -> int:
    """Return what one weight takes while it is written.

    A linear's is turned as a whole in its stored dtype; one that is stored turned, or whose update
    needs it whole, is read whole in float64, with and without the update.
    """
    source = getattr(weight, "source", None)
    stored = sum(int(spec.nbytes) for spec in weight.specs)
    if source is None:
        return stored + PROCESS_BYTES
    update = source.update
    whole = source.transposed or (update is not None and not update.rowwise)
    copies = (1 if update is None else 2) * 8 if whole else 0
    coupled = getattr(weight, "coupling", None) is not None
    moments = 8 * COUPLED * source.shape[1] ** 2 if coupled else 0
    return stored + int(copies * math.prod(source.shape)) + moments
