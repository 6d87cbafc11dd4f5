"""From a torch module to a float onnx_ir graph whose weights stay unread."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from edge_lra.errors import EdgeError
from edge_lra.graph.builder import OPSET
from edge_lra.graph.plain_forms import plain_forms
from edge_lra.graph.signature import Axes, Node, describe, keep_outputs, name_outputs, output_names

if TYPE_CHECKING:
    import torch

LOGGERS = ("torch", "torch.onnx", "torch.export", "onnx_ir", "onnxscript")
LEAST = 2  # torch.export takes an axis of one for fixed
FOLDED = 1 << 16  # bytes of a constant up to which the optimizer computes ahead
# Folders whose frames are not the user's code.
LIBRARIES = tuple(f"{os.sep}{name}{os.sep}" for name in ("torch", "edge_lra", "onnxscript"))


@dataclass(frozen=True)
class Trace:
    """A traced module.

    Attributes:
        model: float, its initializers named as the module names its parameters and buffers.
        parameters: the float ones that it reads; none holds its value here.
        constants: float tensors that are in no state dict, by initializer.
    """

    model: ir.Model
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    parameters: frozenset[str]
    constants: Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Subject:
    """What is traced.

    Attributes:
        module: in evaluation mode, on the device of the examples.
        examples: one batch, by the names of `forward`'s arguments.
        axes: names of the axes that may have another size.
        where: what to call the module in messages.
        outputs: which of its outputs are wanted; None for all.
        buffers: values of what is on the meta device and in no checkpoint, by name.
    """

    module: torch.nn.Module
    examples: Mapping[str, torch.Tensor]
    axes: Axes
    where: str
    outputs: Sequence[str] | None = None
    buffers: Mapping[str, torch.Tensor] | None = None


def trace(subject: Subject) -> Trace:
    """Export a module's forward pass; an axis that the module fixes stays fixed.

    Raises:
        EdgeError: torch cannot export it; names the line of the user's code.
    """
    from onnxscript import optimizer

    program = _program(subject)
    names = output_names(program, subject.where)
    model = _to_onnx(program, subject.where)
    name_outputs(model, names)
    inputs, outputs = describe(model, subject.axes)
    if subject.outputs is not None:
        keep_outputs(model, subject.outputs, subject.where)
        kept = {node.name: node for node in outputs}
        outputs = tuple(kept[name] for name in subject.outputs)
    constants = _detach(model, subject)
    with _quiet():
        optimizer.optimize(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    read = {str(name) for name in model.graph.initializers}
    known = {n for n, t in _state(subject.module).items() if t.is_floating_point()}
    parameters = frozenset((read & known) - constants.keys())
    return Trace(model, inputs, outputs, parameters, constants)


def _program(subject: Subject) -> Any:
    """Return the exported program, its named axes as free as the module lets them be."""
    import torch

    def grown(name: str, value: torch.Tensor) -> torch.Tensor:
        for axis in subject.axes.get(name, {}):
            if value.shape[axis] < LEAST:
                value = value.repeat_interleave(LEAST, dim=axis)
        return value.clone()  # torch.export takes one tensor given twice for one input

    examples = {name: grown(name, value) for name, value in subject.examples.items()}
    free = {
        name: dict.fromkeys(subject.axes.get(name, {}), torch.export.Dim.AUTO) for name in examples
    }
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(
                subject.module, (), kwargs=examples, dynamic_shapes=free, strict=False
            )
            return program.run_decompositions(plain_forms())
    except Exception as error:  # what a forward pass raises, and torch's many classes
        raise EdgeError(
            f"{subject.where}: torch.export stopped{_place(error)}, found {_reason(error)}, "
            "expected a forward pass whose path does not depend on the data; use torch.where there"
        ) from error


def _place(error: BaseException) -> str:
    """Return the user's line that an export stopped at."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(part in f.filename for part in LIBRARIES)]
    own = [f for f in own if os.path.isfile(f.filename)]
    return f" at {own[-1].filename}:{own[-1].lineno}" if own else ""


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__} ({(lines or ['no message'])[0][:200]})"


def _to_onnx(program: Any, where: str) -> ir.Model:
    import torch

    try:
        with _quiet():
            exported = torch.onnx.export(
                program, dynamo=True, optimize=False, opset_version=OPSET, verbose=False
            )
    except Exception as error:  # the exporter's classes share no public base
        cause = error.__cause__ or error
        raise EdgeError(
            f"{where}: torch.onnx found {_reason(cause)}, expected operators that ONNX has; "
            "write the forward pass with others"
        ) from error
    assert exported is not None
    model: ir.Model = exported.model
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' advice off the terminal."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and all buffers by name, shared ones by each of their names."""
    found: dict[str, torch.Tensor] = {}
    for source in (module.named_parameters, module.named_buffers):
        found |= dict(source(remove_duplicate=False))
    return found


def _detach(model: ir.Model, subject: Subject) -> dict[str, np.ndarray[Any, Any]]:
    """Take the float weights' values out of the graph; give integers and constants theirs.

    The optimizer would read weights to fold and to compare them, and those of the meta device
    have no data.

    Returns:
        The float tensors that are in no state dict, by name.
    """
    stored = subject.module.state_dict(keep_vars=True)
    own = {name: value for name, value in (subject.buffers or {}).items()}
    constants: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if name in stored and stored[name].is_floating_point() and name not in own:
            value.const_value = None
            continue
        raw = own.get(name, getattr(tensor, "raw", None))
        if raw is not None and raw.is_meta:
            raise EdgeError(
                f"{subject.where}: {name}: found a tensor without a value, expected one that the "
                "checkpoint or the module's constructor gives"
            )
        array = tensor.numpy() if raw is None else raw.detach().cpu().numpy()
        if array.dtype.kind == "f" and array.ndim:
            value.const_value = None
            constants[name] = np.array(array, np.float32)
        else:
            value.const_value = ir.tensor(array, name=name)
    return constants
