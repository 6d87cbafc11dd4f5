"""torchtune's native checkpoint: adapter_model.pt or adapter_N.pt, with its own names.

    y = W x + (alpha / rank) lora_b(lora_a(x))      torchtune/modules/peft/lora.py

Its rotary embedding takes Meta's pairs, so rows of queries and keys are reordered
(torchtune/models/convert_weights.py), but for Qwen2. Where a copy in PEFT's format stands beside
it, the native one is read: the copy reorders Qwen2's rows as well, and DoRA's magnitudes nowhere.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge_lra.adapters.formats.build import DOWN, MAGNITUDE, UP, Parts, part_of
from edge_lra.adapters.formats.format import Base, heads, need_base
from edge_lra.adapters.formats.place import Place, only
from edge_lra.adapters.kinds.rules import factor, positive
from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_CONFIG
from edge_lra.row_order import check_rows, to_halves
from edge_lra.tensor_files import TensorFile

KEYS = re.compile(r"\.lora_[ab]\.weight$")
PART = re.compile(r"(.+)\.(lora_a\.weight|lora_b\.weight|magnitude)")
PARTS = {"lora_a.weight": DOWN, "lora_b.weight": UP, "magnitude": MAGNITUDE}
# Families whose linear layers are one to one, and whether queries and keys are reordered.
FAMILIES = {"gemma": True, "gemma2": True, "llama": True, "mistral": True, "qwen2": False}
LAYER = re.compile(r"layers\.(\d+)\.(.+)")
MODULES = {
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.output_proj": "self_attn.o_proj",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.down_proj",
    "mlp.w3": "mlp.up_proj",
}


class Torchtune:
    """torchtune."""

    name = "torchtune"
    title = "torchtune"
    looks_like = "adapter_model.pt or adapter_N.pt with lora_a.weight and lora_b.weight"

    def detect(self, place: Place) -> bool:
        """Its names of factors."""
        return bool(place.holding(KEYS))

    def read(self, place: Place, base: Base | None) -> Saved:
        """Return the factors under Hugging Face's names, rows in its order."""
        path = only(place, [file.path for file in place.holding(KEYS)], self.title)
        where = str(place.config_file)
        if "lora_alpha" not in place.config:
            raise EdgeError(
                f"{path}: found no lora_alpha, expected r and lora_alpha in {ADAPTER_CONFIG} "
                "beside it, which this file does not hold; write them there from the recipe"
            )
        alpha = factor(where, "lora_alpha", place.config["lora_alpha"])
        base = need_base(base, path, "torchtune's checkpoint", "has other names and rows there")
        family = base.config.get("model_type")
        if family not in FAMILIES:
            raise EdgeError(
                f"{path}: found a base of model_type {family!r}, expected one of "
                f"{', '.join(FAMILIES)}; torchtune's layers of others are not one to one"
            )
        parts = _parts(place.files[path], base, FAMILIES[family])
        for module in parts.sites:
            parts.scales[module] = alpha / parts.rank(module)
            # By site, torchtune has one rank: a config of other weights must not go by unseen.
            if parts.rank(module) != positive(where, "r", place.config.get("r")):
                raise EdgeError(
                    f"{path}: {module}: found rank {parts.rank(module)}, expected "
                    f"{place.config['r']} by {ADAPTER_CONFIG}; use the config that was saved with "
                    "these weights"
                )
        name = place.config.get("base_model_name_or_path")
        config = {"base_model_name_or_path": name, "task_type": "CAUSAL_LM"}
        return parts.saved(place.path, self.title, place.config_file, config)


def _parts(file: TensorFile, base: Base, paired: bool) -> Parts:
    """Return the sites under Hugging Face's names; `paired` rows are reordered.

    Raises:
        EdgeError: a tensor is none of a linear layer's.
    """
    parts = Parts(file.path)
    for key in sorted(file.tensors):
        match = PART.fullmatch(key)
        module = _module(match[1]) if match else None
        if match is None or module is None:
            raise EdgeError(
                f"{file.path}: {key}: found a tensor that is none of a linear layer's, expected "
                f"lora_a, lora_b and magnitude of {', '.join(MODULES)} and output"
            )
        part = PARTS[match[2]]
        count = _heads(module, base, file.path) if paired and part != DOWN else None
        order = None if count is None else _Order(count, f"{file.path}: {module}")
        parts.add(module, part, part_of(file, key, order))
    return parts


class _Order:
    """Reorders rows of queries or keys into Hugging Face's order."""

    def __init__(self, heads: int, where: str) -> None:
        """Take the number of heads, and the site for messages."""
        self._heads, self._where = heads, where

    def __call__(self, values: Array) -> Array:
        """Return the rows in order."""
        check_rows(len(values), self._heads, self._where)
        return to_halves(values, self._heads)


def _module(name: str) -> str | None:
    """Return Hugging Face's name of a module."""
    if name == "output":
        return "lm_head"
    match = LAYER.fullmatch(name)
    if match is None or match[2] not in MODULES:
        return None
    return f"model.layers.{match[1]}.{MODULES[match[2]]}"


def _heads(module: str, base: Base, path: Path) -> int | None:
    """Return the heads of a module whose rows are reordered, or None."""
    queries, keys = heads(base, path)
    return {"q_proj": queries, "k_proj": keys}.get(module.rpartition(".")[2])
