"""Peak memory and load time of a bundle, from its graph and figures of the lean runner."""

from __future__ import annotations

from collections.abc import Mapping

from edge_lra.profile.estimate.costs import BLOCKS, PRODUCTS, RENAMES
from edge_lra.profile.estimate.shapes import Step, Walk

# Resident once Python, numpy, onnxruntime and edge_lra.runner are imported, and what a session
# without weights adds (the library's code, graph, arena): Linux x86-64, Python 3.11,
# onnxruntime 1.32. Found: 53.6 MiB, and 10-24 MiB over bundles of 124 to 273 nodes.
IMPORTS_MIB = 53.6
SESSION_MIB = (9.0, 18.0, 26.0)
# The arena hands out blocks that grow by powers of two, and kernels keep scratch of their own.
ARENA_FACTOR = (1.0, 1.5, 2.5)
# A gathered row is a page at least, and 64 KiB where the system maps around a touched page.
ROW_BYTES = (1 << 12, 1 << 15, 1 << 16)
GATHERS = ("Gather", "GatherBlockQuantized")
# A prepacked product's weights are copied once and their file pages let go; at the high end a
# tenth of them are still mapped while others are packed.
PACKED_FACTOR = (1.0, 1.0, 1.1)
LOAD_BASE_S = (0.03, 0.25)  # opening, optimizing the graph
LOAD_GB_S = (1.5, 0.25)  # weights read, packed: found .4 to 1.2 here, where the file was cached


def planned_bytes(walk: Walk) -> int:
    """Return the largest sum of live activations, each freed behind its last reader."""
    aliases = walk.aliases | _renamed(walk)
    last = {
        _root(name, aliases): place
        for place, step in enumerate(walk.steps)
        for name in (*step.node.input, *step.node.output)
        if name
    }
    ends: dict[int, int] = {}
    live, peak = 0, 0
    for place, step in enumerate(walk.steps):
        for name, value in zip(step.node.output, step.outputs, strict=False):
            if name and _root(name, aliases) == name:
                live += value.size_bytes
                ends[last[name]] = ends.get(last[name], 0) + value.size_bytes
        peak = max(peak, live)
        live -= ends.pop(place, 0)
    return peak


def _renamed(walk: Walk) -> dict[str, str]:
    """Return outputs that share their input's buffer."""
    views = RENAMES - {"Shape", "Constant"}
    return {
        step.node.output[0]: step.node.input[0]
        for step in walk.steps
        if step.node.op_type in views and step.inputs[0] is not None and not step.inputs[0].weight
    }


def _root(name: str, aliases: Mapping[str, str]) -> str:
    while name in aliases:
        name = aliases[name]
    return name


def peak_rss_mib(walk: Walk) -> tuple[float, float, float]:
    """Return low, middle and high of a process's peak: imports, session, weights, activations."""
    packed = sum(map(_packed_bytes, walk.steps))
    activations = planned_bytes(walk)
    rows = [_gathered(step) for step in walk.steps if step.node.op_type in GATHERS]

    def total(end: int) -> float:
        touched = sum(min(table, count * ROW_BYTES[end]) for table, count in rows)
        bytes_ = packed * PACKED_FACTOR[end] + activations * ARENA_FACTOR[end] + touched
        return IMPORTS_MIB + SESSION_MIB[end] + bytes_ / 2**20

    return total(0), total(1), total(2)


def _packed_bytes(step: Step) -> int:
    """Return a product's prepacked weight; of blocks, with scales and as many sums beside them."""
    kind, weight = PRODUCTS.get(step.node.op_type), step.inputs[1] if step.inputs[1:] else None
    if kind is None or weight is None or not weight.weight:
        return 0
    scale = step.inputs[2] if kind == BLOCKS else None
    return weight.size_bytes + (2 * scale.size_bytes if scale is not None else 0)


def _gathered(step: Step) -> tuple[int, int]:
    """Return a table's bytes and how many of its rows are read."""
    table, ids = step.inputs[0], step.inputs[1]
    if table is None or ids is None or not table.weight:
        return 0, 0
    return table.size_bytes, ids.elements


def load_seconds(file_bytes: int, clock_ratio: float) -> tuple[float, float]:
    """Return a range for opening a bundle.

    Args:
        file_bytes: of the graph and its weights.
        clock_ratio: the calibration's clock over the device's.
    """
    low, high = (
        base + file_bytes / rate / 1e9 for base, rate in zip(LOAD_BASE_S, LOAD_GB_S, strict=True)
    )
    return low * clock_ratio, high * clock_ratio
