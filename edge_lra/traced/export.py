"""The stages of an export whose graph is traced."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_lra.adapters import Adapter
from edge_lra.bundle import staged
from edge_lra.errors import EdgeError
from edge_lra.golden import golden_entry, write_golden
from edge_lra.graph.lower import Lowered, LowerPlan, lower
from edge_lra.graph.passes import rewrite
from edge_lra.graph.trace import Subject, Trace, trace
from edge_lra.inputs import ExportRequest, Progress, check_options, check_out
from edge_lra.packing import (
    base_manifest,
    copy_tokenizer,
    merged_entry,
    write_adapters,
    write_manifest,
)
from edge_lra.planning import adapter_slots, check_names, merged_updates, one_of_each
from edge_lra.products.write import write_products
from edge_lra.quantize import SCHEMES
from edge_lra.task import ONE_LABEL, PROBLEM_TYPES, Use, config_labels, read_pooling
from edge_lra.traced.model import IMAGES, OUTPUTS, TracedModel
from edge_lra.traced.open import open_model
from edge_lra.writer import DATA_NAME, write_data, write_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What a traced export is made from."""

    traced: TracedModel
    adapters: tuple[Adapter, ...]
    weights: tuple[float, ...]


def export_traced(request: ExportRequest, progress: Progress | None) -> Path:
    """Trace a model, write its bundle and prove it against the torch module.

    Returns:
        The bundle's folder.

    Raises:
        EdgeError: the model cannot be traced, or something in the request cannot be done.
        GateError: the bundle was not close enough to the module; nothing is written.
    """
    check_options(request)
    check_idle(request)
    traced, adapters = open_model(request)
    check_out(request, traced.tensors.path, adapters)
    inputs = Inputs(traced, adapters, tuple(request.weights) or (1.0,) * len(adapters))
    logger.info("%s: no recipe; its graph is traced with torch.export", traced.subject.where)
    found = trace_model(traced)
    rewrite(found.model)
    lowered = lower(make_plan(request, inputs, found), traced.family)
    check_used(request, inputs, lowered)
    use = make_use(request, inputs, found)
    if request.verify:
        import edge_lra.proof
        import edge_lra.traced.proof
    with staged(request.out, request.force) as folder:
        manifest = write_content(request, inputs, found, lowered, use, folder, progress)
        hashed = {DATA_NAME: manifest["base_fingerprint"]}
        write_manifest(folder, manifest, hashed)
        if request.verify:
            prove = edge_lra.traced.proof.prove
            reports = prove(folder, traced, adapters, inputs.weights, request, progress)
            manifest["fidelity"] = edge_lra.proof.summary(reports)
            spread = SCHEMES[request.scheme].kernel_spread
            cases = edge_lra.proof.golden_cases(reports)
            manifest["golden"] = write_golden(folder, cases, spread)
            manifest["versions"] |= edge_lra.proof.versions()
        write_manifest(folder, manifest, hashed)
    return request.out


def trace_model(traced: TracedModel) -> Trace:
    """Trace without weights; with them where the module needs their values for its graph.

    Raises:
        EdgeError: torch cannot export the module either way.
    """
    subject = traced.subject
    if not any(value.is_meta for value in subject.examples.values()):
        return trace(subject)
    try:
        return trace(subject)
    except EdgeError as error:
        logger.info("%s; it is traced again with its weights loaded", error)
    return trace(with_values(subject, traced))


def check_idle(request: ExportRequest) -> None:
    """Refuse options that only a family with a recipe honours.

    Raises:
        EdgeError: names the option.
    """
    left_out, added = (next(iter(names), None) for names in (request.without, request.with_))
    dtype = request.adapter_dtype if request.adapter_dtype != "fp32" else None
    given = {
        "context": request.context,
        "adapter dtype": dtype,
        "without": left_out,
        "with": added,
        "extra rank": request.extra_rank or None,
        "plan": request.plan and "one",
    }
    for name, value in given.items():
        if value is not None:
            raise EdgeError(
                f"{name}: found {value} for a model that is traced, expected none; leave it out"
            )


def with_values(subject: Subject, traced: TracedModel) -> Subject:
    """Return the same subject with its weights in memory."""
    import torch

    examples = {
        name: torch.ones(value.shape, dtype=value.dtype) for name, value in subject.examples.items()
    }
    return replace(subject, module=traced.load(), examples=examples, buffers=None)


def make_plan(request: ExportRequest, inputs: Inputs, found: Trace) -> LowerPlan:
    """Decide what is merged, what becomes an input, and which head is used."""
    adapters = inputs.adapters
    all_linear = request.sites == "all-linear"
    factored = request.mode == "factored" and (bool(adapters) or all_linear)
    brought = [dict(adapter.replacements) for adapter in adapters]
    return LowerPlan(
        found,
        inputs.traced.tensors,
        SCHEMES[request.scheme](),
        request.keep_float,
        merged={} if factored else merged_updates(adapters, inputs.weights),
        slots=adapter_slots(adapters) if factored else {},
        all_linear=factored and all_linear,
        replacements=(brought or [{}])[0] if factored else one_of_each(adapters, brought),
        head_inputs=factored,
    )


def check_used(request: ExportRequest, inputs: Inputs, lowered: Lowered) -> None:
    """Refuse adapter sites that the graph does not have, and patterns that fit no linear.

    Raises:
        EdgeError: names the site or the pattern.
    """
    check_names(lowered.scheme)
    family = inputs.traced.family
    given = {t: item for item in lowered.built.adapter_inputs for t in item.tensors}
    for adapter in inputs.adapters:
        for tensor in (*adapter.updates, *adapter.replacements):
            if tensor not in lowered.tensors:
                raise EdgeError(
                    f"{adapter.path}: {tensor}: found an adapter's part for a tensor that "
                    f"{family} does not use in {inputs.traced.task}, expected one it reads; is "
                    "this adapter for another task?"
                )
        if not lowered.built.adapter_inputs:
            continue
        for tensor in (*adapter.factors, *adapter.layers):
            if tensor not in given:
                raise EdgeError(
                    f"{adapter.path}: {tensor}: found factors for a weight that is no linear in "
                    f"{family}'s graph, expected one for --factored; use --merge"
                )
        check_replaced(adapter, inputs, given.keys())


def check_replaced(adapter: Adapter, inputs: Inputs, given: Any) -> None:
    """Refuse whole tensors of a factored adapter that are no linear's, or of another size.

    Raises:
        EdgeError: names the tensor.
    """
    first = inputs.adapters[0].replacements
    for tensor, values in adapter.replacements.items():
        if tensor not in given:
            raise EdgeError(
                f"{adapter.path}: {tensor}: found a whole tensor (modules_to_save), expected only "
                "factors and linears for --factored; use --merge"
            )
        if tensor in (*adapter.factors, *adapter.layers):
            raise EdgeError(
                f"{adapter.path}: {tensor}: found factors for a whole tensor of the adapter's own, "
                "expected one of them for --factored; use --merge"
            )
        if first[tensor].shape != values.shape:
            raise EdgeError(
                f"{adapter.path}: {tensor}: found {values.shape}, expected {first[tensor].shape} "
                "as the first adapter has; export them apart"
            )


def make_use(request: ExportRequest, inputs: Inputs, found: Trace) -> Use:
    """Collect labels and limits for the manifest.

    Raises:
        EdgeError: the task's outputs are not the module's, or the labels are not as many.
    """
    traced, task = inputs.traced, inputs.traced.task
    outputs = {node.name: node.shape for node in found.outputs}
    for name in OUTPUTS.get(task, ("logits",)):
        if name not in outputs:
            raise EdgeError(
                f"{traced.subject.where}: task {task}: found outputs {', '.join(outputs)}, "
                f"expected {name}; return a dict with it, or leave the task out"
            )
    labels = request.labels or next((a.labels for a in inputs.adapters if a.labels), None)
    pooling = read_pooling(traced.tensors.path) if task == "sentence-embedding" else None
    count = outputs["logits"][-1] if "logits" in outputs else None
    if not isinstance(count, int) or (task in OUTPUTS and labels is None):
        return Use(task, None, None, traced.max_length, pooling)
    names = tuple(labels) if labels is not None else config_labels(traced.config, count)
    if len(names) != count:
        raise EdgeError(
            f"labels: found {len(names)}, expected {count}, one for each output of the head"
        )
    problem = None
    if task in ("sequence-classification", IMAGES):
        problem = traced.config.get("problem_type")
        problem = problem or ("regression" if count == 1 else ONE_LABEL)
        if problem not in PROBLEM_TYPES:
            known = ", ".join(PROBLEM_TYPES)
            raise EdgeError(f"config.json: found problem_type {problem!r}, expected one of {known}")
    return Use(task, names, problem, traced.max_length, None)


def write_content(
    request: ExportRequest,
    inputs: Inputs,
    found: Trace,
    lowered: Lowered,
    use: Use,
    folder: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    """Write everything that rebuilds byte for byte; return the manifest so far."""
    traced, built, adapters = inputs.traced, lowered.built, inputs.adapters
    step = (lambda done, total: progress("weights", done, total)) if progress else None
    layout, fingerprint = write_data(built.builder, folder / DATA_NAME, step)
    write_model(built.model, built.builder, layout, folder, fingerprint)
    factored = bool(built.adapter_inputs)
    mode = "factored" if factored else "merged" if adapters else "base"
    name = request.name or request.out.name.removesuffix(".edge")
    manifest = base_manifest(name, traced.family, request, mode, built, use)
    entries = {}
    if factored:
        named = request.labels is not None  # then the adapters' own names give way
        given = [replace(a, labels=None) if named else a for a in adapters]
        entries = write_adapters(folder, given, built.adapter_inputs, use.labels, fingerprint)
    roles = {item.role for item in built.adapter_inputs}
    return manifest | {
        "inputs": describe_inputs(traced, found),
        "outputs": [
            {"name": n.name, "dtype": n.dtype, "shape": list(n.shape)} for n in found.outputs
        ],
        "float_sites": list(lowered.float_sites),
        "hosts": ["edge-lra"] if factored else ["edge-lra", "onnxruntime"],
        "adapters": entries,
        "merged": None if factored else merged_entry(adapters, inputs.weights, built),
        "default_adapter": next(iter(entries), None),
        "head": "adapter" if "weight" in roles else "trained" if use.labels else None,
        "base_fingerprint": fingerprint,
        "base_model": request.model or str(traced.tensors.path),
        "device": request.device,
        "vocabulary_size": traced.vocabulary_size,
        "tokenizer": copy_tokenizer(traced.tensors, folder, adapters),
        "decoder": None,
        "products": write_products(folder),
        "fidelity": None,
        "golden": golden_entry([], SCHEMES[request.scheme].kernel_spread),
    }


def describe_inputs(traced: TracedModel, found: Trace) -> list[dict[str, Any]]:
    """Return the manifest's inputs; `example` is one batch's sizes, of one row where it may be."""
    described = []
    for node in found.inputs:
        own = traced.subject.examples[node.name].shape
        sizes = [
            1 if axis == "batch" and traced.subject.examples[node.name].is_meta else int(size)
            for axis, size in zip(node.shape, own, strict=True)
        ]
        entry = {"name": node.name, "dtype": node.dtype, "shape": list(node.shape)}
        described.append(entry | {"example": sizes})
    return described
