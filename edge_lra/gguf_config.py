"""A GGUF file's metadata as the config of a Hugging Face model.

What the metadata leaves to llama.cpp's code (which layers of Gemma slide, how its scores are
scaled) is filled in as it stands there, release of November 2026. An entry that changes the result
and has no counterpart here is refused by its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.gguf_file import GgufFile

FACTORS = "rope_freqs.weight"  # of Llama 3, by frequency
LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
GPT2_SIZES = {
    "block_count": "n_layer",
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "attention.head_count": "n_head",
}
TOKENS = {
    "tokenizer.ggml.bos_token_id": "bos_token_id",
    "tokenizer.ggml.eos_token_id": "eos_token_id",
    "tokenizer.ggml.padding_token_id": "pad_token_id",
    "tokenizer.ggml.unknown_token_id": "unk_token_id",
}
SCALING, FACTOR, ORIGINAL = (
    f"rope.scaling.{key}" for key in ("type", "factor", "original_context_length")
)
READ = {
    *SIZES,
    *("vocab_size", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"),
    *("rope.dimension_count", "rope.freq_base", SCALING, FACTOR, ORIGINAL),
    *("rope.scaling.finetuned", "pooling_type"),  # say nothing of the graph
}
LARGEST = {"gemma2": 46, "gemma3": 62}  # layers of the 27B, whose scores are scaled otherwise


@dataclass(frozen=True)
class Family:
    """A family's names in transformers and what is peculiar to it.

    Attributes:
        fixed: entries of the config that the metadata does not have.
        also: entries of the metadata that only this family may have, and their names.
        outer, layer: modules of the model and of layer {i}.
        norm_offset: what GGUF adds to the weights of norms.
        transposed: modules that transformers stores as (in, out).
        permuted: rows of queries and keys stand in Meta's order.
    """

    model_type: str
    architecture: str
    outer: tuple[str, ...]
    layer: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)
    norm_offset: float = 0.0
    transposed: tuple[str, ...] = ()
    permuted: bool = False


OUTER = ("model.embed_tokens", "model.norm", "lm_head")
PROJECTIONS = tuple(
    f"model.layers.{{i}}.{name}"
    for name in (
        *(f"self_attn.{part}_proj" for part in "qkvo"),
        *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    )
)
NORMS = tuple(
    f"model.layers.{{i}}.{name}" for name in ("input_layernorm", "post_attention_layernorm")
)
MORE_NORMS = tuple(f"model.layers.{{i}}.{name}_feedforward_layernorm" for name in ("pre", "post"))
HEAD_NORMS = tuple(f"model.layers.{{i}}.self_attn.{part}_norm" for part in "qk")
CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.sliding_window": "sliding_window",
}
TANH_GELU = {"hidden_activation": "gelu_pytorch_tanh"}
CONV1D = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")

FAMILIES = {
    "llama": Family(
        "llama",
        "LlamaForCausalLM",
        OUTER,
        (*NORMS, *PROJECTIONS),
        {"hidden_act": "silu"},
        permuted=True,
    ),
    "qwen2": Family(
        "qwen2",
        "Qwen2ForCausalLM",
        OUTER,
        (*NORMS, *PROJECTIONS),
        {"hidden_act": "silu", "use_sliding_window": False},
    ),
    "qwen3": Family(
        "qwen3",
        "Qwen3ForCausalLM",
        OUTER,
        (*NORMS, *HEAD_NORMS, *PROJECTIONS),
        {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False},
    ),
    "gemma2": Family(
        "gemma2",
        "Gemma2ForCausalLM",
        OUTER[:2],
        (*NORMS, *MORE_NORMS, *PROJECTIONS),
        TANH_GELU,
        CAPS,
        norm_offset=1.0,
    ),
    "gemma3": Family(
        "gemma3_text",
        "Gemma3ForCausalLM",
        OUTER,
        (*NORMS, *MORE_NORMS, *HEAD_NORMS, *PROJECTIONS),
        TANH_GELU,
        CAPS | {"rope.freq_base_swa": "rope_local_base_freq"},
        norm_offset=1.0,
    ),
    "gpt2": Family(
        "gpt2",
        "GPT2LMHeadModel",
        ("transformer.wte", "transformer.wpe", "transformer.ln_f", "lm_head"),
        tuple(f"transformer.h.{{i}}.{name}" for name in ("ln_1", "ln_2", *CONV1D)),
        {"activation_function": "gelu_new"},
        transposed=CONV1D,
    ),
}


def find_family(file: GgufFile) -> Family:
    """Return the family of a GGUF file.

    Raises:
        EdgeError: it holds no model, a part of one, or one of another family.
    """
    kind = file.metadata.get("general.type", "model")
    if kind != "model":
        raise EdgeError(f"{file.path}: general.type: found {kind!r}, expected a model as the base")
    parts = file.metadata.get("split.count", 0)
    if parts not in (0, 1):
        raise EdgeError(
            f"{file.path}: found one of {parts} parts (split.count), expected a whole model; join "
            "them with llama-gguf-split --merge"
        )
    name = file.metadata.get("general.architecture")
    if name not in FAMILIES:
        raise EdgeError(
            f"{file.path}: general.architecture: found {name!r}, expected one of "
            f"{', '.join(FAMILIES)}; use the model's folder in Hugging Face layout"
        )
    return FAMILIES[name]


def read_model_config(file: GgufFile, family: Family) -> dict[str, Any]:
    """Return the config that transformers would have of the same model.

    Raises:
        EdgeError: an entry is missing, no number, or not honoured.
    """
    entries = _Entries(file)
    entries.refuse_unknown(READ | set(family.also))
    config: dict[str, Any] = {
        "model_type": family.model_type,
        "architectures": [family.architecture],
        **family.fixed,
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    if family.model_type == "gpt2":
        config |= {name: entries.count(key) for key, name in GPT2_SIZES.items()}
        config["layer_norm_epsilon"] = entries.number("attention.layer_norm_epsilon")
    else:
        config |= _rotary_config(file, family, entries)
    config |= {name: file.metadata[key] for key, name in TOKENS.items() if key in file.metadata}
    return config


def _rotary_config(file: GgufFile, family: Family, entries: _Entries) -> dict[str, Any]:
    """Return the entries of a model with rotary positions and RMS norms."""
    config: dict[str, Any] = {name: entries.count(key) for key, name in SIZES.items()}
    heads = config["num_attention_heads"]
    config["num_key_value_heads"] = entries.count("attention.head_count_kv", heads)
    config["rms_norm_eps"] = entries.number("attention.layer_norm_rms_epsilon")
    usual = entries.count("rope.dimension_count", config["hidden_size"] // heads)
    size = entries.count("attention.key_length", usual)
    for key in ("attention.value_length", "rope.dimension_count"):
        if entries.count(key, size) != size:
            raise entries.wrong(key, f"{size}, the size of a head; other sizes are not supported")
    config["head_dim"] = size
    if family.model_type == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
        config["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
    rope = {"rope_theta": entries.number("rope.freq_base", 10000.0), **_scaling(file, entries)}
    if FACTORS in file.tensors:
        rope |= _llama3(file, rope, size)
    config["rope_parameters"] = rope
    if family.also:
        config |= _gemma_config(file, family, entries, config)
    return config


def _gemma_config(
    file: GgufFile, family: Family, entries: _Entries, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what Gemma has beside the others."""
    name = entries.name
    found: dict[str, Any] = {
        key: entries.number(entry)
        for entry, key in family.also.items()
        if entry.endswith("softcapping") and entries.get(entry)
    }
    found["sliding_window"] = entries.count("attention.sliding_window")
    layers, period = config["num_hidden_layers"], 2 if name == "gemma2" else 6
    found["layer_types"] = [
        "full_attention" if i % period == period - 1 else "sliding_attention" for i in range(layers)
    ]
    large = layers == LARGEST[name]
    found["query_pre_attn_scalar"] = (
        config["hidden_size"] // config["num_attention_heads"] if large else config["head_dim"]
    )
    if name == "gemma2":
        return {"attn_logit_softcapping": None, "final_logit_softcapping": None} | found
    local = entries.number("rope.freq_base_swa", 10000.0)
    found["rope_parameters"] = {
        "full_attention": config["rope_parameters"],
        "sliding_attention": {"rope_theta": local, "rope_type": "default"},
    }
    return found


def _scaling(file: GgufFile, entries: _Entries) -> dict[str, Any]:
    """Return how positions beyond those of the training are scaled."""
    kind = entries.get(SCALING) or "none"
    if kind == "none":
        return {"rope_type": "default"}
    if kind not in ("linear", "yarn"):
        raise entries.wrong(SCALING, "none, linear or yarn; others are not supported")
    scaling: dict[str, Any] = {"rope_type": kind, "factor": entries.number(FACTOR)}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = entries.count(ORIGINAL)
    return scaling


def _llama3(file: GgufFile, rope: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the scaling whose factors the file holds: Llama 3's, with its usual bounds."""
    found = file.read(FACTORS, 0, file.tensors[FACTORS].shape[0]).astype(np.float64)
    factor = round(float(found.max()), 4)
    frequency = rope["rope_theta"] ** -(np.arange(0, size, 2) / size)
    turns = LLAMA3["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    blend = np.clip((turns - low) / (high - low), 0, 1)
    expected = 1 / ((1 - blend) / factor + blend)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3):
        raise EdgeError(
            f"{file.path}: {FACTORS}: found factors of the frequencies that are not Llama 3's, "
            "expected those; use the model's folder in Hugging Face layout"
        )
    return {"rope_type": "llama3", "factor": factor, **LLAMA3}


class _Entries:
    """The metadata under the architecture's name."""

    def __init__(self, file: GgufFile) -> None:
        self.path, self.metadata = file.path, file.metadata
        self.name = str(file.metadata["general.architecture"])

    def get(self, key: str) -> Any:
        return self.metadata.get(f"{self.name}.{key}")

    def count(self, key: str, default: int | None = None) -> int:
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or value < 1:
            raise self.wrong(key, "a whole number above 0")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise self.wrong(key, "a number above 0")
        return float(value)

    def refuse_unknown(self, known: set[str]) -> None:
        """Refuse entries that say something and that nobody here reads."""
        begin = f"{self.name}."
        for entry, value in self.metadata.items():
            key = entry.removeprefix(begin)
            if entry.startswith(begin) and key not in known and value:
                raise self.wrong(key, "no such entry; it is not supported")

    def wrong(self, key: str, expected: str) -> EdgeError:
        return EdgeError(
            f"{self.path}: {self.name}.{key}: found {self.get(key)!r:.60}, expected {expected}"
        )
