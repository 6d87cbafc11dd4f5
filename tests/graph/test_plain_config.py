"""A config read without transformers is the one that transformers gives, or is left to it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from edge_lra.graph.decoder_config import read_decoder
from edge_lra.graph.plain_config import plain_config
from edge_lra.recipe import DecoderRecipe, find_recipe
from tests.graph.decoders import FAMILIES, LLAMA3, SMALL

# What is left to transformers: other families, rotations of other kinds, windows by layers.
LEFT = ("llama-linear", "llama-yarn", "qwen2-window", "gemma2", "gemma3", "gpt2")
SAVED = ("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size", "tie_word_embeddings")


def saved_config(kind: str, changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return config.json as transformers writes it."""
    sizes = {} if kind == "gpt2" else SMALL
    tokens = {"bos_token_id": 1, "eos_token_id": 2}
    config = transformers.AutoConfig.for_model(kind, **{**sizes, **tokens, **changes})
    config.save_pretrained(folder)
    return dict(json.loads((folder / "config.json").read_text()))


def decoder(config: dict[str, Any]) -> dict[str, Any]:
    recipe = find_recipe(config)
    assert isinstance(recipe, DecoderRecipe)
    return dataclasses.asdict(read_decoder(recipe, config))


def by_transformers(config: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in config.items() if name != "model_type"}
    return dict(transformers.AutoConfig.for_model(config["model_type"], **given).to_dict())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_read_as_transformers_reads_it(tmp_path: Path, name: str) -> None:
    config = saved_config(*FAMILIES[name], tmp_path)
    found, expected = plain_config(config), by_transformers(config)
    assert (found is None) == (name in LEFT)
    if found is None:
        return
    np.testing.assert_equal(decoder(found), decoder(expected))
    assert {key: found.get(key) for key in SAVED} == {key: expected.get(key) for key in SAVED}
    # Nothing that both name differs, but for how the window of no layer is told.
    for key in (found.keys() & expected.keys()) - {"sliding_window", "dtype"}:
        assert found[key] == expected[key], key


OLDER: dict[str, Any] = {
    **SMALL,
    "model_type": "llama",
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope_scaling": None},
        {"rope_scaling": {key: LLAMA3[key] for key in LLAMA3 if key != "rope_theta"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 7.5}},
        {"head_dim": 32, "tie_word_embeddings": True},
        {"model_type": "mistral", "sliding_window": None},
        {"model_type": "mistral", "sliding_window": 9},
        {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 9},
        {"model_type": "qwen3", "use_sliding_window": False, "head_dim": 32},
    ],
)
def test_configs_of_older_transformers_too(changes: dict[str, Any]) -> None:
    config = {**OLDER, **changes}
    found = plain_config(config)
    assert found is not None
    np.testing.assert_equal(decoder(found), decoder(by_transformers(config)))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "gemma2"},
        {"num_hidden_layers": "2"},
        {"num_hidden_layers": True},
        {"vocab_size": 0},
        {"rms_norm_eps": 1},
        {"hidden_act": None},
        {"rope_theta": None},
        {"rope_theta": -1.0},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_scaling": "default"},
        {"partial_rotary_factor": 0.5},
        {"hidden_size": 66},
        {"head_dim": -4},
        {"sliding_window": 4},
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"model_type": "qwen2", "use_sliding_window": True},
        {"model_type": "qwen2"},
        {"model_type": "mistral", "sliding_window": "4"},
    ],
)
def test_what_is_unusual_or_left_out_is_left_to_transformers(changes: dict[str, Any]) -> None:
    assert plain_config({**OLDER, **changes}) is None


@pytest.mark.parametrize("name", sorted(OLDER.keys() - {"intermediate_size", "torch_dtype"}))
def test_what_transformers_has_a_default_for_is_left_to_it(name: str) -> None:
    assert plain_config({key: value for key, value in OLDER.items() if key != name}) is None


def test_reading_a_plain_config_imports_no_transformers() -> None:
    code = (
        "import sys, json\n"
        "from edge_lra.graph.decoder_config import full_config\n"
        "full_config(json.loads(sys.argv[1]))\n"
        "assert 'transformers' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(OLDER)], check=True)
