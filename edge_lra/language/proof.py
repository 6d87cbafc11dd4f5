"""The proof that a language model's export carries: perplexity, KL, and the adapter's effect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edge_lra import golden
from edge_lra.calibration import calibrated_with, split_rows
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError, GateError
from edge_lra.inputs import ExportRequest, Inputs, Progress, random_ids
from edge_lra.language.memory import Way, choose_way
from edge_lra.language.metrics import summarize, summarize_prefill
from edge_lra.language.oracle import FloatModel, WholeModel
from edge_lra.language.score import Scorer, Scores
from edge_lra.language.truncated import open_first_layers
from edge_lra.language.windows import Windows, check_tokens, cut_windows, random_windows
from edge_lra.metrics import LANGUAGE_GATES, Gate, gate
from edge_lra.proof import MIN_SURVIVAL, Subject, readable, subjects
from edge_lra.runner import Generator
from edge_lra.runner.adapters import AdapterStore
from edge_lra.runner.session import decoder_feeds
from edge_lra.texts import Row, built_in_texts, read_texts
from edge_lra.verify import check, layer_errors

RANDOM_LENGTH = 33


@dataclass(frozen=True)
class LanguageReport:
    """Metrics and gates of one adapter, of several merged ones, or of none."""

    adapter: str | None
    metrics: dict[str, float]
    gates: list[Gate]
    oracle: str
    windows: Windows = field(repr=False)
    cases: list[golden.Case] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Say whether every gate holds."""
        return all(g.passed for g in self.gates)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "adapter": self.adapter,
            "source": self.windows.source,
            "texts": self.windows.texts,
            "truncated": self.windows.truncated,
            "oracle": self.oracle,
            "metrics": self.metrics,
            "gates": [g.as_dict() for g in self.gates],
        }


def prove(
    folder: Path, inputs: Inputs, request: ExportRequest, progress: Progress | None
) -> list[LanguageReport]:
    """Hold the bundle in `folder` against the float model, once for each adapter.

    Raises:
        EdgeError: a limit is set on an unknown metric, or neither model fits in memory.
        GateError: a gate failed, or the adapter's effect did not survive.
    """
    if odd := sorted(request.gates.keys() - LANGUAGE_GATES.keys()):
        raise EdgeError(
            f"gates: found {odd[0]}, expected one of {', '.join(LANGUAGE_GATES)} for {inputs.task}"
        )
    way = choose_way(inputs.checkpoint.tensors, folder)
    if way.layers is None:
        generator = Generator.load(folder, verify="never")
    else:
        generator = open_first_layers(folder, way.layers)
    windows = choose_windows(generator, inputs, request)
    reports = []
    with generator:
        for subject in subjects(inputs.adapters, inputs.weights, request.mode):
            stage = f"verify {subject.name}" if subject.name else "verify"
            step = partial(progress, stage) if progress else _silent
            step(0, 1)  # loading the float model takes a while
            reports.append(prove_one(generator, inputs, request, windows, subject, way, step))
    return reports


def _silent(done: int, total: int) -> None:
    pass


def choose_windows(generator: Generator, inputs: Inputs, request: ExportRequest) -> Windows:
    """Return the text to verify with, or random ids where there is no tokenizer.

    Raises:
        EdgeError: there is text, but no tokenizer.
    """
    manifest, data = generator.manifest, request.proof_data
    if manifest["tokenizer"] is None:
        if data is not None:
            raise EdgeError(
                f"{inputs.checkpoint.path}: found no tokenizer.json, expected one for {data}; "
                "leave --data out to verify with random ids"
            )
        length = min(RANDOM_LENGTH, generator.layout.context)
        count = max(1, check_tokens(request.verify_tokens) // (length - 1))
        return random_windows(random_ids(inputs, count, length)["input_ids"])
    rows: Sequence[Row] = read_texts(data) if data else built_in_texts()
    if calibrated_with(manifest, data):
        rows = split_rows(rows, len(rows))[0]
    return cut_windows(
        [row.text for row in rows],
        data.name if data else "built-in sentences",
        generator.tokenize,
        manifest["decoder"],
        request.verify_tokens,
    )


def prove_one(
    generator: Generator,
    inputs: Inputs,
    request: ExportRequest,
    windows: Windows,
    subject: Subject,
    way: Way,
    step: Any,
) -> LanguageReport:
    """Hold a subject's answers against the float model's."""
    chosen = subject.name if subject.adapters and generator.adapters else None
    with TemporaryDirectory() as scratch:
        paths = [readable(a, inputs.checkpoint, Path(scratch) / a.name) for a in subject.adapters]
        adapters = list(zip(paths, subject.weights, strict=True))
        model = open_float_model(inputs.checkpoint.path, adapters, way)
        scorer = Scorer(generator, model, windows, chosen, bool(subject.adapters), step)
        scores = scorer.score()
    metrics = read_metrics(scores, subject)
    names = [name for name in LANGUAGE_GATES if name in metrics]
    gates = gate(metrics, names, request.gates, LANGUAGE_GATES)
    report = LanguageReport(
        subject.name, metrics, gates, model.way, windows, scores.cases if way.whole_bundle else []
    )
    if not report.passed:
        errors = errors_by_layer(generator, model, windows, chosen) if way.whole_bundle else None
        check(report.adapter, report.gates, errors)
    if scores.survival is not None and scores.survival < MIN_SURVIVAL:
        raise GateError(
            f"adapter {subject.name}: found {scores.survival:.2f} of its effect in the bundle, "
            f"expected at least {MIN_SURVIVAL}; use --quantize none"
        )
    return report


def open_float_model(path: Path, adapters: list[tuple[Path, float]], way: Way) -> FloatModel:
    """Load the float model whole, or to be run a layer at a time.

    Raises:
        EdgeError: it does not fit in memory and is a GGUF file, which is loaded as a whole.
    """
    if way.oracle_whole:
        return WholeModel(path, adapters)
    if "gguf_file" in Checkpoint(path).oracle_source():
        raise EdgeError(
            f"{path}: found a GGUF file whose float model does not fit in memory, expected "
            "safetensors, which are read a layer at a time; use them, or --no-verify"
        )
    from edge_lra.language.layered import LayeredModel

    return LayeredModel(path, adapters, way.layers)


def read_metrics(scores: Scores, subject: Subject) -> dict[str, float]:
    """Return all metrics of a report.

    Raises:
        EdgeError: the adapter has no effect in the float model itself.
    """
    metrics = summarize(scores.positions)
    if scores.prefills is not None:
        metrics |= summarize_prefill(scores.prefills)
    if scores.survival is not None:
        if math.isnan(scores.survival):
            raise EdgeError(
                f"adapter {subject.name}: found no effect on any output, expected one; was it "
                "trained, and is it for this task?"
            )
        metrics["adapter_survival"] = scores.survival
    return metrics


def errors_by_layer(
    generator: Generator, model: FloatModel, windows: Windows, adapter: str | None
) -> list[float]:
    """Return the relative L2 error of each layer's output for the first window."""
    row = windows.rows[0][None]
    tokens = {"input_ids": row, "attention_mask": row * 0 + 1}
    manifest: Mapping[str, Any] = generator.manifest
    store = AdapterStore(generator.path, manifest, verify=False)
    feeds = decoder_feeds(manifest, tokens, store.tensors(adapter))
    return layer_errors(generator.path, model.layer_outputs(row[0]), tokens, feeds)
