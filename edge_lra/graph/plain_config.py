"""A config that is whole as it stands, read without importing transformers.

That import takes 2 s and 280 MiB, several times what the export of a small decoder does. Configs
that leave out what transformers has a default for, or hold anything unusual, are left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "vocab_size",
)
TOKENS = ("bos_token_id", "eos_token_id")
# Model type -> what else its config has to hold, since transformers has a default for it.
FAMILIES: dict[str, tuple[str, ...]] = {
    "llama": (),
    "mistral": ("sliding_window",),
    "qwen2": ("use_sliding_window",),
    "qwen3": ("use_sliding_window", "head_dim"),
}
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def plain_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the config with the rest filled in; None where that takes transformers."""
    family = config.get("model_type")
    if family not in FAMILIES or not all(_is_count(config.get(name)) for name in COUNTS):
        return None
    if not all(name in config for name in (*TOKENS, *FAMILIES[family])):
        return None
    epsilon, activation = config.get("rms_norm_eps"), config.get("hidden_act")
    if type(epsilon) is not float or type(activation) is not str:
        return None
    window = config.get("sliding_window")
    known = window is None or (family == "mistral" and _is_count(window))
    if family.startswith("qwen"):
        known = config["use_sliding_window"] is False
        window = None
    width, layers, heads = (config[name] for name in COUNTS[:3])
    known &= config.get("layer_types") in (None, ["full_attention"] * layers) and not width % heads
    head_size, rope = config.get("head_dim") or width // heads, _rope_parameters(config)
    if not known or rope is None or not _is_count(head_size):
        return None
    filled = {"pad_token_id": None, **config, "head_dim": head_size, "rope_parameters": rope}
    return filled | {"sliding_window": window}


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _rope_parameters(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the rotation under its newer name; None for anything but the two usual kinds."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {"rope_type": "default"}
    if not isinstance(given, Mapping) or "partial_rotary_factor" in config:
        return None
    parameters = {"rope_theta": config.get("rope_theta"), **given}
    numbers = {"default": (), "llama3": LLAMA3}.get(str(parameters.get("rope_type")))
    names = None if numbers is None else {"rope_type", "rope_theta", *numbers}
    if names is None or parameters.keys() != names:
        return None
    values = [parameters[name] for name in names - {"rope_type"}]
    return parameters if all(type(v) in (int, float) and v > 0 for v in values) else None
