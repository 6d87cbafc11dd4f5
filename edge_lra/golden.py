"""Golden vectors: what every runner of a bundle must answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from edge_lra.errors import GateError
from edge_lra.runner import Runner

Arrays = dict[str, npt.NDArray[Any]]
NAME = "golden.safetensors"
COUNT = 8  # cases an adapter
# int8 roundings may flip between CPUs' float kernels; the float model is the judge then. Where
# kernels themselves differ, a scheme's `kernel_spread` is added.
SLACK = 1.5
ROUNDING = 1e-4  # of float32 in a bundle without int8
CHOICES = ("logits", "start_logits", "end_logits")  # outputs whose largest entry is the answer


class Case(NamedTuple):
    """One batch: the adapter, the token inputs, the bundle's and the float model's outputs."""

    adapter: str | None
    inputs: Arrays
    outputs: Arrays
    exact: Arrays


def write_golden(folder: Path, cases: Sequence[Case], kernel_spread: float) -> dict[str, Any]:
    """Write the cases; return the manifest's entry, with the scheme's spread."""
    tensors = {
        f"{kind}.{index}.{name}": np.ascontiguousarray(value)
        for index, case in enumerate(cases)
        for kind, arrays in zip(("input", "output", "float"), case[1:], strict=True)
        for name, value in arrays.items()
    }
    (folder / NAME).write_bytes(save(tensors))
    return golden_entry([case.adapter for case in cases], kernel_spread)


def golden_entry(adapters: Sequence[str | None], kernel_spread: float) -> dict[str, Any]:
    """Return the manifest's entry for cases with these adapters; none without verification."""
    return {"count": len(adapters), "adapters": list(adapters), "kernel_spread": kernel_spread}


def read_golden(folder: Path, manifest: dict[str, Any]) -> list[Case]:
    """Return a bundle's cases; none if it was not verified."""
    adapters = manifest["golden"]["adapters"]
    tensors = load_file(folder / NAME) if adapters else {}

    def arrays(prefix: str) -> Arrays:
        return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}

    return [
        Case(adapter, *(arrays(f"{kind}.{index}.") for kind in ("input", "output", "float")))
        for index, adapter in enumerate(adapters)
    ]


@dataclass(frozen=True)
class Comparison:
    """How far answers to the golden cases are from the recorded ones.

    Attributes:
        max_abs_error: the largest distance from the outputs recorded at export.
        max_abs_error_float: the largest distance from the float model's.
        recorded_error_float: what that was at export.
        kernel_spread: what kernels of other processors and releases may add to that: the scheme's
            share of the float model's largest output.
        decided: best labels that the float model chooses by more than the allowed error.
        agreed: of them, those that the answers choose too.
    """

    cases: int = 0
    max_abs_error: float = 0.0
    max_abs_error_float: float = 0.0
    recorded_error_float: float = 0.0
    kernel_spread: float = 0.0
    decided: int = 0
    agreed: int = 0

    @property
    def allowed_error_float(self) -> float:
        """The distance from the float model that an answer may have."""
        return SLACK * self.recorded_error_float + self.kernel_spread + ROUNDING

    @property
    def is_close(self) -> bool:
        """Whether no answer is further from the float model than allowed; NaN is not."""
        return self.max_abs_error_float <= self.allowed_error_float


def check_golden(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the golden cases and compare with the outputs recorded at export.

    Returns:
        cases, the largest difference from the recorded outputs and from the float model's.

    Raises:
        GateError: an answer is further from the float model than the bundle was at export, with
            the slack and the scheme's spread.
    """
    cases = read_golden(path, manifest)
    found = Comparison()
    if cases:
        runner = Runner.load(path, verify="never")
        found = compare(cases, run_cases(runner, cases), manifest)
    if not found.is_close:
        raise GateError(
            f"{path}: found answers {found.max_abs_error_float:.3g} from the float model, expected "
            f"at most {found.allowed_error_float:.3g} (it was {found.recorded_error_float:.3g} at "
            "export); do not ship it on this machine"
        )
    return {
        "cases": found.cases,
        "max_abs_error": found.max_abs_error,
        "max_abs_error_float": found.max_abs_error_float,
    }


def run_cases(runner: Runner, cases: Sequence[Case]) -> list[Arrays]:
    """Return the runner's outputs of every case, each with its adapter or with none."""
    return [
        runner.run(case.inputs, adapter=case.adapter if runner.adapters else None) for case in cases
    ]


def compare(
    cases: Sequence[Case], outputs: Sequence[Arrays], manifest: Mapping[str, Any]
) -> Comparison:
    """Hold a run's outputs, a case an entry, against the golden cases."""
    own, exact, recorded, largest = [0.0], [0.0], [0.0], [0.0]
    for case, found in zip(cases, outputs, strict=True):
        for name in case.outputs:
            value = found[name]
            own.append(_distance(value, case.outputs[name]))
            exact.append(_distance(value, case.exact[name]))
            recorded.append(_distance(case.outputs[name], case.exact[name]))
            largest.append(float(np.abs(case.exact[name]).max()))
    # Bundles written before a scheme had a spread of its own keep the check they came with.
    share = float(manifest["golden"].get("kernel_spread", 0.0))
    worst = Comparison(
        len(cases),
        float(np.max(own)),
        float(np.max(exact)),
        float(np.max(recorded)),
        share * max(largest),
    )
    decided = agreed = 0
    for case, found in zip(cases, outputs, strict=True):
        for true, value in _choices(case, found, manifest.get("problem_type")):
            top = np.sort(true, axis=-1)
            clear = top[:, -1] - top[:, -2] > worst.allowed_error_float
            same = true.argmax(-1) == value.argmax(-1)
            decided += int(clear.sum())
            agreed += int((clear & same).sum())
    return replace(worst, decided=decided, agreed=agreed)


def _choices(
    case: Case, found: Arrays, problem_type: str | None
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Yield (rows, choices) of the float model and of a run: labels, or places of an answer.

    Where labels are independent, each is a choice between its logit and zero.
    """
    if problem_type == "regression":
        return
    for name in CHOICES:
        if name not in case.exact:
            continue
        true, value = (x.reshape(-1, x.shape[-1]) for x in (case.exact[name], found[name]))
        if problem_type == "multi_label_classification":
            true, value = (np.stack([x.ravel(), np.zeros(x.size)], -1) for x in (true, value))
        if true.shape[-1] > 1:
            yield true, value


def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.abs(a - b).max())
