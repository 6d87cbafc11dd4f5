"""Run the written bundle beside the float oracle and hold the difference against gates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra import golden
from edge_lra.errors import EdgeError, FidelityError
from edge_lra.labelled import compare_accuracy
from edge_lra.metrics import (
    OPTIONAL_GATES,
    Array,
    Gate,
    common,
    cosines,
    distributions,
    gate,
    independent_labels,
)
from edge_lra.oracle import Oracle
from edge_lra.runner import Runner
from edge_lra.task import ONE_LABEL

Outputs = dict[str, Array]
EFFECT_ROWS = 16


@dataclass(frozen=True)
class Basis:
    """What both models are fed: tokens (texts, sequence), and where they come from."""

    tokens: Mapping[str, Array]
    source: str
    truncated: int = 0  # texts cut at the maximum length
    labels: tuple[str | None, ...] = ()  # a text's own; None where it has none


@dataclass(frozen=True)
class Evidence:
    """What was fed and what both models answered, a text an entry."""

    basis: Basis
    inputs: list[dict[str, Array]]
    expected: list[Outputs]
    found: list[Outputs]


@dataclass(frozen=True)
class Report:
    """Metrics and gates of one adapter (or of none)."""

    adapter: str | None
    metrics: dict[str, float]
    gates: list[Gate]
    evidence: Evidence = field(repr=False)

    @property
    def passed(self) -> bool:
        """Say whether every gate holds."""
        return all(g.passed for g in self.gates)

    @property
    def cases(self) -> list[golden.Case]:
        """The first texts' inputs and outputs, for the bundle's golden cases."""
        evidence = self.evidence
        answers = zip(evidence.inputs, evidence.found, evidence.expected, strict=True)
        chosen = itertools.islice(answers, golden.COUNT)
        return [golden.Case(self.adapter, given, found, true) for given, found, true in chosen]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "adapter": self.adapter,
            "source": self.evidence.basis.source,
            "texts": len(self.evidence.inputs),
            "truncated": self.evidence.basis.truncated,
            "oracle": "whole",
            "metrics": self.metrics,
            "gates": [g.as_dict() for g in self.gates],
        }


def per_text(inputs: Mapping[str, Array]) -> Iterable[dict[str, Array]]:
    """Yield each row at its true length: padding is the runner's matter, not the model's."""
    for row, length in enumerate(inputs["attention_mask"].sum(1)):
        yield {name: values[row : row + 1, :length] for name, values in inputs.items()}


def collect(
    runner: Runner,
    oracle: Oracle,
    basis: Basis,
    adapter: str | None,
    step: Callable[[int, int], None],
) -> Evidence:
    """Run every text through both models, one text a batch.

    First all through one, then through the other: their threads spin and would be in each
    other's way. `step` is told how many of how many runs are done.
    """
    return collect_rows(runner, oracle, basis, list(per_text(basis.tokens)), adapter, step)


def collect_rows(
    runner: Runner,
    oracle: Oracle,
    basis: Basis,
    rows: list[dict[str, Array]],
    adapter: str | None,
    step: Callable[[int, int], None],
) -> Evidence:
    """Run batches through both models; `basis` says where they come from."""

    def each(run: Callable[[dict[str, Array]], Outputs], before: int) -> Iterator[Outputs]:
        for place, row in enumerate(rows):
            yield run(row)
            step(before + place + 1, 2 * len(rows))

    expected = list(each(oracle.run, 0))
    found = list(each(lambda row: runner.run(row, adapter=adapter), len(rows)))
    return Evidence(basis, rows, expected, found)


def _stack(outputs: list[Outputs], name: str) -> Array:
    """Return an output as (rows, width): rows are texts, or attended positions of all texts."""
    return np.concatenate([o[name].reshape(-1, o[name].shape[-1]) for o in outputs]).astype(
        np.float64
    )


def compare(
    evidence: Evidence,
    task: str,
    problem_type: str | None,
    limits: Mapping[str, float],
    labels: Sequence[str] | None = None,
) -> tuple[dict[str, float], list[Gate]]:
    """Return the metrics a task is judged by, and its gates.

    Args:
        evidence: what both models answered.
        task: the bundle's.
        problem_type: the bundle's.
        limits: by metric, over the defaults.
        labels: names of the outputs, where they have names.

    Raises:
        EdgeError: a limit is set on a metric that this task is not judged by or that needs labelled
            text, or a text's label is unknown.
    """
    names = gated_metrics(task, problem_type, limits)
    if odd := sorted(limits.keys() - names):
        raise EdgeError(f"gates: found {odd[0]}, expected one of {', '.join(names)} for {task}")
    if task in ("feature-extraction", "sentence-embedding"):
        name = "last_hidden_state"
        rows = [
            (e[name][0], f[name][0]) for e, f in zip(evidence.expected, evidence.found, strict=True)
        ]
        flat = [_stack(x, name) for x in (evidence.expected, evidence.found)]
        metrics = common(flat[0], flat[1]) | cosines(rows)
        return metrics, gate(metrics, names, limits)
    if task == "question-answering":
        metrics = _compare_spans(evidence)
        return metrics, gate(metrics, names, limits)
    expected, found = _stack(evidence.expected, "logits"), _stack(evidence.found, "logits")
    metrics = common(expected, found)
    if problem_type != "regression":
        rule = independent_labels if problem_type == "multi_label_classification" else distributions
        metrics |= rule(expected, found)
    if problem_type == ONE_LABEL and labels:
        basis = evidence.basis
        metrics |= compare_accuracy(basis.labels, labels, basis.source, expected, found)
    if missing := [name for name in names if name not in metrics]:
        raise EdgeError(
            f"gates: found {missing[0]}, expected text with the model's labels to tell it by; "
            "give --data with a column 'label'"
        )
    return metrics, gate(metrics, names, limits)


def gated_metrics(
    task: str, problem_type: str | None, limits: Mapping[str, float]
) -> tuple[str, ...]:
    """Return the metrics that have a limit for a task: by default, or because one is set."""
    if task in ("feature-extraction", "sentence-embedding"):
        return ("cosine_min",)
    if problem_type == "regression":
        return ("relative_l2",)
    asked = [name for name in OPTIONAL_GATES if name in limits and problem_type == ONE_LABEL]
    return ("kl_mean", "top1_agreement", *asked)


def _compare_spans(evidence: Evidence) -> dict[str, float]:
    """Compare start and end positions, each text's logits padded to the longest with -1e9."""
    longest = max(o["start_logits"].shape[-1] for o in evidence.expected)

    def padded(outputs: list[Outputs]) -> Array:
        rows = [o[name][0] for o in outputs for name in ("start_logits", "end_logits")]
        pads = [np.pad(r, (0, longest - len(r)), constant_values=-1e9) for r in rows]
        return np.stack(pads).astype(np.float64)

    expected, found = padded(evidence.expected), padded(evidence.found)
    real = expected > -1e8
    return common(expected[real], found[real]) | distributions(expected, found)


def adapter_survival(evidence: Evidence, oracle: Oracle) -> float:
    """Return how much of the adapter's effect the bundle shows: 1 is all of it, 0 none.

    The bundle's distance from the float model without factors, projected on the float
    adapter's own effect; rounding noise is independent of that direction and drops out.

    Raises:
        EdgeError: the adapter has no effect in the float model itself.
    """
    oracle.switch_off()
    rows = range(min(EFFECT_ROWS, len(evidence.inputs)))
    along = total = 0.0
    for row in rows:
        plain = oracle.run(evidence.inputs[row])
        for name, base in plain.items():
            effect = (evidence.expected[row][name] - base).astype(np.float64).ravel()
            shown = (evidence.found[row][name] - base).astype(np.float64).ravel()
            along += float(effect @ shown)
            total += float(effect @ effect)
    if total == 0.0:
        raise EdgeError(
            "adapter: found no effect on any output, expected one; was it trained, and is it "
            "for this task?"
        )
    return along / total


def layer_errors(
    bundle: Path, hidden: Sequence[Array], inputs: Mapping[str, Array], feeds: Mapping[str, Array]
) -> list[float]:
    """Return the relative L2 error of each layer's hidden state for one text.

    Args:
        bundle: the bundle's folder.
        hidden: each layer's output of the float model.
        inputs: the text's tokens.
        feeds: what else the graph takes.
    """
    from edge_lra.probe import layer_names, open_probe

    names = layer_names(bundle, len(hidden))
    found = open_probe(bundle, names)({**inputs, **feeds}).values()
    pairs = zip(hidden, found, strict=True)  # the last may hold the first token alone
    return [common(e[:, : f.shape[1]], f)["relative_l2"] for e, f in pairs]


def check(adapter: str | None, gates: Sequence[Gate], layers: Sequence[float] | None) -> None:
    """Raise unless every gate holds.

    Args:
        adapter: the report's.
        gates: the report's.
        layers: each layer's error, where they are known.

    Raises:
        FidelityError: names the failed gates and the layers where the error grows most.
    """
    failed = [g for g in gates if not g.passed]
    if not failed:
        return
    found = ", ".join(f"{g.name} {g.value:.4g} (limit {g.limit:g})" for g in failed)
    worst, order = "", []
    if layers:
        growth = np.diff([0.0, *layers])
        order = [int(i) for i in np.argsort(growth)[::-1][:3]]
        worst = "; the error grows most in " + ", ".join(
            f"layer {i} ({growth[i]:+.3g})" for i in order
        )
    who = f"adapter {adapter}: " if adapter else ""
    raise FidelityError(
        f"{who}found {found}{worst}; use --keep-float or --quantize none, or set [gates] in "
        "edge-lra.toml",
        tuple(order),
    )
