"""Decoders under comparison: one sequence that tokens are appended to and cut off from.

Run as a script, it loads one engine in a process of its own and prints what that took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from edge_lra.agent.memory import rss_mib

CONTEXT = 2048
PROMPT = 128


class Sequence(Protocol):
    """What every engine offers."""

    def prefill(self, ids: list[int]) -> np.ndarray:
        """Append tokens; return the last one's logits, (vocabulary,)."""

    def step(self, token: int) -> np.ndarray:
        """Append one token; return its logits, (vocabulary,)."""

    def score(self, ids: list[int]) -> np.ndarray:
        """Append tokens; return the logits of each, (tokens, vocabulary)."""

    def truncate(self, length: int) -> None:
        """Forget all tokens from a position on."""


class Edge:
    """One of our bundles."""

    def __init__(self, path: Path, threads: int) -> None:
        from edge_lra.runner import Generator

        self.cache = Generator.load(path, threads=threads).cache()
        self.cache.allocate(CONTEXT)

    def prefill(self, ids: list[int]) -> np.ndarray:
        return self.cache.prefill(ids)

    def step(self, token: int) -> np.ndarray:
        return self.cache.step([token])[0]

    def score(self, ids: list[int]) -> np.ndarray:
        most = self.cache.scored
        parts = [ids[start : start + most] for start in range(0, len(ids), most)]
        return np.concatenate([self.cache.score(part).copy() for part in parts])

    def truncate(self, length: int) -> None:
        self.cache.truncate(length)


class GenAI:
    """A folder of onnxruntime-genai's builder, run by its own loop."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime_genai as genai

        config = genai.Config(str(path))
        options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self.model = genai.Model(config)
        params = genai.GeneratorParams(self.model)
        params.set_search_options(max_length=CONTEXT, past_present_share_buffer=True)
        self.generator = genai.Generator(self.model, params)

    def prefill(self, ids: list[int]) -> np.ndarray:
        self.generator.append_tokens(np.array(ids, np.int32))
        return np.asarray(self.generator.get_logits())[0, -1]

    def step(self, token: int) -> np.ndarray:
        return self.prefill([token])

    def score(self, ids: list[int]) -> np.ndarray:
        return np.stack([self.step(token) for token in ids])

    def truncate(self, length: int) -> None:
        self.generator.rewind_to(length)


def open_llama(path: Path, threads: int) -> Sequence:
    """Load a GGUF file."""
    from llama_cpp import LlamaCpp

    return LlamaCpp(path, threads, CONTEXT)


KINDS: dict[str, Callable[[Path, int], Sequence]] = {
    "edge": Edge,
    "llama.cpp": open_llama,
    "genai": GenAI,
}
PACKAGES = {
    "edge": ["edge_lra.runner.generator"],
    "llama.cpp": ["llama_cpp"],
    "genai": ["onnxruntime", "onnxruntime_genai"],
}


def main(kind: str, path: Path) -> None:
    """Print seconds to load, and memory above the imports: loaded, after a prompt and a token."""
    for package in PACKAGES[kind]:
        import_module(package)
    imports_mib = rss_mib()
    start = time.perf_counter()
    sequence = KINDS[kind](path, 1)
    load_s = time.perf_counter() - start
    loaded_mib = rss_mib() - imports_mib
    sequence.prefill([5] * PROMPT)
    sequence.step(5)
    found = {"load_s": load_s, "loaded_mib": loaded_mib, "run_mib": rss_mib() - imports_mib}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
