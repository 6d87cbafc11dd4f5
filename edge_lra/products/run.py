"""Run a bundle's integer products on this processor against the exact integers that it carries.

MatMulInteger of u8 activations and int8 weights is exact by its definition, so that every
processor must give what 64-bit integers give. Kernels that add pairs in 16 bits saturate instead
(x86 without VNNI), or take other paths for other shapes; nothing shows it but the numbers.

`products.pb` is an ONNX graph of all products with the activations inside it (products.write): a
runner feeds it a zero point and how many rows to multiply, and hashes what it gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.agent.host import processor
from edge_lra.errors import EdgeError, GateError
from edge_lra.runner.session import first_line, open_session

NAME = "products.pb"  # not .onnx: Optimum refuses a folder with two of those
# DynamicQuantizeLinear gives any from 0 to 255; kernels treat 128 and the ends apart.
ZERO_POINTS = (0, 128, 255)
ROWS = 13  # two of the worst, four of extremes, seven random: a tail of every kernel's row tile
CUTS = (ROWS, 1)  # one row alone takes another kernel
NAMED = 3  # unequal products in an error; there may be hundreds
Array = np.ndarray


@dataclass(frozen=True)
class Exactness:
    """What the products gave on one processor.

    Attributes:
        processor: its name.
        count: products that were run.
        unequal: of them, the weights of those with an integer that is not the exact one.
    """

    processor: str
    count: int
    unequal: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        exact = self.count - len(self.unequal)
        return {"processor": self.processor, "count": self.count, "exact": exact}


def check_products(
    folder: Path, manifest: Mapping[str, Any], threads: int | None = None
) -> Exactness | None:
    """Hold every integer product to the exact integers.

    Returns:
        What was found; None for a bundle that carries no exact integers.

    Raises:
        EdgeError: as `run_products`.
        GateError: a product is not exact; names its weight.
    """
    found = run_products(folder, manifest, threads)
    if found and found.unequal:
        more = len(found.unequal) - NAMED
        listed = ", ".join(found.unequal[:NAMED]) + (f" and {more} more" if more > 0 else "")
        raise GateError(
            f"{folder}: found {found.count - len(found.unequal)} of {found.count} int8 products "
            f"exact on {found.processor}, expected all; not those of {listed}; do not ship it on "
            "this machine"
        )
    return found


def run_products(
    folder: Path, manifest: Mapping[str, Any], threads: int | None = None
) -> Exactness | None:
    """Run every integer product of a bundle with the worst activations.

    Args:
        folder: the bundle's.
        manifest: its manifest.
        threads: within an operator; None leaves it to onnxruntime.

    Returns:
        What was found; None for a bundle that carries no exact integers.

    Raises:
        EdgeError: onnxruntime cannot run them, or the graph gives others than the manifest lists.
    """
    entries = manifest.get("products")
    if entries is None:
        return None
    digests = _digests(folder, manifest, threads) if entries else []
    if len(digests) != len(entries):
        raise EdgeError(
            f"{folder / NAME}: found {len(digests)} products, expected {len(entries)}; export again"
        )
    pairs = zip(entries, digests, strict=True)
    unequal = tuple(entry["weight"] for entry, found in pairs if entry["sha256"] != found)
    return Exactness(processor(), len(entries), unequal)


def _digests(folder: Path, manifest: Mapping[str, Any], threads: int | None) -> list[str]:
    """Return the digest of each product with every zero point, of all rows and of one."""
    session = open_session(folder, manifest, threads, NAME)
    found: list[list[Array]] = []
    try:
        for zero_point in ZERO_POINTS:
            for rows in CUTS:
                feeds = {
                    "zero_point": np.array(zero_point, np.uint8),
                    "rows": np.array([rows], np.int64),
                }
                found.append(session.run(None, feeds))
    except Exception as error:  # onnxruntime's classes share no public base
        raise EdgeError(
            f"{folder / NAME}: the integer products cannot be run: {first_line(error)}"
        ) from error
    return [digest(blocks) for blocks in zip(*found, strict=True)]


def digest(blocks: Sequence[Array]) -> str:
    """Return the sha256 of integers, block by block, as little-endian int32."""
    total = hashlib.sha256()
    for block in blocks:
        total.update(np.ascontiguousarray(block, "<i4").tobytes())
    return total.hexdigest()
