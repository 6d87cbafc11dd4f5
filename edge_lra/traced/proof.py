"""The proof of a traced bundle: the torch module itself, with PEFT on it, is the float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_lra.adapters import Adapter
from edge_lra.errors import EdgeError
from edge_lra.graph.signature import name_results
from edge_lra.inputs import ExportRequest, Progress
from edge_lra.metrics import Array, Gate, common, cosines, distributions, gate
from edge_lra.oracle import Oracle, with_adapters
from edge_lra.proof import (
    Subject,
    check_survival,
    output_labels,
    readable,
    subjects,
    text_basis,
)
from edge_lra.runner import Runner
from edge_lra.traced.model import CUSTOM, TracedModel
from edge_lra.traced.open import open_model
from edge_lra.verify import (
    Basis,
    Evidence,
    Report,
    adapter_survival,
    check,
    collect,
    collect_rows,
    compare,
)

if TYPE_CHECKING:
    import torch

CASES = 16  # of random inputs, beside the example
ROWS, TOKENS = 64, 32  # of random ids


class ModuleOracle(Oracle):
    """A torch module that answers with the bundle's output names."""

    def __init__(
        self,
        module: torch.nn.Module,
        adapters: Sequence[tuple[Path, float]],
        names: Sequence[str],
    ) -> None:
        """Put the adapters on a float module.

        Args:
            module: it may be changed.
            adapters: folders and weights; their changes are summed.
            names: the outputs that the bundle has.
        """
        import torch

        self.torch, self.names = torch, tuple(names)
        self.model = with_adapters(module, adapters).eval()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the float outputs of one batch."""
        with self.torch.no_grad():
            tensors = {name: self.torch.from_numpy(np.asarray(x)) for name, x in inputs.items()}
            found = name_results(self.model(**tensors))
        return {name: found[name].numpy() for name in self.names}


def prove(
    folder: Path,
    traced: TracedModel,
    adapters: tuple[Adapter, ...],
    weights: tuple[float, ...],
    request: ExportRequest,
    progress: Progress | None,
) -> list[Report]:
    """Hold the bundle in `folder` against the module, once for each adapter.

    Raises:
        GateError: a gate failed, or an adapter's effect did not survive.
    """
    runner = Runner.load(folder, verify="never")
    collected = _feeder(runner, traced, request.proof_data)
    reports = []
    for subject in subjects(adapters, weights, request.mode):
        step = partial(progress or _silent, f"verify {subject.name}" if subject.name else "verify")
        step(0, 1)  # loading the module takes a while
        with TemporaryDirectory() as scratch:
            paths = [readable(a, traced.tensors, Path(scratch) / a.name) for a in subject.adapters]
            given = list(zip(paths, subject.weights, strict=True))
            oracle = ModuleOracle(traced.load(), given, runner.output_names)
        chosen = subject.name if subject.adapters and runner.adapters else None
        reports.append(_judge(collected(oracle, chosen, step), oracle, subject, runner, request))
    return reports


def prove_again(
    bundle: Path, request: ExportRequest, progress: Progress | None = None
) -> list[Report]:
    """Hold a finished bundle against the request's model.

    Raises:
        EdgeError: the request names other adapters than the bundle has.
        GateError: a gate failed.
    """
    traced, adapters = open_model(request)
    weights = tuple(request.weights) or (1.0,) * len(adapters)
    return prove(bundle, traced, adapters, weights, request, progress)


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _judge(
    evidence: Evidence, oracle: Oracle, subject: Subject, runner: Runner, request: ExportRequest
) -> Report:
    """Return what the evidence says of one subject.

    Raises:
        GateError: a gate failed, or the adapter's effect did not survive.
    """
    manifest = runner.manifest
    if manifest["task"] == CUSTOM:
        metrics, gates = compare_outputs(evidence, request.gates)
    else:
        problem = manifest["problem_type"]
        labels = output_labels(manifest, subject.name if runner.adapters else None)
        metrics, gates = compare(evidence, manifest["task"], problem, request.gates, labels)
    report = Report(subject.name, metrics, gates, evidence)
    check(report.adapter, report.gates, None)
    if subject.adapters:
        metrics["adapter_survival"] = survival = adapter_survival(evidence, oracle)
        check_survival(subject, survival)
    return report


Collect = Callable[[Oracle, str | None, Callable[[int, int], None]], Evidence]


def _feeder(runner: Runner, traced: TracedModel, data: Path | None) -> Collect:
    """Return what runs both models on texts, on random ids, or on inputs like the example.

    Raises:
        EdgeError: there is text, but the model takes none.
    """
    if traced.reads_tokens and traced.vocabulary_size:
        if runner.manifest["tokenizer"] is not None:
            tokens = text_basis(runner, data)
        elif data is None:
            tokens = Basis(_random_ids(traced), "random ids (no tokenizer)")
        else:
            raise _no_text(traced, data)
        return lambda oracle, adapter, step: collect(runner, oracle, tokens, adapter, step)
    if data is not None:
        raise _no_text(traced, data)
    rows = similar_inputs(runner.manifest["inputs"], traced.subject.examples)
    basis = Basis({}, "random inputs like the example")
    return lambda oracle, adapter, step: collect_rows(runner, oracle, basis, rows, adapter, step)


def _no_text(traced: TracedModel, data: Path) -> EdgeError:
    return EdgeError(
        f"{traced.tensors.path}: found no tokenizer.json for {data}, expected a model that reads "
        "text; leave --data out to verify with random inputs"
    )


def _random_ids(traced: TracedModel) -> dict[str, Array]:
    random, vocabulary = np.random.default_rng(0), traced.vocabulary_size or 1
    length = min(TOKENS, traced.max_length or TOKENS)
    ids = random.integers(min(10, vocabulary - 1), vocabulary, (ROWS, length))
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return {name: known.get(name, np.zeros_like(ids)) for name in traced.subject.examples}


def similar_inputs(
    nodes: Sequence[Mapping[str, Any]], examples: Mapping[str, torch.Tensor]
) -> list[dict[str, Array]]:
    """Return batches of the example's sizes, whose values are spread as the example's are.

    An example of one value throughout stands for nothing: floats are then normal, integers stay.
    The example itself is the first, where it holds values.
    """
    random = np.random.default_rng(0)
    sizes = {node["name"]: tuple(node["example"]) for node in nodes}

    def like(name: str, value: torch.Tensor) -> Array:
        if value.is_floating_point():
            real = None if value.is_meta else value.numpy()
            spread = 0.0 if real is None else float(real.std())
            mean = float(real.mean()) if real is not None and spread else 0.0
            values = random.normal(mean, spread or 1.0, sizes[name])
            return values.astype(np.float32)
        given = value.numpy()
        chosen = random.integers(int(given.min()), int(given.max()) + 1, sizes[name])
        return chosen.astype(given.dtype)

    rows = [{name: like(name, value) for name, value in examples.items()} for _ in range(CASES)]
    real = all(not value.is_meta for value in examples.values())
    fits = real and all(tuple(v.shape) == sizes[n] for n, v in examples.items())
    return [{n: v.numpy() for n, v in examples.items()}, *rows] if fits else rows


def compare_outputs(
    evidence: Evidence, limits: Mapping[str, float]
) -> tuple[dict[str, float], list[Gate]]:
    """Return the metrics of a module whose outputs nothing is known of, and its gates.

    An output named `logits` is judged as a classification's, others by the angle between all that
    a batch gives, and single numbers by their relative error; of several the worst counts.

    Raises:
        EdgeError: a limit is set on a metric that these outputs are not judged by.
    """
    metrics: dict[str, float] = {}
    gated: list[str] = []
    for name in evidence.expected[0]:
        pairs = [
            (e[name].astype(np.float64), f[name].astype(np.float64))
            for e, f in zip(evidence.expected, evidence.found, strict=True)
        ]
        found, gates = _metrics(name, pairs)
        gated += [g for g in gates if g not in gated]
        for key, value in found.items():
            worst = min if key in ("cosine_min", "cosine_mean", "top1_agreement", "rows") else max
            metrics[key] = worst(metrics.get(key, value), value)
    if odd := sorted(limits.keys() - set(gated)):
        raise EdgeError(f"gates: found {odd[0]}, expected one of {', '.join(gated)} for {CUSTOM}")
    return metrics, gate(metrics, gated, limits)


def _metrics(
    name: str, pairs: Sequence[tuple[Array, Array]]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return one output's metrics, and which of them have a limit."""
    expected, found = (np.concatenate([p[i].reshape(-1) for p in pairs]) for i in (0, 1))
    metrics = common(expected, found)
    width = pairs[0][0].shape[-1] if pairs[0][0].ndim > 1 else 1
    if name == "logits" and width > 1:
        rows = expected.reshape(-1, width), found.reshape(-1, width)
        return metrics | distributions(*rows), ("kl_mean", "top1_agreement")
    if pairs[0][0].size == 1 or width == 1:
        return metrics, ("relative_l2",)
    return metrics | cosines(pairs), ("cosine_min",)
