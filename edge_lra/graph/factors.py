"""Adapters as graph inputs: sites that read one tensor share one down matmul."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder


@dataclass(frozen=True)
class AdapterInput:
    """A required graph input that an adapter fills; the rank or label axis is symbolic.

    Attributes:
        tensors: checkpoint tensors of the sites whose factors it holds side by side, or the
            one tensor of a task head.
        role: "down" (in, ranks of all sites), "up" (ranks, out), "weight" or "bias".
        index: which of `tensors` an up factor is for; its other rows are zero.
    """

    name: str
    tensors: tuple[str, ...]
    role: str
    shape: tuple[int | str, ...]
    index: int = 0


@dataclass
class _Group:
    name: str
    tensors: tuple[str, ...]
    lowered: ir.Value | None = None  # x down, (.., ranks of all sites)


class FactorWriter:
    """Adds factor ops at adapter sites, and none elsewhere."""

    def __init__(self, graph: GraphBuilder, sites: frozenset[str]) -> None:
        """Take the graph and the checkpoint names of the sites."""
        self.graph = graph
        self.sites = sites
        self.inputs: list[AdapterInput] = []
        self._groups: dict[str, _Group] = {}
        self._downs: dict[str, ir.Value] = {}

    def share(self, x: ir.Value, name: str, tensors: Sequence[str]) -> None:
        """Let the sites among `tensors`, which all read x, share one down factor.

        y_i = (x [A_1 A_2 ..]) [0; B_i; 0]: one wide matmul and no Split. On MiniLM with r8 on q
        and v this costs less than a pair of matmuls a site.
        """
        sites = tuple(tensor for tensor in tensors if tensor in self.sites)
        if sites:
            self._groups[str(x.name)] = _Group(name, sites)

    def add(
        self, x: ir.Value, y: ir.Value, module: str, tensor: str, shape: Sequence[int]
    ) -> ir.Value:
        """Return y plus the factors' part of a linear with weight shape (out, in)."""
        if tensor not in self.sites:
            return y
        group = self._groups.get(str(x.name))
        if group is None or tensor not in group.tensors:
            group = _Group(module, (tensor,))
        down, up = self.pair(module, tensor, shape, group)
        if group.lowered is None:
            group.lowered = self.graph.op("MatMul", [x, down])
        return self.graph.op("Add", [y, self.graph.op("MatMul", [group.lowered, up])])

    def pair(
        self, module: str, tensor: str, shape: Sequence[int], group: _Group | None = None
    ) -> tuple[ir.Value, ir.Value]:
        """Return the down (in, ranks) and up (ranks, out) inputs of a site."""
        group = group or _Group(module, (tensor,))
        out, width = shape
        rank = f"{group.name}.rank"
        name = f"{group.name}.lora_down"
        if name not in self._downs:
            self._downs[name] = self.input(name, group.tensors, "down", (width, rank))
        index = group.tensors.index(tensor)
        up = self.input(f"{module}.lora_up", group.tensors, "up", (rank, out), index)
        return self._downs[name], up

    def input(
        self,
        name: str,
        tensors: tuple[str, ...],
        role: str,
        shape: tuple[int | str, ...],
        index: int = 0,
    ) -> ir.Value:
        """Add a required input that an adapter fills."""
        self.inputs.append(AdapterInput(name, tensors, role, shape, index))
        return self.graph.input(name, "float32", shape)
