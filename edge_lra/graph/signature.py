"""What goes into a traced graph and what comes out: names, dtypes and axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edge_lra.errors import EdgeError

Axes = Mapping[str, Mapping[int, str]]  # the names of an input's free axes


@dataclass(frozen=True)
class Node:
    """An input or output of the graph: its name, numpy dtype and axes, free ones by name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def describe(model: ir.Model, axes: Axes) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Return inputs and outputs, and write the names of their axes into the graph.

    Args:
        model: as torch.onnx made it, its outputs named.
        axes: the names of the inputs' free axes; those that the module fixes have no use for one.
    """
    symbols: dict[str, str] = {}
    inputs = []
    for value in model.graph.inputs:
        names = axes.get(str(value.name), {})
        assert value.shape is not None
        symbols |= {str(value.shape[axis]): name for axis, name in names.items()}
        inputs.append(_node(value, names))
    outputs = []
    for value in model.graph.outputs:
        assert value.shape is not None
        sizes = enumerate(map(str, value.shape))
        names = {axis: symbols.get(size, f"{value.name}_{axis}") for axis, size in sizes}
        outputs.append(_node(value, names))
    return tuple(inputs), tuple(outputs)


def _node(value: ir.Value, names: Mapping[int, str]) -> Node:
    assert value.shape is not None and value.dtype is not None
    shape = tuple(
        size if isinstance(size, int) else names[axis] for axis, size in enumerate(value.shape)
    )
    value.shape = ir.Shape(list(shape))
    return Node(str(value.name), value.dtype.numpy().name, shape)


def output_names(program: Any, where: str) -> list[str]:
    """Return what the module calls its outputs: keys of a dict, else output_0, output_1, ...

    Args:
        program: what torch.export made of the module.
        where: what to call the module in messages.

    Raises:
        EdgeError: the module returns something that is no tensor.
    """
    import torch.utils._pytree as pytree

    spec = program.call_spec.out_spec
    leaves = list(range(spec.num_leaves))
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(leaves, spec))
    results = [s.arg for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    given = dict(zip(leaves, results, strict=True))
    named = [(_path_name(path), given[leaf]) for path, leaf in paths]
    named = [(name, value) for name, value in named if getattr(value, "value", 0) is not None]
    for name, value in named:
        if type(value).__name__ != "TensorArgument":
            raise EdgeError(
                f"{where}: found {getattr(value, 'value', value)!r} for output {name or 0}, "
                "expected a tensor; return tensors alone"
            )
    if not named:
        raise EdgeError(f"{where}: found no output, expected tensors; return what it computes")
    return [name or "output" for name, _ in named]


def name_outputs(model: ir.Model, names: Sequence[str]) -> None:
    """Give the graph's outputs these names."""
    for index, name in enumerate(names):
        _rename_output(model.graph, index, name)


def name_results(result: Any) -> dict[str, Any]:
    """Return the tensors of what a module returned, by the names that its outputs have."""
    import torch
    import torch.utils._pytree as pytree

    leaves, _ = pytree.tree_flatten_with_path(result)
    return {_path_name(p) or "output": x for p, x in leaves if isinstance(x, torch.Tensor)}


def _path_name(path: Sequence[Any]) -> str:
    keys = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", ""))) for key in path]
    return ".".join(f"output_{key}" if isinstance(key, int) else str(key) for key in keys)


def _rename_output(graph: ir.Graph, index: int, name: str) -> None:
    """Give an output a value of its own, for inputs and weights keep their names."""
    value = graph.outputs[index]
    copy = ir.Value(name=name, type=value.type, shape=value.shape)
    graph.append(ir.Node("", "Identity", [value], outputs=[copy]))
    graph.outputs[index] = copy


def keep_outputs(model: ir.Model, names: Sequence[str], where: str) -> None:
    """Drop all outputs but these, in this order; what only they needed goes at optimizing.

    Raises:
        EdgeError: the graph has no such output.
    """
    known = {str(value.name): value for value in model.graph.outputs}
    if missing := [name for name in names if name not in known]:
        raise EdgeError(
            f"{where}: found outputs {', '.join(known)}, expected {missing[0]}; choose another "
            "--task"
        )
    model.graph.outputs.clear()
    model.graph.outputs.extend(known[name] for name in names)
