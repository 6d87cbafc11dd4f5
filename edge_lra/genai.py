"""What onnxruntime-genai needs to run a merged decoder's folder as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "genai_config.json"


def write_genai_config(folder: Path, config: Mapping[str, Any], decoder: Mapping[str, Any]) -> None:
    """Write the host's config: the graph's names, its sizes, and greedy search.

    Args:
        folder: the bundle's.
        config: the checkpoint's, filled in by transformers.
        decoder: the manifest's entry.
    """
    first = decoder["cache"][0]["past"], decoder["cache"][1]["past"]
    key, value = (name.replace(".0.", ".%d.") for name in first)
    pair = decoder["cache"][:2]
    present_key, present_value = (c["present"].replace(".0.", ".%d.") for c in pair)
    ends = decoder["eos_token_ids"]
    pad = decoder["pad_token_id"]
    model = {
        "bos_token_id": decoder["bos_token_id"],
        "context_length": decoder["context_length"],
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "head_size": decoder["head_size"],
            "hidden_size": config.get("hidden_size") or config.get("n_embd"),
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                "past_key_names": key,
                "past_value_names": value,
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": present_key,
                "present_value_names": present_value,
            },
            "num_attention_heads": config.get("num_attention_heads") or config.get("n_head"),
            "num_hidden_layers": decoder["layers"],
            "num_key_value_heads": decoder["kv_heads"],
        },
        "eos_token_id": ends,
        "pad_token_id": pad if pad is not None else (ends or [0])[0],
        "type": "llama",
        "vocab_size": config["vocab_size"],
    }
    search = {
        "do_sample": False,
        "max_length": decoder["context_length"],
        "past_present_share_buffer": True,
    }
    document = {"model": {k: v for k, v in model.items() if v is not None}, "search": search}
    (folder / NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
