"""Adapters as graph inputs: sites that read one tensor share one down matmul."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edge_lra.graph.builder import GraphBuilder
from edge_lra.weights import Array

ADAPTER_INDEX = "adapter_index"  # the input (batch,) that says which of the stacked a row uses


@dataclass(frozen=True)
class AdapterInput:
    """A required graph input that an adapter fills; the rank or label axis is symbolic.

    Attributes:
        tensors: checkpoint tensors of the sites whose factors it holds side by side, or the
            one tensor of a task head.
        role: "down" (in, ranks of all sites), "up" (ranks, out), "joined_up"
            (ranks, outputs of all linears that read one value), "gain" (out), "shift" (out),
            "weight" or "bias" of a head, or of an adapter of two layers "layers_down" (width,
            rank), "layers_down_bias", "layers_up" (rank, out), "layers_up_bias" and "replace"
            (1), which is 1 where the module's own output goes.
        index: which of `tensors` an up factor is for; its other rows are zero.
        layers: kind and activation of the two layers it is one tensor of.
        stacked: the graph's input has an axis of adapters before `shape`.
        dtype: "float32" or "float16".
        divisor: (in,) what the value that it multiplies was divided by; an adapter's own tensor
            takes it in before it is written.
        columns: where the outputs of each of `tensors` begin in a "joined_up" factor.
    """

    name: str
    tensors: tuple[str, ...]
    role: str
    shape: tuple[int | str, ...]
    index: int = 0
    layers: tuple[str, str] | None = None
    stacked: bool = False
    dtype: str = "float32"
    divisor: Array | None = None
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Slot:
    """What adapters may do at a site.

    Attributes:
        low_rank: add factors.
        gain: scale the outputs.
        shift: move the bias.
        layers: kind and activation of two layers at the output, or None.
    """

    low_rank: bool = False
    gain: bool = False
    shift: bool = False
    layers: tuple[str, str] | None = None


@dataclass
class _Group:
    name: str
    tensors: tuple[str, ...]
    lowered: ir.Value | None = None  # x down, (.., ranks of all sites)


class FactorWriter:
    """Adds factor ops at adapter sites, and none elsewhere."""

    def __init__(
        self,
        graph: GraphBuilder,
        slots: Mapping[str, Slot],
        stacked: bool = False,
        dtype: str = "float32",
    ) -> None:
        """Take the graph and what adapters do.

        Args:
            graph: the graph.
            slots: by the checkpoint's name of a site's weight.
            stacked: each input holds many adapters, and `adapter_index` says which a row uses.
            dtype: of the inputs, "float32" or "float16".
        """
        self.graph = graph
        self.slots = slots
        self.stacked = stacked
        self.dtype = dtype
        self.divisors: dict[str, Array] = {}  # of divided values, by their names
        self._index: tuple[ir.Value, ir.Value] | None = None
        self.sites = frozenset(tensor for tensor, slot in slots.items() if slot.low_rank)
        self.inputs: list[AdapterInput] = []
        self._groups: dict[str, _Group] = {}
        self._downs: dict[str, ir.Value] = {}
        self._given: dict[str, ir.Value] = {}

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
        down, up = self.pair(module, tensor, shape, group, self.divisors.get(str(x.name)))
        if group.lowered is None:
            group.lowered = self.graph.op("MatMul", [x, down])
        return self.graph.op("Add", [y, self.graph.op("MatMul", [group.lowered, up])])

    def only_low_rank(self, tensors: Sequence[str]) -> bool:
        """Say whether adapters do nothing at these sites but add factors."""
        return all(self.slots.get(tensor, Slot()) in (Slot(), Slot(True)) for tensor in tensors)

    def add_joined(
        self,
        x: ir.Value,
        y: ir.Value,
        name: str,
        outputs: Sequence[tuple[str, int]],
        width: int,
    ) -> ir.Value:
        """Return y, the products of several linears side by side, plus their factors' parts.

        One down and one up matmul for all: y = x W + (x [A_1 A_2 ..]) B, each B_i in B's columns
        of its own linear and all else zero.

        Args:
            x: what the linears read, (.., width).
            y: (.., outputs of all).
            name: of the linears together.
            outputs: tensor and number of outputs of each.
            width: inputs of each.
        """
        ends = np.cumsum([size for _, size in outputs])
        starts = {t: int(end) - size for (t, size), end in zip(outputs, ends, strict=True)}
        sites = tuple(tensor for tensor, _ in outputs if tensor in self.sites)
        if not sites:
            return y
        rank, divisor = f"{name}.rank", self.divisors.get(str(x.name))
        down = self.input(f"{name}.lora_down", sites, "down", (width, rank), divisor=divisor)
        up = self.input(
            f"{name}.lora_up",
            sites,
            "joined_up",
            (rank, int(ends[-1])),
            columns=tuple(starts[tensor] for tensor in sites),
        )
        lowered = self.graph.op("MatMul", [x, down])
        return self.graph.op("Add", [y, self.graph.op("MatMul", [lowered, up])])

    def gain(self, module: str, tensor: str, out: int) -> ir.Value | None:
        """Return the input (out,) that scales a site's outputs less 1, where there is one."""
        if tensor not in self.slots or not self.slots[tensor].gain:
            return None
        return self.input(f"{module}.gain", (tensor,), "gain", (out,))

    def scale(self, y: ir.Value, gain: ir.Value | None) -> ir.Value:
        """Return y (1 + gain). Stored less 1, so that zeros switch it off."""
        return y if gain is None else self.graph.op("Add", [y, self.graph.op("Mul", [y, gain])])

    def shift(self, module: str, tensor: str, out: int) -> ir.Value | None:
        """Return the input (out,) that is added to a site's bias, where there is one."""
        if tensor not in self.slots or not self.slots[tensor].shift:
            return None
        return self.input(f"{module}.shift", (tensor,), "shift", (out,))

    def finish(
        self,
        x: ir.Value,
        y: ir.Value,
        bias: ir.Value | None,
        module: str,
        tensor: str,
        shape: Sequence[int],
    ) -> ir.Value:
        """Return a linear's output from its product y: factors, gain, bias, shift and layers.

        The bias comes first where nothing scales the product: onnxruntime fuses the two.
        """
        gain = self.gain(module, tensor, shape[0])
        if gain is None:
            y = self.add(x, self.biased(y, bias), module, tensor, shape)
        else:
            y = self.biased(self.scale(self.add(x, y, module, tensor, shape), gain), bias)
        shift = self.shift(module, tensor, shape[0])
        y = y if shift is None else self.graph.op("Add", [y, shift])
        return self.layers(x, y, module, tensor, shape)

    def biased(self, y: ir.Value, bias: ir.Value | None) -> ir.Value:
        """Return y + bias, where there is one."""
        return y if bias is None else self.graph.add_bias(y, bias)

    def layers(
        self, x: ir.Value, y: ir.Value, module: str, tensor: str, shape: Sequence[int]
    ) -> ir.Value:
        """Return y with an adapter of two layers behind the module, or beside it.

        Args:
            x: what the module reads.
            y: (.., out) what it returns.
            module: its name.
            tensor: the checkpoint's name of its weight.
            shape: of that weight, (out, in).
        """
        slot = self.slots.get(tensor)
        if slot is None or slot.layers is None:
            return y
        kind, activation = slot.layers
        out, inputs = shape
        read, width = (x, inputs) if kind == "parallel" else (y, out)
        rank = f"{module}.layers_rank"

        def given(role: str, *shape: int | str) -> ir.Value:
            divisor = self.divisors.get(str(read.name)) if role == "layers_down" else None
            return self.input(
                f"{module}.{role}", (tensor,), role, shape, layers=slot.layers, divisor=divisor
            )

        graph = self.graph
        inner = graph.op("MatMul", [read, given("layers_down", width, rank)])
        inner = graph.op("Add", [inner, given("layers_down_bias", rank)])
        inner = activate(graph, inner, activation)
        outer = graph.op("MatMul", [inner, given("layers_up", rank, out)])
        outer = graph.op("Add", [outer, given("layers_up_bias", out)])
        if kind == "serial":
            dropped = graph.op("Mul", [y, given("replace", 1)])
            y = graph.op("Sub", [y, dropped])
        return graph.op("Add", [y, outer])

    def pair(
        self,
        module: str,
        tensor: str,
        shape: Sequence[int],
        group: _Group | None = None,
        divisor: Array | None = None,
    ) -> tuple[ir.Value, ir.Value]:
        """Return the down (in, ranks) and up (ranks, out) inputs of a site.

        Args:
            module: the site's name.
            tensor: the checkpoint's name of its weight.
            shape: of that weight, (out, in).
            group: the sites it shares the down factor with.
            divisor: (in,) what the value it reads was divided by.
        """
        group = group or _Group(module, (tensor,))
        out, width = shape
        rank = f"{group.name}.rank"
        name = f"{group.name}.lora_down"
        if name not in self._downs:
            self._downs[name] = self.input(
                name, group.tensors, "down", (width, rank), divisor=divisor
            )
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
        layers: tuple[str, str] | None = None,
        divisor: Array | None = None,
        columns: tuple[int, ...] | None = None,
    ) -> ir.Value:
        """Add a required input that an adapter fills, and return it as float32.

        Stacked, the input is (adapters, ..) and what is returned (batch, ..): each row's own, a
        vector as (batch, 1, out).
        """
        if name in self._given:  # a module that is called again
            return self._given[name]
        self.inputs.append(
            AdapterInput(
                name,
                tensors,
                role,
                shape,
                index,
                layers,
                self.stacked,
                self.dtype,
                divisor,
                columns,
            )
        )
        if self.stacked:
            rows, vectors = self.indices()
            value = self.graph.input(name, self.dtype, ("adapters", *shape))
            value = self.graph.op("Gather", [value, rows if len(shape) > 1 else vectors])
        else:
            value = self.graph.input(name, self.dtype, shape)
        if self.dtype != "float32":
            value = self.graph.op("Cast", [value], to=int(ir.DataType.FLOAT))
        self._given[name] = value
        return value

    def indices(self) -> tuple[ir.Value, ir.Value]:
        """Return which adapter each row uses, as (batch,) and as (batch, 1)."""
        if self._index is None:
            rows = self.graph.input(ADAPTER_INDEX, "int64", ("batch",))
            vectors = self.graph.op("Unsqueeze", [rows, self.graph.ints(1)])
            self._index = rows, vectors
        return self._index


def activate(graph: GraphBuilder, x: ir.Value, name: str) -> ir.Value:
    """Apply the activation between an adapter's two layers."""
    if name == "linear":
        return x
    if name == "silu":
        return graph.op("Mul", [x, graph.op("Sigmoid", [x])])
    return graph.op(name.capitalize(), [x])
