"""Fill a bundle's folder: adapter files, tokenizer, golden vectors, manifest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import edge_lra
from edge_lra.adapters import Adapter
from edge_lra.adapters.kinds.layers import Layers
from edge_lra.adapters.kinds.update import Factors
from edge_lra.bundle import FORMAT_VERSION, MANIFEST, describe_files, seal
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.graph.factors import AdapterInput
from edge_lra.graph.plan import Built
from edge_lra.inputs import ExportRequest, Inputs, sees_types
from edge_lra.metrics import Array
from edge_lra.quantize import SCHEMES
from edge_lra.quantize.affine import AffineWeight
from edge_lra.quantize.schemes.base import newest
from edge_lra.quantize.stored import BlockWeight, Int8Weight, single_weights
from edge_lra.quantize.survival import summary
from edge_lra.recipe import pad_token_id
from edge_lra.task import Use, config_labels
from edge_lra.tensor_files import read_config
from edge_lra.tokenizer_file import open_tokenizer

logger = logging.getLogger(__name__)
LAYER_ROLES: dict[str, Callable[[Layers], Array]] = {
    "layers_down": lambda layers: layers.down.T,
    "layers_down_bias": lambda layers: layers.down_bias,
    "layers_up": lambda layers: layers.scale * layers.up.astype(np.float64).T,
    "layers_up_bias": lambda layers: layers.scale * layers.up_bias.astype(np.float64),
    "replace": lambda layers: np.array([1.0 - layers.keeps]),
}
COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
)


DIVISORS = "divisors.safetensors"
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def adapter_tensors(adapter: Adapter, inputs: Sequence[AdapterInput]) -> dict[str, Array]:
    """Return one array for each adapter input, the scale folded into the up factor.

    A site the adapter leaves alone gets factors of rank 0.

    Raises:
        EdgeError: the graph takes a head and the adapter brings none.
    """
    tensors: dict[str, Array] = {}
    for item in inputs:
        if item.role in ("weight", "bias"):
            value = adapter.replacements.get(item.tensors[0])
            if value is None:
                raise EdgeError(
                    f"{adapter.path}: found no {item.tensors[0]}, expected the adapter's head"
                )
            value = value.T if item.role == "weight" else value
        elif item.role in ("gain", "shift"):
            value = _vector(adapter, item)
        elif item.role in LAYER_ROLES:
            value = _layer(adapter, item)
        else:
            value = _factor(adapter, item)
        if item.divisor is not None:
            value = value * item.divisor[:, None]
        tensors[item.name] = np.ascontiguousarray(value, item.dtype)
    return tensors


def _factor(adapter: Adapter, item: AdapterInput) -> Array:
    """Return the sites' down factors side by side, or up factors among zeros.

    Of one site, or of all, each in the columns of its own outputs.
    """
    sites = [adapter.factors.get(tensor, Factors()) for tensor in item.tensors]
    if item.role == "down":
        parts = [site.down.T for site in sites if site.down is not None]
        return np.concatenate(parts, axis=1) if parts else np.zeros(off_shape(item), np.float32)
    ranks = [0 if site.down is None else len(site.down) for site in sites]
    up = np.zeros((sum(ranks), off_shape(item)[1]))
    columns = {item.index: 0} if item.columns is None else dict(enumerate(item.columns))
    for index, column in columns.items():
        own = sites[index].up
        if own is not None:
            start = sum(ranks[:index])
            up[start : start + own.shape[1], column : column + len(own)] = own.T
    return up


def _vector(adapter: Adapter, item: AdapterInput) -> Array:
    """Return a site's gain or shift; zeros leave its outputs as they are."""
    value = getattr(adapter.factors.get(item.tensors[0], Factors()), item.role)
    return np.zeros(off_shape(item)) if value is None else np.asarray(value)


def _layer(adapter: Adapter, item: AdapterInput) -> Array:
    """Return a tensor of an adapter of two layers, its scale folded into the second."""
    layers = adapter.layers.get(item.tensors[0])
    return np.zeros(off_shape(item)) if layers is None else LAYER_ROLES[item.role](layers)


def adapter_rank(adapter: Adapter) -> int:
    """Return the largest rank of the adapter's sites."""
    ranks = [len(f.down) for f in adapter.factors.values() if f.down is not None]
    return max([*ranks, *(len(layers.down) for layers in adapter.layers.values())], default=0)


def off_shape(item: AdapterInput) -> list[int]:
    """Return the shape of an input that turns an adapter off."""
    return [0 if isinstance(d, str) else d for d in item.shape]


def write_adapters(
    folder: Path,
    adapters: Sequence[Adapter],
    inputs: Sequence[AdapterInput],
    labels: Sequence[str] | None,
    fingerprint: str,
    refits: Mapping[str, dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Write each adapter's tensors; return the manifest's entries.

    Args:
        folder: the bundle's.
        adapters: what to write.
        inputs: that they fill.
        labels: of the bundle's outputs.
        fingerprint: of the base.
        refits: the entries of adapters that were fitted to the rounded base.
    """
    entries = {}
    for adapter in adapters:
        file = folder / "adapters" / f"{adapter.name}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(save(adapter_tensors(adapter, inputs)))
        entries[adapter.name] = {
            "file": file.relative_to(folder).as_posix(),
            "rank": adapter_rank(adapter),
            "labels": adapter_labels(adapter, inputs, labels),
            "base": fingerprint,
            "refit": (refits or {}).get(adapter.name),
        }
    return entries


def write_divisors(folder: Path, inputs: Sequence[AdapterInput]) -> None:
    """Write what further adapters have to take in, by input; nothing where nothing is divided."""
    divisors = {item.name: item.divisor for item in inputs if item.divisor is not None}
    if divisors:
        (folder / DIVISORS).write_bytes(save(divisors))


def adapter_labels(
    adapter: Adapter, inputs: Sequence[AdapterInput], labels: Sequence[str] | None
) -> list[str] | None:
    """Return the adapter's own labels, the bundle's, or as many numbered ones as its head has."""
    if labels is None:
        return None
    biases = [i.tensors[0] for i in inputs if i.role == "bias" and isinstance(i.shape[0], str)]
    counts = [len(adapter.replacements[name]) for name in biases]
    own = adapter.labels
    if own is not None and counts and len(own) == counts[0]:
        return list(own)
    fits = not counts or counts[0] == len(labels)
    return list(labels if fits else config_labels({}, counts[0]))


def copy_tokenizer(
    checkpoint: Checkpoint, folder: Path, adapters: Sequence[Adapter]
) -> dict[str, Any] | None:
    """Copy tokenizer and config; return the manifest's entry for the tokenizer."""
    checkpoint.write_side_files(folder, COPIED)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    open_tokenizer(file, checkpoint.path / file.name)
    added = read_config(file).get("added_tokens", [])
    pad_id = pad_token_id(checkpoint.config, 0)
    token = next((t["content"] for t in added if t["id"] == pad_id), "[PAD]")
    return {
        "file": file.name,
        "pad_id": pad_id,
        "pad_token": token,
        "token_types": sees_types(adapters),
    }


def hosts(built: Built) -> list[str]:
    """Return what runs the bundle."""
    if built.adapter_inputs:
        return ["edge-lra"]
    return ["edge-lra", "onnxruntime", "onnxruntime-genai" if built.decoder else "optimum"]


def check_vocabulary(inputs: Inputs) -> None:
    """Refuse a tokenizer that gives ids beyond the embedding's rows.

    More rows than tokens are usual: tables are filled up to a round size.

    Raises:
        EdgeError: names the token.
    """
    file = inputs.checkpoint.path / "tokenizer.json"
    if not file.is_file():
        return
    document = read_config(file)
    vocabulary = document.get("model", {}).get("vocab", {})
    ids = dict(vocabulary) if isinstance(vocabulary, dict) else {}
    ids |= {token["content"]: token["id"] for token in document.get("added_tokens", [])}
    rows = inputs.vocabulary_size
    worst = max(ids, key=lambda token: int(ids[token]), default=None)
    if worst is not None and ids[worst] >= rows:
        raise EdgeError(
            f"{file}: found token {worst!r} with id {ids[worst]}, expected ids of 0 to {rows - 1} "
            "as the embedding has rows; does the tokenizer belong to this checkpoint?"
        )


def special_tokens(inputs: Inputs) -> dict[str, Any]:
    """Return a decoder's ids of beginning, ends and padding, as transformers generates by.

    Raises:
        EdgeError: an id is no token of the vocabulary.
    """
    file = inputs.checkpoint.path / "generation_config.json"
    own = read_config(file) if file.is_file() else {}
    found = {key: own.get(key, inputs.config.get(key)) for key in SPECIAL}
    ends = found["eos_token_id"]
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    for token in (found["bos_token_id"], found["pad_token_id"], *ends):
        known = type(token) is int and 0 <= token < inputs.vocabulary_size
        if token is not None and not known:
            raise EdgeError(
                f"{inputs.checkpoint.path}: found token id {token!r} in its configs, expected 0 "
                f"to {inputs.vocabulary_size - 1}; correct bos_token_id, eos_token_id or "
                "pad_token_id"
            )
    return {
        "bos_token_id": found["bos_token_id"],
        "eos_token_ids": ends,
        "pad_token_id": found["pad_token_id"],
    }


def base_manifest(
    name: str, family: str, request: ExportRequest, mode: str, built: Built, use: Use
) -> dict[str, Any]:
    """Return the parts of a manifest that follow from the graph and its use."""
    tokens = [
        {"name": n, "dtype": "int64", "shape": list(shape), "example": None}
        for n, shape in built.inputs
    ]
    outputs = [{"name": n, "dtype": "float32", "shape": list(shape)} for n, shape in built.outputs]
    scheme = SCHEMES[request.scheme]
    oldest = scheme.decoder_min_onnxruntime if built.decoder else scheme.min_onnxruntime
    return {
        "format_version": FORMAT_VERSION,
        "name": name,
        "family": family,
        "task": use.task,
        "problem_type": use.problem_type,
        "labels": list(use.labels) if use.labels else None,
        "mode": mode,
        "scheme": request.scheme,
        "float_sites": list(request.keep_float),
        "finer_sites": list(built.finer_sites),
        "plan": request.plan and request.plan.as_dict(),
        "without": list(request.without),
        "with": list(request.with_),
        "extra_rank": request.extra_rank,
        "calibration": None,
        "max_length": use.max_length,
        "pooling": use.pooling,
        "inputs": tokens,
        "outputs": outputs,
        "adapter_inputs": [
            {
                "name": item.name,
                "dtype": item.dtype,
                "shape": [*(["adapters"] if item.stacked else []), *item.shape],
                "off_shape": off_shape(item),
                "tensors": list(item.tensors),
                "role": item.role,
                "index": item.index,
                "layers": list(item.layers) if item.layers else None,
                "divided": item.divisor is not None,
                "columns": list(item.columns) if item.columns else None,
            }
            for item in built.adapter_inputs
        ],
        "min_onnxruntime": newest(built.min_onnxruntime, oldest),
        "session_options": {},
        "prepacked": None,
        "hosts": hosts(built),
        "versions": {"edge_lra": edge_lra.__version__},
    }


def write_manifest(
    folder: Path, manifest: Mapping[str, Any], known: Mapping[str, str] | None = None
) -> None:
    """Write the manifest last, with every other file's size and hash; `known` as of that."""
    files = describe_files(folder, known)
    (folder / MANIFEST).write_bytes(seal({**manifest, "files": files}))


def merged_entry(
    adapters: Sequence[Adapter], weights: Sequence[float], built: Built
) -> dict[str, Any] | None:
    """Return the manifest's record of a merge; warn where the int8 steps hide the change."""
    if not adapters:
        return None
    single = single_weights(built.builder.weights)
    rounded = [w for w in single if isinstance(w, Int8Weight | BlockWeight | AffineWeight)]
    found = [weight.survival for weight in rounded if weight.survival]
    survival = summary(found)
    if survival and survival["rows_below_step"] > 0.5:
        logger.warning(
            "the merged change is below one integer step in %.0f %% of its rows (%.3f is left "
            "in %s); --factored keeps it in float",
            100 * survival["rows_below_step"],
            survival["min"],
            survival["worst"],
        )
    listed = [
        {"name": a.name, "weight": weight, "kind": a.kind, "format": a.format}
        for a, weight in zip(adapters, weights, strict=True)
    ]
    return {"adapters": listed, "delta_survival": survival}
