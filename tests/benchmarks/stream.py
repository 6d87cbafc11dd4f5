"""Export decoders of random weights: seconds and peak memory of whole processes, beside genai's.

`python tests/benchmarks/stream.py` writes Llama shapes as bfloat16 shards into a temporary folder
(2.5 GB; `--giant` 13.5 GB more, and half as much again for the bundle), exports each with edge-lra
and with onnxruntime-genai's model builder in turns, each in a process of its own, and prints
ratios.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
import report  # imports no library: a child's peak counts its parent's memory at the fork
from report import Target

from export import measure

SHARD_BYTES = 2 << 30
POOL = 4_194_301  # a prime: repeats of the pool do not fall on the same columns
SHAPES: dict[str, dict[str, int]] = {
    "160M": {"hidden": 768, "inner": 3072, "layers": 12, "heads": 12, "shared": 12},
    "1.1B": {"hidden": 2048, "inner": 5632, "layers": 22, "heads": 32, "shared": 4},
    "7B": {"hidden": 4096, "inner": 11008, "layers": 32, "heads": 32, "shared": 32},
}
VOCABULARY = 32000
OURS, OURS_NBITS, GENAI = "edge-lra int8", "edge-lra int8-weight-only", "genai int8"
OUR_EXPORT = ("-m", "edge_lra", "export", "--no-verify", "--out", "{folder}/m.edge", "--model")
BUILDER = ("-m", "onnxruntime_genai.models.builder", "-p", "int8", "-e", "cpu")
PLACES = ("-c", "{folder}/cache", "-o", "{folder}/genai", "-i")
CANDIDATES: dict[str, tuple[str, ...]] = {
    OURS: ("--quantize", "int8"),
    OURS_NBITS: ("--quantize", "int8-weight-only"),
    GENAI: (),
}


def tensor_shapes(shape: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of a Llama's tensors, a layer at a time."""
    hidden, inner = shape["hidden"], shape["inner"]
    keys = hidden // shape["heads"] * shape["shared"]
    yield "model.embed_tokens.weight", (VOCABULARY, hidden)
    for layer in range(shape["layers"]):
        begin = f"model.layers.{layer}."
        for name, rows in (("q", hidden), ("k", keys), ("v", keys), ("o", hidden)):
            yield f"{begin}self_attn.{name}_proj.weight", (rows, hidden)
        for name in ("gate", "up"):
            yield f"{begin}mlp.{name}_proj.weight", (inner, hidden)
        yield f"{begin}mlp.down_proj.weight", (hidden, inner)
        for name in ("input", "post_attention"):
            yield f"{begin}{name}_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (VOCABULARY, hidden)


def write_model(folder: Path, shape: Mapping[str, int]) -> int:
    """Write shards, index, config and a tokenizer; return the number of parameters."""
    folder.mkdir(parents=True)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = count = 0
    for name, axes in tensor_shapes(shape):
        size = math.prod(axes)
        if filled + 2 * size > SHARD_BYTES and filled:
            shards.append({})
            filled = 0
        shards[-1][name] = axes
        filled, count = filled + 2 * size, count + size
    weight_map = {}
    pool = random_pool()
    for place, tensors in enumerate(shards, 1):
        file = folder / f"model-{place:05d}-of-{len(shards):05d}.safetensors"
        write_shard(file, tensors, pool)
        weight_map |= dict.fromkeys(tensors, file.name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_config(folder, shape)
    return count


def random_pool() -> np.ndarray:
    """Return random bfloat16 values as uint16; float32 cut off."""
    values = np.random.default_rng(0).standard_normal(POOL, np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def write_shard(path: Path, tensors: Mapping[str, tuple[int, ...]], pool: np.ndarray) -> None:
    """Write a safetensors file whose matrices repeat the pool; norms are ones."""
    header, end = {}, 0
    for name, axes in tensors.items():
        size = 2 * math.prod(axes)
        header[name] = {"dtype": "BF16", "shape": axes, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for axes in tensors.values():
            if len(axes) == 1:
                file.write(np.full(axes, 0x3F80, np.uint16).tobytes())
            else:
                write_values(file, math.prod(axes), pool)


def write_values(file: BinaryIO, count: int, pool: np.ndarray) -> None:
    """Write so many values of the pool, over and over."""
    for start in range(0, count, POOL):
        file.write(pool[: min(POOL, count - start)].tobytes())


def write_config(folder: Path, shape: Mapping[str, int]) -> None:
    """Write config.json and a tokenizer of a few words, which genai's builder copies."""
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["inner"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["shared"],
        "head_dim": shape["hidden"] // shape["heads"],
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = {word: place for place, word in enumerate(("<unk>", "<s>", "</s>", "a", "b"))}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}
    tokenizer = {"version": "1.0", "added_tokens": [], "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def arguments(name: str, model: Path) -> tuple[str, ...]:
    """Return a candidate's command line after the interpreter."""
    if name == GENAI:
        return (*BUILDER, *PLACES, str(model))
    return (*OUR_EXPORT, str(model), *CANDIDATES[name])


def measure_shape(model: Path, rounds: int, peers: bool) -> dict[str, dict[str, float]]:
    """Return each candidate's least seconds and its peak memory over interleaved rounds."""
    names = [name for name in CANDIDATES if peers or name != GENAI]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(measure(arguments(name, model), model.parent))
    return {
        name: {
            "seconds": min(run["seconds"] for run in found),
            "cpu_s": min(run["cpu_s"] for run in found),
            "peak_rss_mib": max(run["peak_rss_mib"] for run in found),
        }
        for name, found in runs.items()
    }


def result_table(name: str, parameters: int, found: Mapping[str, Mapping[str, float]]) -> str:
    """Return seconds and memory, and genai's as multiples of ours."""
    keys = {"seconds": ".2f", "cpu_s": ".2f", "peak_rss_mib": ".0f"}
    rows = []
    for candidate, run in found.items():
        cells = [candidate]
        for key, form in keys.items():
            cells += [format(run[key], form), f"{run[key] / found[OURS][key]:.1f}x"]
        rows.append(cells)
    headings = ["export", "s", "", "CPU s", "", "peak MiB", ""]
    title = f"{name}: {parameters / 1e6:,.0f} M parameters; least of the runs, highest peak"
    return report.table(title, headings, rows)


def targets(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Target]:
    """Return the limits we hold ourselves to."""
    held = []
    for shape, cpu, memory in (("1.1B", 5.0, 10.0),):
        if GENAI in found.get(shape, {}):
            ours, theirs = found[shape][OURS], found[shape][GENAI]
            for what, key, limit in (("CPU", "cpu_s", cpu), ("peak", "peak_rss_mib", memory)):
                held.append(
                    Target(f"{shape}, genai / ours, {what}", theirs[key] / ours[key], limit, True)
                )
    if "7B" in found:
        for what, key, limit in (("s", "seconds", 120.0), ("peak MiB", "peak_rss_mib", 800.0)):
            held.append(Target(f"7B, {what}", found["7B"][OURS][key], limit, False))
    return held


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Runs of each candidate, in turns.")
@click.option("--giant", is_flag=True, help="Export 7B too, once and without the peer.")
@click.option("--shape", "only", type=click.Choice(list(SHAPES)), multiple=True, help="Only these.")
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="Write all numbers here.")
def main(rounds: int, giant: bool, only: tuple[str, ...], json_to: Path | None) -> None:
    """Export random Llamas with each candidate and print the tables."""
    names = only or [name for name in SHAPES if giant or name != "7B"]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            parameters = write_model(model, SHAPES[name])
            large = name == "7B"
            found[name] = measure_shape(model, 1 if large else rounds, not large)
        print(result_table(name, parameters, found[name]))
    held = targets(found)
    print(report.target_table(held))
    if json_to:
        document: dict[str, Any] = {
            "rounds": rounds,
            "exports": found,
            "targets": [target.as_dict() for target in held],
        }
        json_to.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
