"""Put a further adapter into a finished factored bundle; its base data stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from edge_lra.adapters import Adapter
from edge_lra.bundle import MANIFEST, check_files, load_manifest, staged
from edge_lra.errors import EdgeError
from edge_lra.golden import NAME as GOLDEN
from edge_lra.golden import read_golden, write_golden
from edge_lra.graph.factors import AdapterInput
from edge_lra.inputs import ExportRequest, Inputs, Progress, read_inputs
from edge_lra.packing import DIVISORS, write_adapters, write_manifest
from edge_lra.planning import brought_tensors
from edge_lra.quantize import SCHEMES
from edge_lra.traced.route import needs_trace


@dataclass(frozen=True)
class AddRequest:
    """All that adding an adapter needs.

    Attributes:
        bundle: a factored bundle.
        name: what to call the adapter; None for its folder's name.
        model: the base checkpoint; None for the one the bundle was made from.
        labels: names of the adapter's outputs; None for the bundle's.
        data: text for verification; None for the built-in sentences.
        verify_tokens: of a language model's text, at most; None for 512.
    """

    bundle: Path
    adapter: str | Path
    name: str | None = None
    model: str | None = None
    labels: Sequence[str] | None = None
    data: Path | None = None
    verify_tokens: int | None = None
    gates: Mapping[str, float] = field(default_factory=dict)
    verify: bool = True


def add_adapter(request: AddRequest, progress: Progress | None = None) -> str:
    """Write the adapter into the bundle and prove it against the float model.

    Its factors stay as they were trained, also where the bundle's others were fitted to the base
    (`--with refit`): the bundle does not keep the moments that fitting takes.

    Returns:
        The adapter's name.

    Raises:
        EdgeError: the bundle takes no adapters or not this one; it is left as it was.
        GateError: the adapter's answers were not close enough; the bundle is left as it was.
    """
    manifest = load_manifest(request.bundle)
    check_files(request.bundle, manifest)
    if not manifest["adapter_inputs"]:
        raise EdgeError(
            f"{request.bundle}: found a {manifest['mode']} bundle, expected one whose adapters are "
            "inputs; export it with --factored"
        )
    export_request = as_export(request, manifest)
    if needs_trace(export_request):
        raise EdgeError(
            f"{request.bundle}: found a traced graph of {manifest['family']}, expected one of a "
            "family with a recipe; export it again with this adapter among its --adapter"
        )
    inputs = read_inputs(export_request)
    (adapter,) = inputs.adapters
    slots = read_adapter_inputs(request.bundle, manifest)
    check_fits(request.bundle, manifest, inputs, slots)
    if request.verify:
        import edge_lra.proof as proof
    with staged(request.bundle) as folder:
        link_files(request.bundle, manifest, folder)
        labels = request.labels or manifest["labels"]
        if request.labels is not None:  # the adapter's own names give way
            adapter = replace(adapter, labels=None)
        fingerprint = manifest["base_fingerprint"]
        entries = write_adapters(folder, [adapter], slots, labels, fingerprint)
        check_labels(request, entries[adapter.name]["labels"])
        manifest["adapters"] |= entries
        manifest["default_adapter"] = manifest["default_adapter"] or adapter.name
        write_manifest(folder, manifest)
        if request.verify:
            reports = proof.prove(folder, inputs, export_request, progress)
            cases = read_golden(request.bundle, manifest) + proof.golden_cases(reports)
            (folder / GOLDEN).unlink(missing_ok=True)  # a link: its other name keeps the old
            usual = SCHEMES[manifest["scheme"]].kernel_spread  # older bundles do not say
            spread = float(manifest["golden"].get("kernel_spread", usual))
            manifest["golden"] = write_golden(folder, cases, spread)
            fresh = proof.summary(reports)
            known = manifest["fidelity"] or {"reports": []}
            manifest["fidelity"] = {"reports": known["reports"] + fresh["reports"]}
            manifest["versions"] |= proof.versions()
        write_manifest(folder, manifest)
    return adapter.name


def as_export(request: AddRequest, manifest: Mapping[str, Any]) -> ExportRequest:
    """Return the export whose proof the adapter has to pass."""
    return ExportRequest(
        out=request.bundle,
        model=request.model or manifest["base_model"],
        adapters=[(request.name, request.adapter)],
        mode="factored",
        scheme=manifest["scheme"],
        keep_float=manifest["float_sites"],
        task=manifest["task"],
        labels=request.labels,
        verify_data=request.data,
        verify_tokens=request.verify_tokens,
        gates=request.gates,
    )


def read_adapter_inputs(bundle: Path, manifest: Mapping[str, Any]) -> list[AdapterInput]:
    """Return a bundle's adapter inputs, with what their adapters have to take in."""
    items = manifest["adapter_inputs"]
    divided = any(item.get("divided") for item in items)
    divisors = load_file(bundle / DIVISORS) if divided else {}
    return [replace(read_input(item), divisor=divisors.get(item["name"])) for item in items]


def read_input(item: Mapping[str, Any]) -> AdapterInput:
    """Return an adapter input as the manifest records it."""
    tensors, shape = tuple(item["tensors"]), tuple(item["shape"])
    layers = tuple(item["layers"]) if item.get("layers") else None
    stacked = shape[0] == "adapters"
    own = shape[1:] if stacked else shape
    dtype = item["dtype"]
    role, index = item["role"], item["index"]
    columns = tuple(item["columns"]) if item.get("columns") else None
    return AdapterInput(
        item["name"], tensors, role, own, index, layers, stacked, dtype, columns=columns
    )


def check_fits(
    bundle: Path, manifest: Mapping[str, Any], inputs: Inputs, slots: Sequence[AdapterInput]
) -> None:
    """Refuse an adapter that the bundle has no place for.

    Raises:
        EdgeError: names the tensor.
    """
    (adapter,) = inputs.adapters
    if adapter.name in manifest["adapters"]:
        raise EdgeError(
            f"{bundle}: found an adapter {adapter.name!r} in it, expected a new name; "
            "give NAME=PATH"
        )
    known = {tensor for slot in slots for tensor in slot.tensors}
    given = {(tensor, input_use(slot)) for slot in slots for tensor in slot.tensors}
    if manifest["family"] != inputs.recipe.family:
        raise EdgeError(
            f"{inputs.checkpoint.path}: found family {inputs.recipe.family}, expected "
            f"{manifest['family']}; give the bundle's base with --model"
        )
    if missing := sorted(needed_inputs(adapter) - given):
        tensor, role = missing[0]
        ahead = "--sites all-linear, or with " if role == "down" else ""
        raise EdgeError(
            f"{adapter.path}: {tensor}: found an adapter with {role} there, for which the bundle "
            f"declares no input; export it again with {ahead}this adapter"
        )
    brought = brought_tensors(adapter, inputs, factored=True)
    whole = [tensor for tensor in brought if tensor not in known]
    if whole:
        raise EdgeError(
            f"{adapter.path}: {whole[0]}: found a whole tensor, but the bundle's own is not an "
            "input; export the bundle with this adapter among its --adapter"
        )


def needed_inputs(adapter: Adapter) -> set[tuple[str, str]]:
    """Return the sites' tensors and roles of the graph inputs that an adapter fills."""
    needed = {
        (tensor, role)
        for tensor, factors in adapter.factors.items()
        for role in ("down", "gain", "shift")
        if getattr(factors, role) is not None
    }
    return needed | {
        (tensor, f"{layers.kind} layers with {layers.activation}")
        for tensor, layers in adapter.layers.items()
    }


def input_use(slot: AdapterInput) -> str:
    """Return what an input is for, as `needed_inputs` names it."""
    return f"{slot.layers[0]} layers with {slot.layers[1]}" if slot.layers else slot.role


def check_labels(request: AddRequest, found: Sequence[str] | None) -> None:
    """Refuse label names that are not as many as the adapter's outputs.

    Raises:
        EdgeError: the counts differ.
    """
    if request.labels is not None and list(request.labels) != found:
        raise EdgeError(
            f"labels: found {len(request.labels)}, expected {len(found or ())}, one for each "
            "output of the adapter's head"
        )


def link_files(bundle: Path, manifest: Mapping[str, Any], folder: Path) -> None:
    """Give every file of a bundle a second name in `folder`, or a copy where links are refused."""
    for name in manifest["files"]:
        if name == MANIFEST:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(bundle / name, target)
        except OSError:
            shutil.copyfile(bundle / name, target)
