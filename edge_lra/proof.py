"""The proof an export carries: each adapter's bundle answers against the float oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from edge_lra import golden
from edge_lra.adapters import Adapter
from edge_lra.adapters.formats.peft import Layers, Peft
from edge_lra.adapters.saved import read_saved
from edge_lra.calibration import calibrated_with, split_rows
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError, GateError
from edge_lra.inputs import ExportRequest, Inputs, Progress, random_ids
from edge_lra.oracle import Oracle
from edge_lra.planning import check_types
from edge_lra.runner import Runner
from edge_lra.task import ONE_LABEL
from edge_lra.texts import ALONE, built_in_texts, pairs_of, read_texts
from edge_lra.verify import Basis, Report, adapter_survival, check, collect, compare, layer_errors

MAX_TEXTS = 256
# With a label each: where one answer in a hundred changes, so many tell a drop of 0.6 points.
MAX_LABELLED = 1000
MIN_SURVIVAL = 0.5


class Proven(Protocol):
    """A report of one adapter's bundle, or of none's."""

    @property
    def cases(self) -> list[golden.Case]:
        """What the bundle's golden cases are made of."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""


def prove(
    folder: Path, inputs: Inputs, request: ExportRequest, progress: Progress | None
) -> Sequence[Proven]:
    """Hold the bundle in `folder` against the oracle, once for each adapter.

    A factored bundle whose adapters can be off is held without any, too.

    Raises:
        GateError: a gate failed, or the adapter's effect did not survive.
    """
    if inputs.task == "text-generation":
        import edge_lra.language.proof as language

        return language.prove(folder, inputs, request, progress)
    runner = Runner.load(folder, verify="never")
    basis = choose_basis(runner, inputs, request)
    reports = []
    chosen = subjects(inputs.adapters, inputs.weights, request.mode)
    if needs_base(runner.manifest):
        chosen.insert(0, Subject())
    for subject in chosen:
        step = partial(progress or _silent, f"verify {subject.name}" if subject.name else "verify")
        step(0, 1)  # loading the oracle takes a while
        reports.append(prove_one(runner, inputs, request, basis, subject, step))
    return reports


def open_oracle(inputs: Inputs, subject: Subject, num_labels: int | None) -> Oracle:
    """Return the float model with a subject's adapters, which PEFT reads by itself."""
    task_type = next((a.task_type for a in subject.adapters if a.task_type), None)
    with TemporaryDirectory() as scratch:
        paths = [readable(a, inputs.checkpoint, Path(scratch) / a.name) for a in subject.adapters]
        return Oracle(
            inputs.checkpoint.path,
            inputs.task,
            list(zip(paths, subject.weights, strict=True)),
            task_type,
            num_labels,
        )


def check_survival(subject: Subject, survival: float) -> None:
    """Refuse a bundle that does not show enough of the adapter's effect.

    Raises:
        GateError: names the adapter and the share.
    """
    if survival < MIN_SURVIVAL:
        raise GateError(
            f"adapter {subject.name}: found {survival:.2f} of its effect in the bundle, "
            f"expected at least {MIN_SURVIVAL}; use --quantize none"
        )


@dataclass(frozen=True)
class Subject:
    """What one report is about: the base, an adapter, or several merged into one model."""

    adapters: tuple[Adapter, ...] = ()
    weights: tuple[float, ...] = ()

    @property
    def name(self) -> str | None:
        """Return the adapters' names joined."""
        return "+".join(adapter.name for adapter in self.adapters) or None


def subjects(adapters: tuple[Adapter, ...], weights: tuple[float, ...], mode: str) -> list[Subject]:
    """Return one subject for a merge, or one for each adapter of a factored bundle."""
    if mode == "merge" or not adapters:
        return [Subject(adapters, weights)]
    return [Subject((adapter,), (1.0,)) for adapter in adapters]


def needs_base(manifest: Mapping[str, Any]) -> bool:
    """Say whether the bundle can run with its adapters off, and no golden case shows that."""
    can_be_off = bool(manifest["adapter_inputs"]) and manifest["head"] != "adapter"
    return can_be_off and None not in manifest["golden"]["adapters"]


def _silent(stage: str, done: int, total: int) -> None:
    pass


def prove_one(
    runner: Runner,
    inputs: Inputs,
    request: ExportRequest,
    basis: Basis,
    subject: Subject,
    step: Callable[[int, int], None],
) -> Report:
    """Hold a subject's answers against the oracle's."""
    manifest = runner.manifest
    chosen = subject.name if subject.adapters and runner.adapters else None
    labels = output_labels(manifest, chosen)
    oracle = open_oracle(inputs, subject, len(labels) if labels else None)
    evidence = collect(runner, oracle, basis, chosen, step)
    problem = manifest["problem_type"]
    metrics, gates = compare(evidence, inputs.task, problem, request.gates, labels)
    report = Report(subject.name, metrics, gates, evidence)
    if not report.passed:
        feeds = runner.adapter_tensors(chosen)
        hidden = oracle.hidden_states(evidence.inputs[0])
        check(
            report.adapter,
            report.gates,
            layer_errors(runner.path, hidden, evidence.inputs[0], feeds),
        )
    if subject.adapters:
        metrics["adapter_survival"] = found = adapter_survival(evidence, oracle)
        check_survival(subject, found)
    return report


def output_labels(manifest: Mapping[str, Any], adapter: str | None) -> list[str] | None:
    """Return the names of the outputs with an adapter of a factored bundle, or of none."""
    owner = manifest["adapters"][adapter] if adapter else manifest
    labels: list[str] | None = owner["labels"]
    return labels


def readable(adapter: Adapter, base: Checkpoint, folder: Path) -> Path:
    """Return a folder that the oracle reads by itself; other formats are converted to PEFT's."""
    if adapter.format in (Peft.title, Layers.title):
        return adapter.path
    saved = read_saved(adapter.path, base)
    folder.mkdir()
    writer = Layers() if "adapter_type" in saved.config else Peft()
    return writer.write(folder, saved, base)


def choose_basis(runner: Runner, inputs: Inputs, request: ExportRequest) -> Basis:
    """Return the text to verify with, or random ids where there is no tokenizer.

    Rows that calibrated the bundle do not verify it.

    Raises:
        EdgeError: there is text, but no tokenizer, or one of another model.
    """
    data = request.proof_data
    if runner.manifest["tokenizer"] is None:
        if data is not None:
            raise EdgeError(
                f"{inputs.checkpoint.path}: found no tokenizer.json, expected one for {data}; "
                "leave --data out to verify with random ids"
            )
        length = min(32, runner.manifest["max_length"])
        return Basis(random_ids(inputs, 64, length), "random ids (no tokenizer)")
    found = text_basis(runner, data, calibrated_with(runner.manifest, data))
    if inputs.typed:
        check_types(inputs, [found.tokens["token_type_ids"]], found.source)
    return found


def text_basis(runner: Runner, data: Path | None, calibrated: bool = False) -> Basis:
    """Return the tokens of the user's texts, with their labels, or of the built-in ones.

    More of them are read where their labels tell an accuracy.

    Args:
        runner: of the bundle.
        data: the user's file.
        calibrated: the bundle was calibrated with a part of it, which is left out.
    """
    task = runner.manifest["task"]
    rows = read_texts(data, paired=task not in ALONE) if data else built_in_texts()
    labelled = runner.manifest["problem_type"] == ONE_LABEL and any(row.label for row in rows)
    most = MAX_LABELLED if labelled else MAX_TEXTS
    rows = list(split_rows(rows, most)[0]) if data and calibrated else rows[:most]
    texts = [row.text for row in rows]
    labels = tuple(row.label or None for row in rows) if labelled else ()
    tokens = runner.tokenize(texts, pairs_of(rows, task))
    source = data.name if data else "built-in sentences"
    return Basis(tokens.inputs, source, tokens.truncated, labels)


def summary(reports: Sequence[Proven]) -> dict[str, Any]:
    """Return the manifest's fidelity entry."""
    return {"reports": [report.as_dict() for report in reports]}


def golden_cases(reports: Sequence[Proven]) -> list[golden.Case]:
    """Return the golden cases of every report."""
    return [case for report in reports for case in report.cases]


def versions() -> dict[str, str]:
    """Return the versions of the oracle and the runtime that made the proof."""
    return {name: version(name) for name in ("torch", "transformers", "peft", "onnxruntime")}
