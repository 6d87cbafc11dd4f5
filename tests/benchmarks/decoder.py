"""Compare our decoders with llama.cpp and onnxruntime-genai: speed, memory, fidelity."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import click
import decoder_engines
import numpy as np
import timing
from decoder_engines import KINDS, Sequence
from decoder_model import Texts, compare, write_merged, write_random
from gguf import LlamaFileType
from llama_cpp import LlamaCpp
from llama_gguf import write_gguf
from report import Target, target_table

from edge_lra.pipeline import ExportRequest, export

SCHEMES = ("int8", "int8-weight-only", "int4")
LLAMA, LLAMA4, GENAI = "llama.cpp Q8_0", "llama.cpp Q4_K_M", "genai int8"
GGUF = {LLAMA: LlamaFileType.MOSTLY_Q8_0, LLAMA4: LlamaFileType.MOSTLY_Q4_K_M}
INT4 = "edge-lra int4"
CONTEXTS, PROMPTS = (128, 1024), (128, 512)


class Engine(NamedTuple):
    """A model file or folder and what runs it."""

    name: str
    kind: str
    path: Path

    @property
    def size_mb(self) -> float:
        if self.path.is_file():
            return self.path.stat().st_size / 1e6
        return sum(file.stat().st_size for file in self.path.glob("model.onnx*")) / 1e6


@click.command()
@click.option("--runs", default=20, show_default=True, help="Timed steps of each engine.")
@click.option("--threads", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--model", help="Checkpoint folder or hub id of a Llama; a random 1.1B without.")
@click.option("--adapter", type=click.Path(path_type=Path), help="PEFT folder to merge into it.")
@click.option("--data", type=click.Path(path_type=Path), help="Held-out text (.txt, .jsonl).")
@click.option("--scheme", "schemes", multiple=True, default=SCHEMES, show_default=True)
@click.option("--genai/--no-genai", default=True, help="Build and run onnxruntime-genai's int8.")
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="Write all numbers here.")
def main(
    runs: int,
    threads: tuple[int, ...],
    model: str | None,
    adapter: Path | None,
    data: Path | None,
    schemes: tuple[str, ...],
    genai: bool,
    json_to: Path | None,
) -> None:
    """Measure every engine on the same weights and print tables; ratios are to llama.cpp Q8_0."""
    result: dict[str, Any] = {"cpu": timing.describe_cpu()}
    print(f"CPU: {result['cpu']['name']}, VNNI: {result['cpu']['vnni']}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base, texts = folder / "float", None
        if model is None:
            write_random(base)
        else:
            texts = write_merged(model, adapter, data, base)
        listed = make_engines(folder, base, schemes, genai)
        print(f"llama.cpp: {LlamaCpp(by_name(listed, LLAMA).path, 1).system}")
        result["speed"] = {}
        for count in threads:
            found = measure_speed(listed, count, runs)
            result["speed"][count] = found
            print_speed(found, count)
        result["loading"] = {e.name: measure_loading(e) for e in listed}
        print_loading(listed, result["loading"])
        if texts is not None:
            result["fidelity"] = {e.name: measure_fidelity(e, texts) for e in listed}
            print_fidelity(result["fidelity"])
        targets = int4_targets(listed, result.get("fidelity", {}))
        result["targets"] = [target.as_dict() for target in targets]
        print(f"\n{target_table(targets)}" if targets else "")
    if json_to:
        json_to.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def make_engines(folder: Path, model: Path, schemes: tuple[str, ...], genai: bool) -> list[Engine]:
    """Write the model in every engine's format."""
    listed = []
    for scheme in schemes:
        out = folder / f"{scheme}.edge"
        request = ExportRequest(
            out, str(model), scheme=scheme, context=decoder_engines.CONTEXT, verify=False
        )
        listed.append(Engine(f"edge-lra {scheme}", "edge", export(request)))
    for name, file_type in GGUF.items():
        out = folder / f"{file_type.name.lower()}.gguf"
        listed.append(Engine(name, "llama.cpp", write_gguf(model, out, file_type)))
    if genai:
        out = folder / "genai"
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        command += ["-i", str(model), "-o", str(out), "-p", "int8", "-e", "cpu"]
        subprocess.run(command, check=True, capture_output=True)
        listed.append(Engine(GENAI, "genai", out))
    return listed


def by_name(listed: list[Engine], name: str) -> Engine:
    """Return the engine of a name."""
    return next(engine for engine in listed if engine.name == name)


# ---- speed -----------------------------------------------------------------------------------


def measure_speed(
    listed: list[Engine], threads: int, runs: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return milliseconds by what was measured and engine, all engines loaded in this process."""
    opened = {engine.name: KINDS[engine.kind](engine.path, threads) for engine in listed}
    pause_s = timing.PAUSE_S if threads > 1 else 0.0
    ids = np.random.default_rng(0).integers(3, 30000, max(CONTEXTS)).tolist()
    found = {}
    for length in CONTEXTS:
        for sequence in opened.values():
            sequence.truncate(0)
            sequence.prefill(ids[:length])

        def step(sequence: Sequence, length: int = length) -> Callable[[], None]:
            sequence.step(5)
            return lambda: sequence.truncate(length)

        found[f"token at {length}"] = in_turns(opened, step, runs, pause_s)
    for length in PROMPTS:
        for sequence in opened.values():
            sequence.truncate(0)

        def prefill(sequence: Sequence, length: int = length) -> Callable[[], None]:
            sequence.prefill(ids[:length])
            return lambda: sequence.truncate(0)

        found[f"prompt of {length}"] = in_turns(opened, prefill, max(3, runs // 5), pause_s)
    return found


def in_turns(
    opened: Mapping[str, Sequence],
    run: Callable[[Sequence], Callable[[], None]],
    rounds: int,
    pause_s: float,
) -> dict[str, dict[str, float]]:
    """Run every engine once a round, in a new order each; `run` returns what undoes it."""
    times: dict[str, list[float]] = {name: [] for name in opened}
    random, order = Random(0), list(opened)
    for _ in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            time.sleep(pause_s)
            start = time.perf_counter()
            undo = run(opened[name])
            times[name].append((time.perf_counter() - start) * 1e3)
            undo()
    return {
        name: {"median_ms": statistics.median(values[1:]), "min_ms": min(values[1:])}
        for name, values in times.items()
    }


def print_speed(found: Mapping[str, Mapping[str, Mapping[str, float]]], threads: int) -> None:
    """Print tokens a second by the median, and how many times llama.cpp Q8_0's by the least."""
    print(f"\n{threads} threads, tokens/s (times {LLAMA}'s speed, by the least of the runs)")
    print(f"{'':28}" + "".join(f"{what:>20}" for what in found))
    for name in next(iter(found.values())):
        cells = []
        for what, times in found.items():
            tokens = int(what.rsplit(" ", 1)[1]) if what.startswith("prompt") else 1
            ratio = times[LLAMA]["min_ms"] / times[name]["min_ms"]
            cells.append(f"{1e3 * tokens / times[name]['median_ms']:.1f} ({ratio:.2f})")
        print(f"{name:28}" + "".join(f"{cell:>20}" for cell in cells))


# ---- memory and fidelity ---------------------------------------------------------------------


def measure_loading(engine: Engine) -> dict[str, float]:
    """Return seconds to load and memory, in a process of its own."""
    command = [sys.executable, decoder_engines.__file__, engine.kind, str(engine.path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def print_loading(listed: list[Engine], found: Mapping[str, Mapping[str, float]]) -> None:
    """Print sizes, seconds and memory."""
    print(f"\n{'':28}{'MB':>10}{'load s':>10}{'RSS MiB':>10}{'RSS / file':>12}")
    for engine in listed:
        loaded = found[engine.name]
        share = loaded["run_mib"] * 2**20 / 1e6 / engine.size_mb
        numbers = f"{engine.size_mb:10.1f}{loaded['load_s']:10.2f}{loaded['run_mib']:10.0f}"
        print(f"{engine.name:28}{numbers}{share:12.2f}")


def measure_fidelity(engine: Engine, texts: Texts) -> dict[str, dict[str, float]]:
    """Return how far an engine's predictions of held-out text are from float's, by how it reads.

    "prompt" is as many tokens a run as it gives the logits of: a whole text in llama.cpp, 16 in
    our bundles, one in onnxruntime-genai. "step" is one for all.
    """
    sequence = KINDS[engine.kind](engine.path, 2)

    def steps(ids: list[int]) -> np.ndarray:
        return np.stack([sequence.step(token).copy() for token in ids])

    found = {}
    for what, read in (("prompt", sequence.score), ("step", steps)):
        logits = []
        for ids in texts.ids:
            sequence.truncate(0)
            logits.append(read(ids))
        found[what] = compare(texts, logits)
    return found


def print_fidelity(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Print each engine's distance from float, and how many times llama.cpp Q8_0's it is."""
    for what in ("prompt", "step"):
        print(f"\n{what:28}{'mean KL':>10}{'(times)':>10}{'same top':>10}{'perplexity':>12}")
        for name, ways in found.items():
            values = ways[what]
            ratio = values["kl_mean"] / found[LLAMA][what]["kl_mean"]
            numbers = f"{values['kl_mean']:10.5f}{ratio:10.2f}{values['same_top']:10.3f}"
            print(f"{name:28}{numbers}{values['perplexity']:12.2f}")


def int4_targets(
    listed: list[Engine], fidelity: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> list[Target]:
    """Return what int4 is held to: llama.cpp's Q4_K_M, in its error and its size."""
    if not any(engine.name == INT4 for engine in listed):
        return []
    size = by_name(listed, INT4).size_mb / by_name(listed, LLAMA4).size_mb
    targets = [Target("int4 MB / Q4_K_M", size, 1.0, False)]
    for what in ("prompt", "step") if fidelity else ():
        ratio = fidelity[INT4][what]["kl_mean"] / fidelity[LLAMA4][what]["kl_mean"]
        targets.append(Target(f"int4 KL / Q4_K_M, {what}", ratio, 1.0, False))
    return targets


if __name__ == "__main__":
    main()
