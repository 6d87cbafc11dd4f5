"""AdapterHub (the `adapters` library): adapter_config.json with "config", and its own names.

LoRA becomes PEFT's; adapters of two layers become the project's own (`adapterhub_layers`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters.formats.adapterhub_layers import read_layers
from edge_lra.adapters.formats.build import DOWN, UP, Part, Parts, part_of
from edge_lra.adapters.formats.format import Base
from edge_lra.adapters.formats.place import Place, only
from edge_lra.adapters.kinds.rules import Rules, factor, positive
from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG
from edge_lra.task import peft_task_type
from edge_lra.tensor_files import TensorFile, open_tensor_file, read_config

WEIGHTS = ("adapter.safetensors", "model_adapter.safetensors", "pytorch_adapter.bin")
HEADS = ("model_head.safetensors", "pytorch_model_head.bin")
KINDS = "adapters|loras|prefix_tunings|prefix_gates|refts|prompt_tunings|shared_parameters"
KEYS = re.compile(rf"\.(?:{KINDS})\.[^.]+\.|_(?:task|lang)_adapters\.")
FACTOR = re.compile(r"(.+)\.loras\.([^.]+)\.(lora_A|lora_B)")
FIXED = (1, 1, 0)  # from this release on, LoRA's scale is what the config says
RULES = Rules(
    honoured=frozenset({"alpha", "architecture", "attn_matrices", "r"}),
    inert=frozenset(
        {
            "dropout",
            "dtype",
            "init_weights_seed",
            "intermediate_lora",
            "leave_out",
            "output_lora",
            "selfattn_lora",
        }
    ),
    # DoRA there takes the norm without the scale and multiplies the bias as well.
    refused={
        "composition_mode": "add",
        "use_dora": False,
        "use_gating": False,
        "vera_b": None,
        "vera_d": None,
    },
)


class AdapterHub:
    """AdapterHub."""

    name = "adapterhub"
    title = "AdapterHub"
    looks_like = f'{ADAPTER_CONFIG} with "config", and {WEIGHTS[0]} or {WEIGHTS[-1]}'

    def detect(self, place: Place) -> bool:
        """A config as `save_adapter` writes it, or its names of adapters."""
        config = place.config
        marked = "config" in config and not {"peft_type", "adapter_type"} & config.keys()
        return (place.path.is_dir() and marked) or bool(place.holding(KEYS))

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return LoRA in PEFT's terms, two layers in the project's own."""
        where = str(place.config_file)
        inner = place.config.get("config")
        if not isinstance(inner, dict):
            raise EdgeError(
                f"{where}: config: found {inner!r}, expected the adapter's settings; "
                "save the adapter again with a present release of adapters"
            )
        file = _open(place)
        kind = inner.get("architecture")
        if kind not in (None, "lora"):
            raise EdgeError(
                f"{where}: architecture: found {kind!r}, expected lora or an adapter of two "
                "layers; others do not become part of the weights"
            )
        whole, more = read_head(place)
        more["base_model_name_or_path"] = place.config.get("model_name")
        if kind is None:
            return read_layers(place, file, inner, whole, more)
        return _read_lora(place, file, inner, whole, more)


def _open(place: Place) -> TensorFile:
    """Return the file of the adapter's tensors."""
    named = [place.folder / name for name in WEIGHTS]
    for path in named:
        if place.path.is_dir() and path in place.failures:
            raise place.failures[path]
    found = [file.path for file in place.holding(KEYS)]
    if not found:
        raise EdgeError(
            f"{place.path}: found no tensors of an adapter, expected {' or '.join(WEIGHTS)}; "
            "is the folder complete?"
        )
    return place.files[only(place, found, AdapterHub.title)]


def read_head(place: Place) -> tuple[dict[str, Part], dict[str, Any]]:
    """Return the tensors of a head beside the adapter, and settings that go with it.

    Raises:
        EdgeError: it is one of AdapterHub's own, which are not those of transformers.
    """
    path = next((place.folder / n for n in HEADS if (place.folder / n).is_file()), None)
    if path is None or not place.path.is_dir():
        return {}, {}
    file = open_tensor_file(path)
    if own := sorted(name for name in file.tensors if name.startswith("heads.")):
        raise EdgeError(
            f"{path}: {own[0]}: found a prediction head of AdapterHub's own, expected one of "
            "transformers; take the head's file away to use the adapter without it"
        )
    config = place.folder / "head_config.json"
    name = read_config(config).get("model_class") if config.is_file() else None
    modules = sorted({key.partition(".")[0] for key in file.tensors})
    whole = {key: part_of(file, key) for key in sorted(file.tensors)}
    return whole, {"task_type": peft_task_type(str(name)), "modules_to_save": modules}


def _read_lora(
    place: Place,
    file: TensorFile,
    inner: Mapping[str, Any],
    whole: dict[str, Part],
    more: Mapping[str, Any],
) -> Saved:
    where = str(place.config_file)
    # Its choices of a start, of which "ia3" is for the mode that is refused.
    RULES.check({k: v for k, v in inner.items() if k != "init_weights"}, where)
    rank = positive(where, "r", inner.get("r"))
    alpha = factor(where, "alpha", inner.get("alpha"))
    if _is_faulty(place.config.get("version")):
        alpha = rank  # those releases left the scale out, and adapters reads them so
    parts = Parts(file.path, whole=whole)
    names = set()
    for key in sorted(file.tensors):
        match = FACTOR.fullmatch(key)
        if match is None:
            raise EdgeError(
                f"{file.path}: {key}: found a tensor that is no factor, expected lora_A and "
                "lora_B; save the adapter alone"
            )
        names.add(match[2])
        part = {"lora_A": DOWN, "lora_B": UP}[match[3]]
        parts.add(match[1], part, part_of(file, key))
    one_name(file.path, names)
    fused = place.config.get("model_type") == "gpt2"
    for module, found in parts.sites.items():
        if fused and module.endswith(".c_attn") and {DOWN, UP} <= found.keys():
            found[UP] = _spread(found, rank, inner.get("attn_matrices"), f"{file.path}: {module}")
        parts.rank(module)
        parts.scales[module] = alpha / rank
    config = {**more, "fan_in_fan_out": True if fused else None}
    return parts.saved(place.path, AdapterHub.title, place.config_file, config)


def one_name(path: Path, names: set[str]) -> None:
    """Refuse a file of several adapters."""
    if len(names) > 1:
        raise EdgeError(
            f"{path}: found adapters {', '.join(sorted(names))}, expected one; save one alone"
        )


def _is_faulty(version: object) -> bool:
    """Say whether a release of adapters trained LoRA without its scale (its pull request 770)."""
    if not isinstance(version, str) or not version.startswith("adapters."):
        return False
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    return numbers < FIXED


def _spread(found: Mapping[str, Part], rank: int, enabled: object, where: str) -> Part:
    """Return the up factor of a fused layer (`LoRAMergedLinear`) over all its outputs.

    Queries, keys and values have factors of their own, one below the other; in the factor of the
    whole layer each stands in its own rows and columns.
    """
    known = enabled if isinstance(enabled, list) else []
    places = [place for place, name in enumerate("qkv") if name in known]
    part, down, count = found[UP], found[DOWN], len(places)
    size = part.shape[0] // max(1, count)
    if not places or part.shape != (size * count, rank) or down.shape[0] != rank * count:
        raise EdgeError(
            f"{where}: found factors {part.shape} and {down.shape}, expected rank {rank} for each "
            f"of attn_matrices {enabled!r}; use the config that was saved with these weights"
        )

    def read() -> Array:
        values = part.read()
        spread = np.zeros((3 * size, rank * count), np.float32)
        for index, place in enumerate(places):
            rows, columns = place * size, index * rank
            block = values[index * size : (index + 1) * size]
            spread[rows : rows + size, columns : columns + rank] = block
        return spread

    return Part(part.key, (3 * size, rank * count), read)
