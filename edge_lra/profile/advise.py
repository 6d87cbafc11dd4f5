"""Try the schemes and modes of a project, measure each, and name the one to take."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError, FidelityError
from edge_lra.inputs import ExportRequest, Progress, read_inputs
from edge_lra.profile.measurement import Layer, Measurement
from edge_lra.profile.result import Entry
from edge_lra.quantize import SCHEMES

NEAR = 1.03  # latencies nearer than this are one: the smaller file decides
ProfileBundle = Callable[[Path], Entry]


@dataclass(frozen=True)
class Candidate:
    """One way to export a project."""

    mode: str
    scheme: str
    keep_float: tuple[str, ...] = ()
    why: str = ""  # what made it a candidate, where that is not plain

    def options(self) -> list[str]:
        """Return the options of `edge-lra export` that make it."""
        kept = [part for pattern in self.keep_float for part in ("--keep-float", pattern)]
        mode = "--factored" if self.mode == "factored" else "--merge"
        return [mode, "--quantize", self.scheme, *kept]


@dataclass(frozen=True)
class Trial:
    """What became of a candidate.

    Attributes:
        entry: its profile; None where it was refused.
        error: relative L2 distance of its outputs from the float model's, of the worst adapter.
        refused: why there is no bundle, in a line.
        worst_layers: where the error grows most, of a bundle that failed a gate.
        pareto: whether no other is at least as good in latency, memory, size and error.
    """

    candidate: Candidate
    entry: Entry | None = None
    error: float | None = None
    refused: str | None = None
    worst_layers: tuple[int, ...] = ()
    pareto: bool = False

    def as_dict(self, chosen: bool) -> dict[str, Any]:
        """Return plain values for JSON."""
        costs = self.costs if self.entry else (None,) * 4
        kind = "measured" if self.entry and self.entry.measured else "estimated"
        return {
            "options": self.candidate.options(),
            "why": self.candidate.why or None,
            "refused": self.refused,
            "device": self.entry.device if self.entry else None,
            "kind": kind if self.entry else None,
            **dict(zip(("p50_ms", "peak_rss_mib", "file_mib", "error"), costs, strict=True)),
            "pareto": self.pareto,
            "chosen": chosen,
        }

    @property
    def costs(self) -> tuple[float, float, float, float]:
        """Latency in ms, peak RSS and files in MiB, error: all the better the smaller."""
        assert self.entry is not None and self.error is not None
        return (*latency_and_memory(self.entry), self.entry.file_mib, self.error)


@dataclass(frozen=True)
class Advice:
    """All trials, the one to take, and the command that makes it."""

    trials: tuple[Trial, ...]
    chosen: Trial
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return the document of `edge-lra profile --advise --json`."""
        return {
            "schema_version": 1,
            "command": self.command,
            "trials": [trial.as_dict(trial is self.chosen) for trial in self.trials],
        }


def latency_and_memory(entry: Entry) -> tuple[float, float]:
    """Return the slowest shape's p50 in ms and the peak in MiB, measured or else estimated.

    A language model's latency is that of its slowest token.
    """
    if entry.measured:
        taken = entry.measured.decoding or entry.measured.timings
        slowest = max(one.percentile_ms(50) for one in taken)
        return slowest, entry.measured.memory.peak_rss_mib
    if entry.estimated:
        low, high = entry.estimated.peak_rss_mib
        return max(shape.middle_ms for shape in entry.estimated.shapes), (low + high) / 2
    raise EdgeError(f"{entry.device_title}: found neither a measurement nor an estimate there")


def advise(
    request: ExportRequest,
    scratch: Path,
    profile_bundle: ProfileBundle,
    progress: Progress | None = None,
) -> Advice:
    """Export every candidate, hold it against the float model, and profile it.

    Args:
        request: the project's export; its mode and scheme are varied.
        scratch: a folder for the bundles.
        profile_bundle: measures (or estimates) a bundle where it is to run.
        progress: told the candidate and how many of how many are done.

    Raises:
        EdgeError: the project cannot be exported, or no candidate passes its gates.
    """
    inputs = read_inputs(replace(request, mode="merge"))  # a mistake is told before any work
    modes = ("merge", "factored") if request.adapters else ("merge",)
    plain = [Candidate(mode, scheme) for scheme in SCHEMES for mode in modes]
    trials: list[Trial] = []
    for place, candidate in enumerate(plain):
        if progress:
            progress(" ".join(candidate.options()), place, len(plain))
        trials.append(_try(request, candidate, scratch / str(place), profile_bundle))
    prefix = next(iter(inputs.recipe.layer.values())).partition("{i}")[0] + "{i}."
    for place, candidate in enumerate(list(mixes(trials, prefix))):  # trials grow
        if progress:
            progress(" ".join(candidate.options()), len(plain), len(plain))
        trials.append(_try(request, candidate, scratch / f"mix{place}", profile_bundle))
    return choose(trials)


def _try(
    request: ExportRequest,
    candidate: Candidate,
    out: Path,
    profile_bundle: ProfileBundle,
) -> Trial:
    """Make one bundle and profile it; a failed gate, or no way to make it, is an answer too."""
    from edge_lra.bundle import load_manifest
    from edge_lra.pipeline import export

    name = "-".join(
        [candidate.mode, candidate.scheme, *(["mixed"] if candidate.keep_float else [])]
    )
    varied = replace(
        request,
        out=out / f"{name}.edge",
        mode=candidate.mode,
        scheme=candidate.scheme,
        keep_float=candidate.keep_float,
        verify=True,
    )
    try:
        bundle = export(varied)
    except FidelityError as error:
        return Trial(candidate, refused=str(error), worst_layers=error.worst_layers)
    except EdgeError as error:
        return Trial(candidate, refused=str(error))
    reports = load_manifest(bundle)["fidelity"]["reports"]
    distance = max(report["metrics"]["relative_l2"] for report in reports)
    return Trial(candidate, profile_bundle(bundle), distance)


def mixes(trials: Sequence[Trial], prefix: str) -> Iterator[Candidate]:
    """Yield candidates that keep layers in float32 where the scheme hurts or does not pay.

    A layer hurts where the error grows most in a bundle that failed a gate; it does not pay where
    its nodes took longer than the float bundle's, as measured.

    Args:
        trials: of the plain candidates.
        prefix: what a layer's module names begin with, its index as {i}.
    """
    for trial in trials:
        kind = trial.candidate
        if kind.scheme == "none":
            continue
        if trial.worst_layers:
            layers, why = trial.worst_layers[:1], "the error grows most there"
        else:
            layers, why = slower_layers(trial, trials), "slower there than in float32"
        if layers:
            patterns = tuple(f"*{prefix.format(i=layer)}*" for layer in sorted(layers))
            yield replace(kind, keep_float=patterns, why=why)


def slower_layers(trial: Trial, trials: Sequence[Trial]) -> tuple[int, ...]:
    """Return the layers that took longer than in the float bundle of the same mode.

    None where they are half of all or more: then the scheme does not pay, and float32 is tried
    anyhow.
    """
    exact = next(
        (t for t in trials if t.candidate == Candidate(trial.candidate.mode, "none")), None
    )
    if not (
        exact and exact.entry and exact.entry.measured and trial.entry and trial.entry.measured
    ):
        return ()
    float_ms = {layer.name: layer.mean_ms for layer in _layers(exact.entry.measured)}
    layers = [x for x in _layers(trial.entry.measured) if x.name.startswith("layer ")]
    slower = tuple(
        int(layer.name.removeprefix("layer "))
        for layer in layers
        if layer.mean_ms > float_ms.get(layer.name, float("inf"))
    )
    return slower if 2 * len(slower) < len(layers) else ()


def _layers(measured: Measurement) -> Sequence[Layer]:
    """Return the layers of a token where there is one, else of the first shape."""
    return measured.step.layers if measured.step else measured.layers


def choose(trials: Sequence[Trial]) -> Advice:
    """Mark the Pareto front and take its quickest; of those as quick, the smallest.

    Raises:
        EdgeError: no candidate made a bundle.
    """
    made = [trial for trial in trials if trial.entry]
    if not made:
        raise EdgeError(
            f"advise: found no candidate that passes, expected one; {trials[0].refused}"
        )
    marked = [
        replace(trial, pareto=trial.entry is not None and not _is_beaten(trial, made))
        for trial in trials
    ]
    front = [trial for trial in marked if trial.pareto]
    quickest = min(trial.costs[0] for trial in front)
    near = [trial for trial in front if trial.costs[0] <= NEAR * quickest]
    chosen = min(near, key=lambda trial: (trial.costs[2], trial.costs[0]))
    command = shlex.join(["edge-lra", "export", *chosen.candidate.options()])
    return Advice(tuple(marked), chosen, command)


def _is_beaten(trial: Trial, made: Sequence[Trial]) -> bool:
    """Say whether another is at least as good in everything and better in something."""
    return any(
        other.costs != trial.costs
        and all(a <= b for a, b in zip(other.costs, trial.costs, strict=True))
        for other in made
    )
