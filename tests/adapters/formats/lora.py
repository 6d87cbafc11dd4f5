"""A random LoRA with its known changes, and what an adapter that was read changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_lra.adapters.kinds import LORA
from edge_lra.adapters.kinds.method import Site
from edge_lra.adapters.names import sort_tensors
from edge_lra.adapters.saved import Saved
from edge_lra.tensor_files import TensorInfo

Array = Any
HEADS, KV_HEADS, SIZE, WIDTH, VOCABULARY = 4, 2, 6, 10, 13
Q = "model.layers.0.self_attn.q_proj"
K = "model.layers.1.self_attn.k_proj"
DOWN_PROJ = "model.layers.1.mlp.down_proj"
SHAPES = {  # (out, in) of a small Llama, all sizes different
    **{f"model.layers.{i}.self_attn.q_proj": (HEADS * SIZE, WIDTH) for i in range(2)},
    **{f"model.layers.{i}.self_attn.k_proj": (KV_HEADS * SIZE, WIDTH) for i in range(2)},
    **{f"model.layers.{i}.self_attn.v_proj": (KV_HEADS * SIZE, WIDTH) for i in range(2)},
    **{f"model.layers.{i}.self_attn.o_proj": (WIDTH, HEADS * SIZE) for i in range(2)},
    **{f"model.layers.{i}.mlp.gate_proj": (17, WIDTH) for i in range(2)},
    **{f"model.layers.{i}.mlp.up_proj": (17, WIDTH) for i in range(2)},
    **{f"model.layers.{i}.mlp.down_proj": (WIDTH, 17) for i in range(2)},
    "model.embed_tokens": (VOCABULARY, WIDTH),
    "lm_head": (VOCABULARY, WIDTH),
}


@dataclass
class FakeBase:
    """A base by its config and its tensors' shapes."""

    config: dict[str, Any] = field(
        default_factory=lambda: {
            "model_type": "llama",
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "hidden_size": WIDTH,
            "head_dim": SIZE,
        }
    )
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: dict(SHAPES))
    path: Path = Path("base")
    values: dict[str, Any] = field(default_factory=dict)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        return self.values[name][start:stop]

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        named = {f"{name}.weight": shape for name, shape in self.shapes.items()}
        return {name: TensorInfo(name, shape, "F32") for name, shape in named.items()}


@dataclass
class Factors:
    """One site: its factors in PEFT's layout and its scale."""

    down: Array  # (rank, in)
    up: Array  # (out, rank)
    scale: float = 2.0

    @property
    def delta(self) -> Array:
        """The change of the weight (out, in), in float64."""
        return self.scale * self.up.astype(np.float64) @ self.down.astype(np.float64)


def random_factors(
    modules: Mapping[str, int] | None = None, scale: float = 2.0, seed: int = 0
) -> dict[str, Factors]:
    """Return factors for modules of the small Llama, by name -> rank."""
    rng = np.random.default_rng(seed)
    return {
        name: Factors(
            rng.standard_normal((rank, SHAPES[name][1])).astype(np.float32),
            rng.standard_normal((SHAPES[name][0], rank)).astype(np.float32),
            scale,
        )
        for name, rank in (modules or {Q: 3, K: 3, DOWN_PROJ: 3}).items()
    }


def updates(saved: Saved) -> Iterator[tuple[str, Any]]:
    """Yield each site's update of the weight, by the module's name."""
    LORA.rules.check(saved.config, "test")
    options = LORA.parse(saved.config, "test")
    sites = sort_tensors(saved.file, saved.tensors, LORA).sites
    LORA.check(options, sites, "test")
    for module, parts in sites.items():
        yield (
            module,
            LORA.read(Site("test", module, parts, None, False, False), options, {})["weight"],
        )


def deltas(saved: Saved) -> dict[str, Array]:
    """Return what an adapter in PEFT's terms adds to each module's weight, in its orientation."""
    found = {}
    for module, update in updates(saved):
        low_rank = getattr(update, "low_rank", update)
        down, up = (part.astype(np.float64) for part in (low_rank.down, low_rank.up))
        delta = low_rank.scale * up @ down
        found[module] = delta.T if low_rank.transposed else delta
    return found


def assert_same(saved: Saved, expected: Mapping[str, Factors]) -> None:
    """Hold an adapter's changes against the known ones."""
    found = deltas(saved)
    assert sorted(found) == sorted(expected)
    for module, factors in expected.items():
        want = factors.delta
        error = np.abs(found[module] - want).max() / np.abs(want).max()
        assert error <= 1e-6, (module, error)


def write_peft(folder: Path, factors: Mapping[str, Factors], **config: Any) -> Path:
    """Write a PEFT folder with a pattern for every site, as PEFT itself would."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = {f"^{name}": len(f.down) for name, f in factors.items()}
    alphas = {f"^{name}": f.scale * len(f.down) for name, f in factors.items()}
    settings = {
        "peft_type": "LORA",
        "r": 1,
        "lora_alpha": 1,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": sorted(factors),
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    tensors = {}
    for name, site in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = site.down
        tensors[f"base_model.model.{name}.lora_B.weight"] = site.up
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def refused(path: Path, *words: str, base: Any = None) -> str:
    """Read what must be refused in one line that has some words; return the line."""
    from edge_lra.adapters.saved import read_saved
    from edge_lra.errors import EdgeError

    with pytest.raises(EdgeError) as caught:
        saved = read_saved(path, base)
        dict(saved.tensors)
    line = str(caught.value)
    assert "\n" not in line and str(path) in line and "expected" in line, line
    for word in words:
        assert word in line, line
    return line
