"""Small random decoders, their graphs, and runs of them with a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.decoder_config import full_config
from edge_lra.graph.plan import Built, Plan
from edge_lra.quantize.schemes import SCHEMES
from edge_lra.recipe import find_recipe
from edge_lra.writer import write_data, write_model

Array = np.ndarray
SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_theta": 500.0,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_theta": 10000.0,
}
# Name -> model type, and what differs from SMALL.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"head_dim": 16}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", {"head_dim": 32}),
    "llama-linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "mistral": ("mistral", {"sliding_window": 5}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "gemma2": ("gemma2", {"head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 24}),
    "gemma3": (
        "gemma3_text",
        {"head_dim": 16, "sliding_window": 4, "query_pre_attn_scalar": 24, "num_hidden_layers": 6},
    ),
    "gpt2": (
        "gpt2",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_inner": 96},
    ),
}


def random_model(name: str) -> Any:
    """Return a seeded transformers model whose norms and biases are not the identity."""
    kind, changes = FAMILIES[name]
    plain = {"vocab_size": 96, "bos_token_id": 1, "eos_token_id": 2} if kind == "gpt2" else SMALL
    config = transformers.AutoConfig.for_model(kind, **{**plain, **changes})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.mul_(4.0)
    return model.eval()


def plan_for(path: Path, scheme: str = "none", **changes: Any) -> Plan:
    base = Checkpoint(path)
    recipe = find_recipe(base.config)
    names = recipe.resolve(base.tensors)
    config = full_config(base.config)
    return Plan(recipe, config, base, SCHEMES[scheme](), "text-generation", names, **changes)


def write_graph(built: Built, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    layout, fingerprint = write_data(built.builder, folder / "model.onnx.data")
    write_model(built.model, built.builder, layout, folder, fingerprint)
    return folder / "model.onnx"


class Stepper:
    """A graph's session with a cache that is copied from run to run."""

    def __init__(self, path: Path, built: Built, fixed: Mapping[str, Array] | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options)
        self.entry = built.decoder or {}
        self.fixed = dict(fixed or {})
        self.cache: dict[str, Array] = {}
        self.length = 0

    def feeds(self, ids: Array) -> dict[str, Array]:
        """Return the graph's inputs for the next tokens (batch, sequence)."""
        batch, count = ids.shape
        if not self.length:
            shape = (batch, self.entry["kv_heads"], 0, self.entry["head_size"])
            self.cache = {c["past"]: np.zeros(shape, np.float32) for c in self.entry["cache"]}
        self.length += count
        return {
            "input_ids": ids,
            "attention_mask": np.ones((batch, self.length), np.int64),
            **self.cache,
            **self.fixed,
        }

    def run(self, ids: Array) -> tuple[Array, Array]:
        """Return the last and all logits of the next tokens (batch, sequence)."""
        names = ["logits", "all_logits", *(c["present"] for c in self.entry["cache"])]
        last, every, *presents = self.session.run(names, self.feeds(ids))
        places = [c["past"] for c in self.entry["cache"]]
        self.cache = dict(zip(places, presents, strict=True))
        return last, every


def token_ids(shape: Sequence[int], seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(3, 96, tuple(shape))


def float_logits(model: Any, ids: Array) -> Array:
    with torch.no_grad():
        return np.asarray(model(input_ids=torch.from_numpy(ids)).logits.numpy())
