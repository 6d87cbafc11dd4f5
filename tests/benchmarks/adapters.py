"""Measure what adapters cost a language model at run time: a step, four in one batch, a switch."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import timing
import torch
import transformers
from decoder import in_turns
from decoder_model import LARGE
from peft import LoraConfig, get_peft_model

from edge_lra.pipeline import ExportRequest, export
from edge_lra.runner import Generator
from edge_lra.runner.adapters import UNSET
from edge_lra.runner.cache import Cache

Result = TypeVar("Result")
NAMES = ("a", "b", "c", "d")
SMALL = LARGE | {  # SmolLM2's shape, 135M parameters
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
SHAPES = {"135M": SMALL, "1.1B": LARGE}
SWITCHES = 200


@click.command()
@click.option("--shape", type=click.Choice(list(SHAPES)), default="135M", show_default=True)
@click.option("--rank", default=16, show_default=True, help="Of the adapters on q_proj and v_proj.")
@click.option("--scheme", default="int8", show_default=True)
@click.option("--runs", default=100, show_default=True, help="Timed steps of each.")
@click.option("--threads", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--context", default=128, show_default=True, help="Tokens behind a step.")
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="Write all numbers here.")
def main(
    shape: str,
    rank: int,
    scheme: str,
    runs: int,
    threads: tuple[int, ...],
    context: int,
    json_to: Path | None,
) -> None:
    """Compare a factored bundle's steps with a merged one's, on random weights."""
    result: dict[str, Any] = {"cpu": timing.describe_cpu()}
    print(f"CPU: {result['cpu']['name']}, VNNI: {result['cpu']['vnni']}")
    print(f"{shape} {scheme}, rank {rank} on q_proj and v_proj, {context} tokens behind a step")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base, adapters = write_model(folder, SHAPES[shape], rank)
        length = context + 2 * runs + 8
        merged = write(folder / "merged.edge", base, adapters[:1], "merge", scheme, length)
        factored = write(folder / "factored.edge", base, adapters, "factored", scheme, length)
        for count in threads:
            found = alone(measure, merged, factored, count, runs, context)
            result[f"{count} threads"] = found
            show(found, count)
    if json_to:
        json_to.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def write_model(folder: Path, shape: dict[str, Any], rank: int) -> tuple[Path, list[Path]]:
    """Write a random model and an adapter of each name, its factors random too."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**shape)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    model.save_pretrained(folder / "base")
    targets = LoraConfig(r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj"])
    tuned = get_peft_model(model, targets)
    for name in NAMES:
        for key, weight in tuned.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(weight, std=0.02)
        tuned.save_pretrained(folder / name)
    return folder / "base", [folder / name for name in NAMES]


def write(
    out: Path, base: Path, adapters: Sequence[Path], mode: str, scheme: str, context: int
) -> Path:
    """Export a bundle with these adapters."""
    named = [(path.name, path) for path in adapters]
    return export(
        ExportRequest(
            out, str(base), named, mode=mode, scheme=scheme, context=context, verify=False
        )
    )


def alone(work: Callable[..., Result], *arguments: object) -> Result:
    """Return what work gives in a new process: an export leaves torch's heap behind in this one."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(work, *arguments).result()


def measure(
    merged: Path, factored: Path, threads: int, runs: int, context: int
) -> dict[str, dict[str, float]]:
    """Return milliseconds of steps of one row and four, all in this process, and of a switch."""
    generators = {"merged": Generator.load(merged, threads=threads)}
    generators["factored"] = Generator.load(factored, threads=threads)
    found = {}
    for rows in (1, len(NAMES)):
        caches = {name: opened(g, rows, context) for name, g in generators.items()}
        if rows == 1:
            caches["factored, none used"] = opened(generators["factored"], 1, context, adapter=None)

        def step(cache: Cache, rows: int = rows) -> Callable[[], None]:
            cache.step([7] * rows)

            def undo() -> None:
                for row in range(rows):
                    cache.truncate(context, row)

            return undo

        pause_s = timing.PAUSE_S if threads > 1 else 0.0
        found |= {f"{rows} rows, {n}": v for n, v in in_turns(caches, step, runs, pause_s).items()}
    return found | {"switch": switch(generators["factored"])}


def opened(generator: Generator, rows: int, context: int, adapter: str | None = NAMES[0]) -> Cache:
    """Return a cache with tokens in every row; in a factored bundle, each its own adapter."""
    used: Any = UNSET
    if generator.adapters:
        used = adapter if rows == 1 else list(NAMES)
    cache = generator.cache(rows, used)
    ids = np.random.default_rng(0).integers(3, 30000, context)
    for row in range(rows):
        cache.prefill(ids, row=row)
    return cache


def switch(generator: Generator) -> dict[str, float]:
    """Return milliseconds from one adapter to the next, between two steps of a sequence."""
    cache, times = opened(generator, 1, 8), []
    for index in range(SWITCHES):
        start = time.perf_counter()
        cache.use(generator.lease(1, NAMES[index % len(NAMES)]))
        times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": statistics.median(times), "min_ms": min(times)}


def show(found: dict[str, dict[str, float]], threads: int) -> None:
    """Print each median, and how many times the merged bundle's it is."""
    print(f"\n{threads} threads{'':21}{'median ms':>12}{'over merged':>14}")
    for name, values in found.items():
        line = f"{name:30}{values['median_ms']:12.3f}"
        if name != "switch":
            over = values["median_ms"] / found[f"{name.split(',')[0]}, merged"]["median_ms"] - 1
            line += f"{100 * over:+13.1f}%"
        print(line)


if __name__ == "__main__":
    main()
