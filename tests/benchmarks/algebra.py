"""Time and memory of adapter algebra on adapters and checkpoints of a large model's shape.

`python tests/benchmarks/algebra.py` makes random ones in a temporary folder (about 6 GB), runs the
commands as a user does, and prints seconds and peak memory of each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

HIDDEN_7B, INNER_7B, LAYERS_7B, RANK = 4096, 11008, 32, 64
HIDDEN, INNER, LAYERS, VOCABULARY, KEYS = 2048, 8192, 16, 32000, 512
Shapes = dict[str, tuple[int, int]]


def linears(hidden: int, inner: int, keys: int) -> Shapes:
    """Return a layer's linears as (out, in)."""
    attention = {"q_proj": hidden, "k_proj": keys, "v_proj": keys, "o_proj": hidden}
    shapes = {f"self_attn.{name}": (out, hidden) for name, out in attention.items()}
    shapes |= {f"mlp.{name}": (inner, hidden) for name in ("gate_proj", "up_proj")}
    return shapes | {"mlp.down_proj": (hidden, inner)}


def write_adapter(folder: Path) -> None:
    """Write a random LoRA of a 7B model's shape."""
    random, tensors = np.random.default_rng(0), {}
    for layer in range(LAYERS_7B):
        for name, (out, width) in linears(HIDDEN_7B, INNER_7B, HIDDEN_7B).items():
            key = f"base_model.model.model.layers.{layer}.{name}.lora_"
            tensors[f"{key}A.weight"] = random.standard_normal((RANK, width), np.float32)
            tensors[f"{key}B.weight"] = random.standard_normal((out, RANK), np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "base_model_name_or_path": "b"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_pair(base: Path, tuned: Path) -> int:
    """Write two sharded bfloat16 checkpoints whose linears differ by rank 8 and some noise."""
    torch.manual_seed(0)
    maps: tuple[dict[str, str], dict[str, str]] = ({}, {})
    count = 0

    def shard(name: str, tensors: dict[str, torch.Tensor]) -> None:
        for folder, weights in zip((base, tuned), maps, strict=True):
            changed = {}
            for key, value in tensors.items():
                if folder == tuned and value.dim() == 2 and "embed" not in key:
                    low = torch.randn(len(value), 8) @ torch.randn(8, value.shape[1])
                    value = value + 1e-3 * low + 1e-4 * torch.randn(value.shape)
                changed[key] = value.bfloat16()
            save_torch(changed, folder / name)
            weights |= dict.fromkeys(changed, name)

    table = {"model.embed_tokens.weight": torch.randn(VOCABULARY, HIDDEN) * 0.02}
    table["model.norm.weight"] = torch.ones(HIDDEN)
    table["lm_head.weight"] = torch.randn(VOCABULARY, HIDDEN) * 0.02
    count += sum(t.numel() for t in table.values())
    shard("model-0.safetensors", table)
    for layer in range(LAYERS):
        shapes = linears(HIDDEN, INNER, KEYS).items()
        part = {
            f"model.layers.{layer}.{name}.weight": torch.randn(shape) * 0.02
            for name, shape in shapes
        }
        for norm in ("input_layernorm", "post_attention_layernorm"):
            part[f"model.layers.{layer}.{norm}.weight"] = torch.ones(HIDDEN)
        count += sum(t.numel() for t in part.values())
        shard(f"model-{layer + 1}.safetensors", part)
    for folder, weights in zip((base, tuned), maps, strict=True):
        index = {"weight_map": weights}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        (folder / "config.json").write_text(json.dumps(config))
    return count


# A child's peak counts its parent's memory until it runs a program of its own: a small parent.
WATCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def run(*arguments: str) -> tuple[float, float]:
    """Run a command; return seconds and its peak MiB."""
    command = [sys.executable, "-m", "edge_lra", "adapter", *arguments, "--json", "-"]
    watched = [sys.executable, "-c", WATCH, *command]
    done = subprocess.run(watched, check=True, capture_output=True, text=True)
    seconds, kilobytes = done.stdout.split()
    return float(seconds), int(kilobytes) / 1024


def main() -> None:
    """Measure compress, then extract."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("adapter", "base", "tuned"):
            (folder / part).mkdir()
        write_adapter(folder / "adapter")
        seconds, peak = run(
            "compress", str(folder / "adapter"), "--rank", "16", "--out", str(folder / "small")
        )
        print(f"compress rank {RANK} -> 16, 7B shapes: {seconds:.1f} s, peak {peak:.0f} MiB")
        count = write_pair(folder / "base", folder / "tuned")
        pair = [str(folder / "base"), str(folder / "tuned")]
        seconds, peak = run("extract", *pair, "--rank", "16", "--out", str(folder / "lora"))
        print(f"extract rank 16, {count / 1e9:.2f}B: {seconds:.1f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
