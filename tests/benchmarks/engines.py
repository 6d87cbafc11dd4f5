"""The engines under comparison, each as a function from tokens to hidden states.

Run as a script, it loads one engine in a process of its own and prints what that took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.agent.memory import rss_mib, split

Tokens = dict[str, np.ndarray]
Run = Callable[[Tokens], np.ndarray]


@dataclass(frozen=True)
class Engine:
    """A model file and what runs it; `files` are what an app would ship."""

    name: str
    kind: str
    path: Path
    files: tuple[Path, ...]

    @property
    def size_mb(self) -> float:
        return sum(file.stat().st_size for file in self.files) / 1e6


def open_edge(path: Path, threads: int) -> Run:
    """Load one of our bundles; a run includes the runner's checks of its inputs."""
    from edge_lra.runner import Runner

    runner = Runner.load(path, threads=threads)
    return lambda tokens: runner.run(tokens)["last_hidden_state"]


def open_classifier(path: Path, threads: int) -> Run:
    """Load one of our bundles that gives logits."""
    from edge_lra.runner import Runner

    runner = Runner.load(path, threads=threads)
    return lambda tokens: runner.run(tokens)["logits"]


def open_onnxruntime(path: Path, threads: int) -> Run:
    """Load a plain ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda tokens: session.run(["last_hidden_state"], tokens)[0]


def open_ctranslate2(path: Path, threads: int) -> Run:
    """Load a converted folder; rows are given at their true length, as it wants them."""
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(path), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )
    return lambda tokens: np.asarray(encoder.forward_batch(true_rows(tokens)).last_hidden_state)


def true_rows(tokens: Tokens) -> list[list[int]]:
    """Return each row's ids without its padding."""
    lengths = tokens["attention_mask"].sum(axis=1)
    rows = zip(tokens["input_ids"].tolist(), lengths.tolist(), strict=True)
    return [row[:length] for row, length in rows]


def open_openvino(path: Path, threads: int) -> Run:
    """Load an OpenVINO IR for low latency."""
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda tokens: compiled(tokens)[0]


KINDS: dict[str, Callable[[Path, int], Run]] = {
    "edge": open_edge,
    "classifier": open_classifier,
    "onnxruntime": open_onnxruntime,
    "ctranslate2": open_ctranslate2,
    "openvino": open_openvino,
}
PACKAGES = dict.fromkeys(("edge", "classifier"), "edge_lra.runner.session")


def random_tokens(lengths: list[int]) -> Tokens:
    """Return one batch of random word ids, padded to its longest row."""
    random = np.random.default_rng(0)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.where(mask, random.integers(1000, 30000, mask.shape), 0)
    return {
        "input_ids": ids.astype(np.int64),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": np.zeros(mask.shape, np.int64),
    }


def measure_load(kind: str, path: Path) -> dict[str, Any]:
    """Return seconds to load and memory above the imports, after loading and after one run.

    `anonymous_mib` is what no file backs of the latter; NaN where the system does not tell.
    """
    from importlib import import_module

    tokens = random_tokens([128])
    import_module(PACKAGES.get(kind, kind))
    imports_mib, before = rss_mib(), split()
    start = time.perf_counter()
    run = KINDS[kind](path, 1)
    load_s = time.perf_counter() - start
    loaded_mib = rss_mib() - imports_mib
    run(tokens)
    after = split()
    own = after.anonymous_mib - before.anonymous_mib if after and before else float("nan")
    return {
        "load_s": load_s,
        "loaded_mib": loaded_mib,
        "run_mib": rss_mib() - imports_mib,
        "anonymous_mib": own,
    }


if __name__ == "__main__":
    print(json.dumps(measure_load(sys.argv[1], Path(sys.argv[2]))))
