"""GGUF's names of a model's tensors, and which of them llama.cpp stores in another order.

By llama.cpp's convert_hf_to_gguf.py, release of November 2026: the architectures below keep their
linear layers one to one; those marked reorder the rows of queries and keys (`LlamaModel.permute`).
GPT-2 is left out: convert_lora_to_gguf.py swaps the factors of its Conv1D, which llama.cpp then
refuses, or applies the wrong way round where the weight is square.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_lra.adapters.formats.format import Base
from edge_lra.adapters.names import tied_heads
from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class Architecture:
    """How a family's tensors are named.

    Attributes:
        name: gguf's word for it.
        permuted: rows of queries and keys stand in Meta's order.
        drop: a prefix that the converter takes off first.
    """

    name: str
    permuted: bool = False
    drop: str = ""


ARCHITECTURES = {
    "bert": Architecture("bert", drop="bert."),
    "distilbert": Architecture("bert", drop="distilbert."),
    "gemma": Architecture("gemma"),
    "gemma2": Architecture("gemma2"),
    "gemma3_text": Architecture("gemma3"),
    "granite": Architecture("granite", permuted=True),
    "llama": Architecture("llama", permuted=True),
    "mistral": Architecture("llama", permuted=True),
    "olmo": Architecture("olmo", permuted=True),
    "olmo2": Architecture("olmo2"),
    "phi3": Architecture("phi3"),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "roberta": Architecture("bert", drop="roberta."),
    "smollm3": Architecture("smollm3", permuted=True),
    "xlm-roberta": Architecture("bert", drop="roberta."),
}
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
QUERY, KEY = re.compile(r"\.attn_q\.weight$"), re.compile(r"\.attn_k\.weight$")


def architecture(base: Base, where: str) -> Architecture:
    """Return how the base's tensors are named.

    Raises:
        EdgeError: names the family, which is none of the known.
    """
    family = base.config.get("model_type")
    if family not in ARCHITECTURES:
        raise EdgeError(
            f"{where}: found a base of model_type {family!r}, expected one of "
            f"{', '.join(ARCHITECTURES)}; only these are known in GGUF"
        )
    return ARCHITECTURES[family]


def modules_by_name(base: Base, where: str) -> dict[str, str]:
    """Return the base's modules by GGUF's name of their weights.

    Raises:
        EdgeError: the family is unknown, or two modules have one name.
    """
    known = architecture(base, where)
    lookup = _lookup(known, base.config)
    found: dict[str, str] = {}
    names = [*base.tensors, *tied_heads(base.tensors)]
    for module in sorted(name.removesuffix(".weight") for name in names if _is_matrix(base, name)):
        plain = module.removeprefix(known.drop)
        # A base without a head keeps its tensors without the model's prefix.
        options = (lookup(plain), lookup(f"model.{plain}"))
        name = next((option for option in options if option), None)
        if name is None:
            continue
        if name in found:
            raise EdgeError(
                f"{where}: {name}: found {found[name]} and {module} in the base, expected one of "
                "them; use a base with one copy of the weights"
            )
        found[name] = module
    return found


def _is_matrix(base: Base, name: str) -> bool:
    info = base.tensors.get(name)
    return name.endswith(".weight") and (info is None or len(info.shape) > 1)


def _lookup(known: Architecture, config: Mapping[str, Any]) -> Any:
    import gguf

    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == known.name)
    layers = next((config[key] for key in LAYERS if type(config.get(key)) is int), 0)
    table = gguf.get_tensor_name_map(arch, layers)

    def lookup(module: str) -> str | None:
        name = table.get_name(module)
        return None if name is None else f"{name}.weight"

    return lookup
