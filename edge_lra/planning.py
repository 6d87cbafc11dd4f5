"""What an export does with its adapters: which are merged, which become graph inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edge_lra.adapters import Adapter, Update
from edge_lra.adapters.kinds.layers import LayersWeight, cannot_fold
from edge_lra.adapters.kinds.update import weighted
from edge_lra.calibration import Calibration, Lead, calibrate_with, no_lead
from edge_lra.errors import EdgeError
from edge_lra.forms.plan import FormPlan
from edge_lra.graph.factors import Slot
from edge_lra.graph.plan import Built, Plan
from edge_lra.inputs import ADAPTER_DTYPES, ExportRequest, Inputs
from edge_lra.language.windows import leading_token
from edge_lra.packing import special_tokens
from edge_lra.quantize import SCHEMES, Scheme
from edge_lra.quantize.remedies import choose_remedies
from edge_lra.quantize.schemes import KeepFloat, Planned
from edge_lra.quantize.stored import single_weights
from edge_lra.recipe import DecoderRecipe
from edge_lra.task import max_length
from edge_lra.weights import Array


def make_plan(request: ExportRequest, inputs: Inputs) -> Plan:
    """Decide what is merged, what becomes an input, and which head is used."""
    factored = request.mode == "factored" and (
        bool(inputs.adapters) or request.sites == "all-linear"
    )
    brought = [brought_tensors(adapter, inputs, factored) for adapter in inputs.adapters]
    check_layers(request.plan, inputs)
    calibration = choose_calibration(request, inputs)
    check_calibrated(request, calibration)
    slots = adapter_slots(inputs.adapters) if factored else {}
    if factored and request.sites == "all-linear":
        slots |= {t: replace(slots.get(t, Slot()), low_rank=True) for t in all_linear(inputs)}
    return Plan(
        inputs.recipe,
        inputs.config,
        inputs.checkpoint,
        make_scheme(request),
        inputs.task,
        inputs.names,
        merged={} if factored else merged_updates(inputs.adapters, inputs.weights),
        slots=slots,
        replacements=(brought or [{}])[0] if factored else one_of_each(inputs.adapters, brought),
        parted={} if factored else {k: v for a in inputs.adapters for k, v in a.ties.items()},
        head_inputs=factored and any(brought),
        adapter_dtype=ADAPTER_DTYPES[request.adapter_dtype],
        calibration=calibration,
        remedies=choose_remedies(request.without, request.with_),
        extra_rank=request.extra_rank,
    )


def check_layers(plan: FormPlan | None, inputs: Inputs) -> None:
    """Refuse a plan of forms that was made for another model.

    Raises:
        EdgeError: gives the numbers of layers.
    """
    if plan is None or plan.layers is None:
        return
    layers = inputs.recipe.count(inputs.config, "layers")
    if plan.layers != layers:
        raise EdgeError(
            f"plan: found one for a model of {plan.layers} layers, expected {layers}; make it "
            "again with `edge-lra plan`"
        )


def choose_calibration(request: ExportRequest, inputs: Inputs) -> Calibration | None:
    """Return what a model is calibrated with; None where the scheme has no use for text.

    A decoder's texts are led as those that it is verified with.

    Raises:
        EdgeError: the tokenizer gives an id or a type beyond the embedding's rows.
    """
    scheme = SCHEMES[request.scheme]
    decoder = isinstance(inputs.recipe, DecoderRecipe)
    encoders = scheme.smooths or scheme.compensates
    if not (scheme.compensates_decoders if decoder else encoders):
        return None
    longest = max_length(inputs.checkpoint, inputs.config, inputs.recipe, inputs.task)
    lead: Lead = no_lead
    if decoder:
        lead = partial(leading_token, decoder=special_tokens(inputs))
        longest = min(longest, request.context or longest)
    found = calibrate_with(
        inputs.checkpoint, request.data, longest, inputs.task, inputs.typed, lead
    )
    highest = max((int(ids.max()) for ids in found.texts), default=0)
    if highest >= inputs.vocabulary_size:
        raise EdgeError(
            f"{inputs.checkpoint.path / 'tokenizer.json'}: found token id {highest} for "
            f"{found.source}, expected 0 to {inputs.vocabulary_size - 1} as the embedding has "
            "rows; does the tokenizer belong to this checkpoint?"
        )
    check_types(inputs, found.types, found.source)
    return found


def check_types(inputs: Inputs, types: Sequence[Array], source: str) -> None:
    """Refuse which of a pair a token is of where the model has no row for it.

    Raises:
        EdgeError: names the tokenizer.
    """
    highest = max((int(kinds.max()) for kinds in types), default=0)
    if highest == 0:
        return
    rows = inputs.checkpoint.tensors[inputs.names[inputs.recipe.embeddings["token_type"]]].shape[0]
    if highest >= rows:
        raise EdgeError(
            f"{inputs.checkpoint.path / 'tokenizer.json'}: found token type {highest} for "
            f"{source}, expected 0 to {rows - 1} as the model has rows; leave text_pair out, or "
            "give the tokenizer that belongs to this checkpoint"
        )


def check_calibrated(request: ExportRequest, calibration: Calibration | None) -> None:
    """Refuse what takes calibration with text where there is none, and to fit no adapters.

    Raises:
        EdgeError: says what is missing.
    """
    refit, rank = "refit" in request.with_, request.extra_rank
    if not refit and not rank:
        return
    found = "with: found refit" if refit else f"extra rank: found {rank}"
    if refit and (request.mode != "factored" or not request.adapters):
        raise EdgeError(
            f"{found} without factored adapters, expected --factored and an --adapter; a merged "
            "one has no factors left to fit"
        )
    if calibration is None:
        known = [name for name, scheme in SCHEMES.items() if scheme.smooths or scheme.compensates]
        raise EdgeError(
            f"{found} for {request.scheme}, which is not calibrated, expected one of "
            f"{', '.join(known)}"
        )
    if not calibration.texts:
        raise EdgeError(
            f"{found} for a checkpoint without tokenizer.json, expected one to calibrate with "
            "text; add the file, or leave it out"
        )


def make_scheme(request: ExportRequest) -> Scheme:
    """Return the request's scheme, with other forms for the linears it names."""
    if request.plan is not None:
        return Planned(request.plan.forms)
    scheme = SCHEMES[request.scheme]()
    return KeepFloat(scheme, request.keep_float) if request.keep_float else scheme


def merged_updates(adapters: Sequence[Adapter], weights: Sequence[float]) -> dict[str, Update]:
    """Return each tensor's update; several adapters' are summed, in any order to the same bits.

    Raises:
        EdgeError: an update cannot be summed with others or weighted, or cannot be merged at all.
    """
    parts: dict[str, list[tuple[float, Update]]] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for tensor, update in adapter.updates.items():
            if isinstance(update, LayersWeight) and not update.layers.linear:
                activation = update.layers.activation
                raise EdgeError(f"{adapter.path}: {tensor}: {cannot_fold(activation)}")
            if not update.additive and (weight != 1 or len(adapters) > 1):
                raise EdgeError(
                    f"{adapter.path}: {tensor}: found {adapter.kind} whose change depends on the "
                    "base, expected one that can be weighted and summed; merge it alone"
                )
            parts.setdefault(tensor, []).append((weight, update))
    return {tensor: weighted(updates) for tensor, updates in parts.items()}


def one_of_each(
    adapters: Sequence[Adapter], brought: Sequence[dict[str, Array]]
) -> dict[str, Array]:
    """Return the whole tensors that several adapters bring.

    Raises:
        EdgeError: two of them bring different ones.
    """
    found: dict[str, Array] = {}
    for adapter, tensors in zip(adapters, brought, strict=True):
        for name, values in tensors.items():
            if name in found and not np.array_equal(found[name], values):
                raise EdgeError(
                    f"{adapter.path}: {name}: found another one than a merged adapter before it "
                    "brings, expected one; merge adapters of one head, or use --factored"
                )
            found[name] = values
    return found


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
    """Return the checkpoint names of every layer's linear weights."""
    layers = inputs.recipe.count(inputs.config, "layers")
    roles = [name for role, name in inputs.recipe.layer.items() if not role.endswith("norm")]
    names = [f"{name.format(i=i)}.weight" for i in range(layers) for name in roles]
    return [inputs.names[name] for name in names if name in inputs.names]  # the graph names others


def check_used(inputs: Inputs, built: Built, plan: Plan) -> None:
    """Refuse an adapter site that the graph does not read; a pooler may be out of the task's way.

    Raises:
        EdgeError: names the site, or a name of `keep_float` or of a plan that fits no linear.
    """
    check_names(plan.scheme)
    single = single_weights(built.builder.weights)
    read = {t for w in single if hasattr(w, "source") for t in w.source.reads}
    written = {tensor for item in built.adapter_inputs for tensor in item.tensors}
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
        for tensor in (*adapter.factors, *adapter.layers):
            if tensor in read and tensor not in written:
                raise EdgeError(
                    f"{adapter.path}: {tensor}: found factors there, expected an update of a "
                    "linear layer for --factored; use --merge"
                )


def check_names(scheme: Scheme) -> None:
    """Refuse a pattern of `keep_float`, or a module of a plan, that fits no linear.

    Raises:
        EdgeError: names it.
    """
    if isinstance(scheme, KeepFloat | Planned) and scheme.unused:
        where = "--keep-float" if isinstance(scheme, KeepFloat) else "plan:"
        example = scheme.linears[-1] if scheme.linears else "none: this model has no linear"
        raise EdgeError(
            f"{where} {next(iter(scheme.unused))}: found no linear of that name, expected one such "
            f"as {example}"
        )
