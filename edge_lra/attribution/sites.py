"""The quantized products of a bundle's graph, each with its float weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edge_lra.attribution.rounding import ByBlock, Rounding, by_constant, by_tensor
from edge_lra.errors import EdgeError
from edge_lra.quantize.stored import Rounded
from edge_lra.weights import Stored

Array = npt.NDArray[Any]
# Root mean square of integers' distance from their weights, in steps, MiniLM: .29 rounded plainly,
# .36 to .44 by GPTQ, 31 and more from another order of the rows.
STEPS_OFF = 2.0
FEW = ".outliers"  # ends the name of a feed-forward weight's few rows that are multiplied apart


class NotCoveredError(EdgeError):
    """The bundle's errors cannot be taken apart; says why."""


class Weight(NamedTuple):
    """A weight before and after it was rounded.

    Attributes:
        exact: (out, in) float64, with adapters merged.
        rounded: (out, in) float64, what the bundle's integers stand for.
        step: (out,) float64, the largest step of each row's integers.
        integers: as stored, (in, out) int8 or packed (out, blocks, bytes) uint8.
    """

    exact: Array
    rounded: Array
    step: Array
    integers: Array


@dataclass(frozen=True)
class Site:
    """One product with a rounded weight.

    Attributes:
        weight: its float rows, and the names of what is stored.
        layer: the encoder layer it is in.
        role: what it does there, by the recipe.
        reads: the name of the float value that is multiplied.
        rounding: how that is rounded.
        stored: integers, scales and factors as the bundle holds them, unread until asked for.
    """

    weight: Rounded
    layer: int
    role: str
    reads: str
    rounding: Rounding
    stored: tuple[ir.Value, ...]

    @property
    def name(self) -> str:
        """The weight's name in the graph."""
        return self.weight.name

    def read(self) -> Weight:
        """Read both forms of the weight.

        Raises:
            NotCoveredError: the bundle's integers are not what the float weight rounds to.
        """
        stored = [_read(value) for value in self.stored]
        integers, scale = stored[:2]
        exact = np.concatenate([rows for _, rows in self.weight.source.chunks()])
        rounded = self.weight.shown(*stored)
        step = np.abs(scale.astype(np.float64)).reshape(len(rounded), -1).max(1)
        if rounded.shape != exact.shape or _steps_off(exact, rounded, step) > STEPS_OFF:
            raise _not_of_this(self.name)
        return Weight(exact, rounded, step, integers)

    @property
    def nbytes(self) -> int:
        """Return the bytes that are stored."""
        return sum(spec.nbytes for spec in self.weight.specs)

    @property
    def divided(self) -> bool:
        """Whether the value it reads had its outlier channels divided; zeros only mask some."""
        scale = self.weight.source.column_scale
        return scale is not None and not np.isin(scale, (0, 1)).all()


def find_sites(
    graph: ir.Graph, weights: Sequence[Stored], roles: Mapping[str, tuple[int, str]]
) -> list[Site]:
    """Return the products of a graph with rounded weights, in its order.

    Args:
        graph: the bundle's.
        weights: where each stored tensor's float rows come from.
        roles: layer and role by module.

    Raises:
        NotCoveredError: activations are rounded in a way that has no model here.
    """
    rounded = (weight for weight in weights if isinstance(weight, Rounded))
    by_name = {weight.specs[0].name: weight for weight in rounded}
    return list(_sites(graph, by_name, roles))


def _sites(
    graph: ir.Graph,
    weights: Mapping[str, Rounded],
    roles: Mapping[str, tuple[int, str]],
) -> Iterator[Site]:
    for node in graph:
        if node.op_type not in PRODUCTS:
            continue
        integers = node.inputs[1]
        assert integers is not None
        weight = weights.get(str(integers.name))
        if weight is None:
            raise _not_of_this(str(integers.name))
        module = weight.name.removesuffix(FEW).removesuffix(".weight")
        layer, role = roles[module]
        role += " (few)" if weight.name.endswith(FEW) else ""
        reads, rounding = PRODUCTS[node.op_type](node)
        stored = tuple(graph.initializers[spec.name] for spec in weight.specs)
        yield Site(weight, layer, role, reads, rounding, stored)


def _steps_off(exact: Array, rounded: Array, step: Array) -> float:
    """Return the root mean square distance of a rounded weight from its float rows, in steps."""
    return float(np.sqrt(np.mean(((rounded - exact) / np.maximum(step, 1e-30)[:, None]) ** 2)))


def _not_of_this(name: str) -> NotCoveredError:
    return NotCoveredError(
        f"errors by layer and source: {name}: found other integers in the bundle than this "
        "project's weight rounds to; export it again"
    )


def _of_integers(product: ir.Node) -> tuple[str, Rounding]:
    """Return the float value behind a MatMulInteger's integers, and how it is rounded."""
    x = product.inputs[0]
    assert x is not None
    node = x.producer()
    kind = "" if node is None else node.op_type
    if node is not None and node.inputs[0] is not None:
        name = str(node.inputs[0].name)
        if kind == "DynamicQuantizeLinear":
            return name, by_tensor
        if kind == "QuantizeLinear":
            step, zero = (_read(value) for value in node.inputs[1:3] if value is not None)
            return name, by_constant(float(step), int(zero))
    raise NotCoveredError(
        f"errors by layer and source: {x.name}: found activations rounded by {kind or 'nothing'}, "
        "expected DynamicQuantizeLinear or QuantizeLinear"
    )


def _of_floats(product: ir.Node) -> tuple[str, Rounding]:
    """Return what a MatMulNBits reads; its kernel rounds it."""
    x = product.inputs[0]
    assert x is not None
    return str(x.name), ByBlock(product.attributes["block_size"].as_int())


# How the activations of an operator that multiplies a rounded weight are rounded.
PRODUCTS: dict[str, Callable[[ir.Node], tuple[str, Rounding]]] = {
    "MatMulInteger": _of_integers,
    "MatMulIntegerToFloat": _of_integers,
    "MatMulNBits": _of_floats,
}


def _read(value: ir.Value) -> Array:
    """Return a stored tensor or a constant."""
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())
