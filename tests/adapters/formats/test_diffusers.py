"""diffusers' names, by its utils/state_dict_utils.py and utils/peft_utils.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_lra.adapters.saved import read_saved
from tests.adapters.formats.lora import Factors, assert_same, refused

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
UNET = (f"{ATTENTION}.to_q", f"{ATTENTION}.to_out.0", "mid_block.resnets.0.conv1")
TEXT = ("text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.0.mlp.fc1")


def factors(modules: tuple[str, ...], scale: float = 1.0, rank: int = 2) -> dict[str, Factors]:
    rng = np.random.default_rng(0)
    return {
        name: Factors(
            rng.standard_normal((rank, 36)).astype("f4"),
            rng.standard_normal((7, rank)).astype("f4"),
            scale,
        )
        for name in modules
    }


def new(name: str) -> tuple[str, str]:
    return f"{name}.lora_A.weight", f"{name}.lora_B.weight"


def old(name: str) -> tuple[str, str]:
    return f"{name}.lora.down.weight", f"{name}.lora.up.weight"


def text(name: str) -> tuple[str, str]:
    return f"{name}.lora_linear_layer.down.weight", f"{name}.lora_linear_layer.up.weight"


def oldest(name: str) -> tuple[str, str]:
    short = name.removesuffix(".0")
    parent, _, last = short.rpartition(".")
    last = {"q_proj": "to_q"}.get(last, last)
    parent += "" if "self_attn" in name else ".processor"
    return f"{parent}.{last}_lora.down.weight", f"{parent}.{last}_lora.up.weight"


def stored(sites: Mapping[str, Factors], spell: Any, prefix: str) -> dict[str, Any]:
    found = {}
    for module, site in sites.items():
        conv = "conv" in module
        names = [prefix + name for name in spell(module)]
        found[names[0]] = site.down.reshape(-1, 4, 3, 3) if conv else site.down
        found[names[1]] = site.up.reshape(7, -1, 1, 1) if conv else site.up
    return found


def write(file: Path, tensors: Mapping[str, Any], metadata: Any = None) -> Path:
    head = None if metadata is None else {"lora_adapter_metadata": json.dumps(metadata)}
    save_file({k: np.array(v) for k, v in tensors.items()}, file, metadata=head)
    return file


@pytest.mark.parametrize(
    ("spell", "modules", "prefix"),
    [
        (new, UNET, "unet."),
        (new, UNET, "transformer."),
        (new, UNET, ""),
        (new, TEXT, "text_encoder."),
        (old, UNET, "unet."),
        (text, TEXT, "text_encoder_2."),
        (oldest, UNET[:2], "unet."),
        (oldest, UNET[:2], ""),
        (oldest, TEXT[:1], "text_encoder."),
    ],
)
def test_every_spelling_gives_the_same_modules(
    tmp_path: Path, spell: Any, modules: tuple[str, ...], prefix: str
) -> None:
    sites = factors(modules)
    write(tmp_path / "pytorch_lora_weights.safetensors", stored(sites, spell, prefix))
    saved = read_saved(tmp_path)
    assert saved.format == "diffusers"
    assert_same(saved, sites)


def test_an_alpha_scales_its_module_and_a_missing_one_is_the_rank(tmp_path: Path) -> None:
    sites = factors(UNET)
    tensors = stored(sites, old, "unet.") | {f"unet.{UNET[0]}.alpha": np.float32(3)}
    sites[UNET[0]].scale = 1.5
    assert_same(read_saved(write(tmp_path / "a.safetensors", tensors)), sites)


def test_ranks_of_their_own_keep_a_scale_of_one(tmp_path: Path) -> None:
    sites = factors(UNET) | factors(UNET[:1], rank=5)
    assert_same(read_saved(write(tmp_path / "a.safetensors", stored(sites, new, "unet."))), sites)


def test_a_config_in_the_files_head_gives_the_scale(tmp_path: Path) -> None:
    sites = factors(UNET, scale=4.0)
    tensors = stored(sites, new, "unet.")
    config = {"unet.r": 2, "unet.lora_alpha": 8, "text_encoder.lora_alpha": 1}
    assert_same(read_saved(write(tmp_path / "a.safetensors", tensors, config)), sites)
    config["unet.use_qalora"] = True
    refused(write(tmp_path / "b.safetensors", tensors, config), "use_qalora")
    refused(write(tmp_path / "c.safetensors", tensors, [1]), "lora_adapter_metadata")


def test_what_is_not_one_adapter_is_refused(tmp_path: Path) -> None:
    sites = factors(UNET)
    good = stored(sites, new, "unet.")
    two = good | stored(factors(TEXT), new, "text_encoder.")
    refused(write(tmp_path / "two.safetensors", two), "text_encoder, unet")
    twice = good | stored(sites, old, "unet.")
    refused(write(tmp_path / "twice.safetensors", twice), "twice", UNET[1])
    odd = good | {"unet.x.weight": np.ones((2, 2), "f4")}
    refused(write(tmp_path / "odd.safetensors", odd), "unet.x.weight")
    stray = good | {"unet.y.alpha": np.float32(3)}
    refused(write(tmp_path / "stray.safetensors", stray), "y: found an alpha")
    zero = good | {f"unet.{UNET[0]}.alpha": np.float32(0)}
    refused(write(tmp_path / "zero.safetensors", zero), "alpha", "0.0")
    half = {key: values for key, values in good.items() if "lora_A" not in key}
    refused(write(tmp_path / "half.safetensors", half), "lora_A")
