"""What an export does with its adapters: which are merged, which become graph inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_lra.adapters import Adapter
from edge_lra.errors import EdgeError
from edge_lra.graph.encoder import Built, Plan
from edge_lra.graph.factors import Slot
from edge_lra.inputs import ExportRequest, Inputs
from edge_lra.quantize import SCHEMES


def make_plan(request: ExportRequest, inputs: Inputs) -> Plan:
    """Decide what is merged, what becomes an input, and which head is used."""
    factored = request.mode == "factored" and (
        bool(inputs.adapters) or request.sites == "all-linear"
    )
    first = inputs.adapters[0] if inputs.adapters else None
    brought = [brought_tensors(adapter, inputs, factored) for adapter in inputs.adapters]
    slots = adapter_slots(inputs.adapters) if factored else {}
    if factored and request.sites == "all-linear":
        slots |= {t: replace(slots.get(t, Slot()), low_rank=True) for t in all_linear(inputs)}
    return Plan(
        inputs.recipe,
        inputs.checkpoint.config,
        inputs.checkpoint,
        SCHEMES[request.scheme](),
        inputs.task,
        inputs.names,
        merged=first.updates if first and not factored else {},
        slots=slots,
        replacements=brought[0] if brought else {},
        head_inputs=factored and any(brought),
    )


def adapter_slots(adapters: Sequence[Adapter]) -> dict[str, Slot]:
    """Return what the adapters do together, by the checkpoint's name of a linear's weight.

    Raises:
        EdgeError: two adapters of two layers differ in kind or activation at a site.
    """
    slots: dict[str, Slot] = {}
    for adapter in adapters:
        for tensor, factors in adapter.factors.items():
            slot = slots.get(tensor, Slot())
            slots[tensor] = replace(
                slot,
                low_rank=slot.low_rank or factors.down is not None,
                gain=slot.gain or factors.gain is not None,
                shift=slot.shift or factors.shift is not None,
            )
        for tensor, layers in adapter.layers.items():
            slot, wanted = slots.get(tensor, Slot()), (layers.kind, layers.activation)
            if slot.layers not in (None, wanted):
                raise EdgeError(
                    f"{adapter.path}: {tensor}: found {' '.join(wanted)} layers beside another "
                    f"adapter's {' '.join(slot.layers or ())}, expected one kind a site; export "
                    "them apart"
                )
            slots[tensor] = replace(slot, layers=wanted)
    return slots


def brought_tensors(adapter: Adapter, inputs: Inputs, factored: bool) -> dict[str, np.ndarray]:
    """Return the whole tensors an adapter brings for this task, by recipe name.

    Raises:
        EdgeError: one changes the base, which `--factored` adapters share.
    """
    recipe_names = {tensor: name for name, tensor in inputs.names.items()}
    wanted = inputs.recipe.head_tensors(inputs.task)
    idle = {n for task in inputs.recipe.heads for n in inputs.recipe.head_tensors(task)}
    found = {}
    for tensor, values in adapter.replacements.items():
        name = recipe_names.get(tensor, tensor)
        if name not in wanted and name in idle:
            continue
        if name not in wanted and factored:
            raise EdgeError(
                f"{adapter.path}: {tensor}: found a whole tensor (modules_to_save), expected only "
                "factors and a head for --factored; use --merge"
            )
        found[name] = values
    return found


def all_linear(inputs: Inputs) -> list[str]:
    """Return the checkpoint names of every encoder linear's weight."""
    layers = inputs.recipe.count(inputs.checkpoint.config, "layers")
    roles = [name for role, name in inputs.recipe.layer.items() if not role.endswith("norm")]
    names = [f"{name.format(i=i)}.weight" for i in range(layers) for name in roles]
    return [inputs.names[name] for name in names if name in inputs.names]  # the graph names others


def check_used(inputs: Inputs, built: Built, plan: Plan) -> None:
    """Refuse an adapter site that the graph does not read; a pooler may be out of the task's way.

    Raises:
        EdgeError: names the site.
    """
    read = {w.source.tensor for w in built.builder.weights if hasattr(w, "source")}
    idle = {
        inputs.names.get(f"{layer.linear}.weight")
        for head in inputs.recipe.heads.values()
        for layer in head.layers
    }
    for adapter in inputs.adapters:
        for tensor in adapter.updates:
            if tensor not in read and tensor not in idle:
                raise EdgeError(
                    f"{adapter.path}: {tensor}: found factors for a weight that "
                    f"{inputs.recipe.family} does not use in {plan.task}"
                )
