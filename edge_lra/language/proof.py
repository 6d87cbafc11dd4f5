"""Hold a language model's bundle, as it is shipped, against the float oracle on text.

The bundle scores a text in runs so short that each gives all its logits, with its cache; and once
more in one long run, where other kernels multiply, whose last logits are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.inputs import ExportRequest, Inputs, random_ids
from edge_lra.language.metrics import (
    Positions,
    compare_positions,
    join,
    summarize,
    summarize_prefill,
)
from edge_lra.language.windows import Windows, cut_windows, random_windows
from edge_lra.metrics import LANGUAGE_GATES, Array, gate
from edge_lra.oracle import Oracle
from edge_lra.runner import Generator
from edge_lra.texts import built_in_texts, read_texts
from edge_lra.verify import Basis, Evidence, Report

GOLDEN_ROWS, GOLDEN_TOKENS = 4, 32  # a row's last logits are a vocabulary each
EFFECT_TOKENS = 64  # whose logits show whether the adapter acts
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class LanguageReport(Report):
    """A report whose evidence holds golden rows alone, not every text."""

    texts: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return super().as_dict() | {"texts": self.texts}


def choose_windows(folder: Path, inputs: Inputs, request: ExportRequest) -> Windows:
    """Return what to score: the user's text, built-in sentences, or random ids.

    Raises:
        EdgeError: there is text, but no tokenizer.
    """
    generator = Generator.load(folder, verify="never")
    if generator.manifest["tokenizer"] is None:
        if request.data is not None:
            raise EdgeError(
                f"{inputs.checkpoint.path}: found no tokenizer.json, expected one for "
                f"{request.data}; leave --data out to verify with random ids"
            )
        length = min(64, generator.layout.context)
        return random_windows(random_ids(inputs, 8, length)["input_ids"])
    rows = read_texts(request.data) if request.data else built_in_texts()
    source = request.data.name if request.data else "built-in sentences"
    texts = [row.text for row in rows]
    decoder = generator.manifest["decoder"]
    return cut_windows(texts, source, generator.tokenize, decoder, request.verify_tokens)


def score(generator: Generator, row: Array, adapter: str | None) -> Array:
    """Return the bundle's logits (tokens, vocabulary) of a row, scored in short runs."""
    cache = generator.cache(1, adapter)
    size = cache.scored
    parts = [cache.score(row[i : i + size]).copy() for i in range(0, len(row), size)]
    return np.concatenate(parts)


def prefilled(generator: Generator, row: Array, adapter: str | None) -> Array:
    """Return the bundle's logits (vocabulary,) after reading a row in long runs."""
    return generator.cache(1, adapter).prefill(row).copy()


def float_logits(oracle: Oracle, row: Array) -> Array:
    """Return the float model's logits (tokens, vocabulary) of a row."""
    return np.asarray(oracle.run({"input_ids": row[None]})["logits"][0])


def prove_one(
    generator: Generator,
    oracle: Oracle,
    windows: Windows,
    adapter: str | None,
    step: Step,
) -> tuple[dict[str, float], list[Evidence]]:
    """Return the metrics of all rows, and the golden rows' evidence."""
    short: list[Positions] = []
    long: list[Positions] = []
    golden: list[Evidence] = []
    for place, row in enumerate(windows.rows):
        expected, found = float_logits(oracle, row), score(generator, row, adapter)
        short.append(compare_positions(expected[:-1], found[:-1], row[1:]))
        last = prefilled(generator, row, adapter)
        long.append(compare_positions(expected[-1:], last[None], row[-1:]))
        if len(golden) < GOLDEN_ROWS:
            golden.append(evidence(generator, windows, row, adapter, expected))
        step(place + 1, len(windows.rows))
    return summarize(join(short)) | summarize_prefill(join(long)), golden


def evidence(
    generator: Generator, windows: Windows, row: Array, adapter: str | None, expected: Array
) -> Evidence:
    """Return a row's beginning with both models' logits after it, as a golden case."""
    ids = row[:GOLDEN_TOKENS]
    tokens = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), np.int64)}
    found = prefilled(generator, ids, adapter)[None, None]
    basis = Basis(tokens, windows.source, windows.truncated)
    exact = expected[len(ids) - 1][None, None]
    return Evidence(basis, [tokens], [{"logits": exact}], [{"logits": found}])


def make_report(
    name: str | None,
    metrics: dict[str, float],
    golden: list[Evidence],
    windows: Windows,
    request: ExportRequest,
) -> LanguageReport:
    """Return the report of one adapter, held against its limits.

    Raises:
        EdgeError: a limit is set on a metric that language models are not judged by.
    """
    if odd := sorted(request.gates.keys() - LANGUAGE_GATES.keys()):
        known = ", ".join(LANGUAGE_GATES)
        raise EdgeError(f"gates: found {odd[0]}, expected one of {known} for text-generation")
    gates = gate(metrics, tuple(LANGUAGE_GATES), request.gates, LANGUAGE_GATES)
    joined = replace(
        golden[0],
        inputs=[part.inputs[0] for part in golden],
        expected=[part.expected[0] for part in golden],
        found=[part.found[0] for part in golden],
    )
    return LanguageReport(name, metrics, gates, joined, windows.texts)


def survival(generator: Generator, oracle: Oracle, windows: Windows, adapter: str | None) -> float:
    """Return how much of the adapter's effect on logits the bundle shows: 1 is all, 0 none.

    The same projection as `verify.adapter_survival`; the oracle's adapter is off afterwards.

    Raises:
        EdgeError: the adapter has no effect in the float model itself.
    """
    rows, left = [], EFFECT_TOKENS
    for row in windows.rows:
        if left > 1:
            rows.append(row[:left])
            left -= len(rows[-1])
    adapted = [float_logits(oracle, row) for row in rows]
    oracle.switch_off()
    along = total = 0.0
    for row, full in zip(rows, adapted, strict=True):
        plain = float_logits(oracle, row)
        effect = (full - plain).astype(np.float64).ravel()
        shown = (score(generator, row, adapter) - plain).astype(np.float64).ravel()
        along += float(effect @ shown)
        total += float(effect @ effect)
    if total == 0.0:
        raise EdgeError(
            "adapter: found no effect on any logit, expected one; was it trained, and is it for "
            "this base?"
        )
    return along / total
