"""The only place that orders the stages of an export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_lra.bundle import staged
from edge_lra.genai import write_genai_config
from edge_lra.golden import golden_entry, write_golden
from edge_lra.graph.decoder import build_decoder
from edge_lra.graph.encoder import build_encoder
from edge_lra.graph.plan import Built, Plan
from edge_lra.inputs import ExportRequest, Inputs, Progress, check_out, read_inputs
from edge_lra.language.memory import check_export
from edge_lra.packing import (
    base_manifest,
    check_vocabulary,
    copy_tokenizer,
    merged_entry,
    special_tokens,
    write_adapters,
    write_divisors,
    write_manifest,
)
from edge_lra.planning import check_used, make_plan
from edge_lra.products.write import write_products
from edge_lra.recipe import DecoderRecipe
from edge_lra.refit import RoundedBase, refit_adapters
from edge_lra.task import Use, read_use
from edge_lra.traced.route import needs_trace
from edge_lra.writer import DATA_NAME, write_data, write_model


def export(request: ExportRequest, progress: Progress | None = None) -> Path:
    """Write a bundle and prove it against the float model.

    Returns:
        The bundle's folder.

    Raises:
        EdgeError: something in the request cannot be done; nothing is written.
        GateError: the bundle was not close enough to the float model; nothing is written.
    """
    if needs_trace(request):
        from edge_lra.traced.export import export_traced

        return export_traced(request, progress)
    inputs = read_inputs(request)
    check_out(request, inputs.checkpoint.path, inputs.adapters)
    if request.verify:
        import edge_lra.proof as proof
    with staged(request.out, request.force) as folder:  # before a calibration, which takes time
        plan = make_plan(request, inputs)
        built = build(plan, inputs, request)
        check_used(inputs, built, plan)
        use = make_use(request, inputs, built)
        if built.decoder:
            tensors, weights = inputs.checkpoint.tensors, built.builder.weights
            shared = built.decoder["shared_bytes"]
            check_export(tensors, weights, shared, request.scheme, request.verify)
        manifest = write_content(request, inputs, built, use, folder, progress)
        spread = plan.scheme.kernel_spread
        manifest["golden"] = golden_entry([], spread)
        manifest["calibration"] = plan.calibration and plan.calibration.as_dict()
        hashed = {DATA_NAME: manifest["base_fingerprint"]}
        write_manifest(folder, manifest, hashed)
        if request.verify:
            reports = proof.prove(folder, inputs, request, progress)
            manifest["fidelity"] = proof.summary(reports)
            manifest["golden"] = write_golden(folder, proof.golden_cases(reports), spread)
            manifest["versions"] |= proof.versions()
        write_manifest(folder, manifest, hashed)
    return request.out


def build(plan: Plan, inputs: Inputs, request: ExportRequest) -> Built:
    """Return the graph of a plan, its weights unread.

    Raises:
        EdgeError: the checkpoint's parts do not fit each other, or ask for an unknown variant.
    """
    if isinstance(plan.recipe, DecoderRecipe):
        check_vocabulary(inputs)
        return build_decoder(plan, request.context)
    return build_encoder(plan)


def make_use(request: ExportRequest, inputs: Inputs, built: Built) -> Use:
    """Collect labels and limits for the manifest."""
    shape = built.outputs[0][1]
    count: int | None = None
    if inputs.task in inputs.recipe.heads:
        head = inputs.recipe.heads[inputs.task].layers[-1].linear
        bias = f"{head}.bias"
        own = [a.replacements[bias] for a in inputs.adapters if bias in a.replacements]
        count = len(own[0]) if own else int(shape[-1]) if isinstance(shape[-1], int) else None
    labels = request.labels or next((a.labels for a in inputs.adapters if a.labels), None)
    use = read_use(inputs.checkpoint, inputs.config, inputs.recipe, inputs.task, labels, count)
    lengths = [n for n in (use.max_length, request.context) if n is not None]
    return replace(use, max_length=min(lengths, default=None))


def write_content(
    request: ExportRequest,
    inputs: Inputs,
    built: Built,
    use: Use,
    folder: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    """Write everything that rebuilds byte for byte; return the manifest so far."""
    step = (lambda done, total: progress("weights", done, total)) if progress else None
    layout, fingerprint = write_data(built.builder, folder / DATA_NAME, step)
    write_model(built.model, built.builder, layout, folder, fingerprint)
    factored = bool(built.adapter_inputs)
    mode = "factored" if factored else "merged" if inputs.adapters else "base"
    name = request.name or request.out.name.removesuffix(".edge")
    manifest = base_manifest(name, inputs.recipe.family, request, mode, built, use)
    tokenizer = copy_tokenizer(inputs.checkpoint, folder, inputs.adapters)
    if built.decoder and not factored:
        write_genai_config(folder, inputs.config, built.decoder | special_tokens(inputs))
    head = None
    if inputs.task in inputs.recipe.heads:
        roles = {item.role for item in built.adapter_inputs}
        head = "adapter" if "weight" in roles else "trained"
    adapters = {}
    if factored:
        slots = built.adapter_inputs
        named = request.labels is not None  # then the adapters' own names give way
        given = [replace(a, labels=None) if named else a for a in inputs.adapters]
        refits = {}
        if built.reads:
            base = RoundedBase(built.builder.weights, folder / DATA_NAME, layout)
            fitted = refit_adapters(given, inputs.checkpoint, base, built.reads)
            given = [item.adapter for item in fitted]
            refits = {item.adapter.name: item.as_dict() for item in fitted}
        adapters = write_adapters(folder, given, slots, use.labels, fingerprint, refits)
        write_divisors(folder, slots)
    return manifest | {
        "adapters": adapters,
        "merged": None if factored else merged_entry(inputs.adapters, inputs.weights, built),
        "default_adapter": next(iter(adapters), None),
        "head": head,
        "base_fingerprint": fingerprint,
        "base_model": inputs.model,
        "device": request.device,
        "vocabulary_size": inputs.vocabulary_size,
        "decoder": built.decoder and built.decoder | special_tokens(inputs),
        "tokenizer": tokenizer,
        "products": write_products(folder),
        "fidelity": None,
    }
