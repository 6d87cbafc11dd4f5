"""What a decoder's config asks for is built, or refused by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from edge_lra.errors import EdgeError
from edge_lra.graph.decoder_config import full_config, read_decoder
from edge_lra.graph.rope import read_rope
from edge_lra.recipe import DecoderRecipe, find_recipe
from tests.graph.decoders import LLAMA3, SMALL, YARN


def read(kind: str, context: int | None = None, **changes: Any) -> Any:
    sizes = {} if kind == "gpt2" else SMALL
    config = full_config({"model_type": kind, **sizes, **changes})
    recipe = find_recipe(config)
    assert isinstance(recipe, DecoderRecipe)
    return read_decoder(recipe, config, context)


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "linear", "factor": 3.0, "rope_theta": 10000.0},
        LLAMA3,
        YARN,
        YARN | {"attention_factor": 1.25},
        YARN | {"mscale": 0.7, "mscale_all_dim": 1.3},
        YARN | {"beta_fast": 16, "beta_slow": 2, "truncate": False},
    ],
)
def test_frequencies_are_those_of_transformers(parameters: dict[str, Any]) -> None:
    config = transformers.LlamaConfig(**SMALL, head_dim=32, rope_parameters=dict(parameters))
    expected, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, torch.device("cpu"))
    found = read_rope(parameters, 32)
    np.testing.assert_allclose(found.frequencies, expected.numpy(), rtol=1e-6)
    assert found.attention_factor == pytest.approx(factor)


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "factor": 2.0,
                    "short_factor": [1.0] * 8,
                    "long_factor": [1.0] * 8,
                    "original_max_position_embeddings": 32,
                }
            },
            "'longrope'",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": -1.0}}, "factor"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 2}, "chunked_attention"),
        ("llama", {"num_key_value_heads": 3}, "3 key-value heads"),
        ("llama", {"rms_norm_eps": 2.0}, "rms_norm_eps"),
        ("llama", {"head_dim": 100}, "heads of 100 channels"),
        ("gpt2", {"n_embd": 60}, "heads of 5 channels"),
    ],
)
def test_an_unknown_variant_is_refused_by_name(
    kind: str, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(EdgeError, match=named):
        read(kind, **changes)


@pytest.mark.parametrize("context", [0, 129])
def test_a_context_beyond_the_model_is_refused(context: int) -> None:
    with pytest.raises(EdgeError, match="expected 1 to 128 tokens"):
        read("llama", context)


def test_a_context_shortens_the_cache() -> None:
    assert read("llama", 32).positions == 32
    assert read("llama").positions == 128


def test_windows_are_those_of_each_layer() -> None:
    config = read("gemma3_text", num_hidden_layers=6, sliding_window=4)
    assert [layer.window for layer in config.layers] == [4, 4, 4, 4, 4, None]
    config = read(
        "qwen2", num_hidden_layers=4, use_sliding_window=True, sliding_window=7, max_window_layers=2
    )
    assert [layer.window for layer in config.layers] == [None, None, 7, 7]
