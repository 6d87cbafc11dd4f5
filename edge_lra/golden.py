"""Golden vectors: what every runner of a bundle must answer."""

from __future__ import annotations

from collections.abc import Sequence
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
# int8 roundings may flip between CPUs' float kernels; the float model is the judge then.
SLACK = 1.5


class Case(NamedTuple):
    """One batch: the adapter, the token inputs, the bundle's and the float model's outputs."""

    adapter: str | None
    inputs: Arrays
    outputs: Arrays
    exact: Arrays


def write_golden(folder: Path, cases: Sequence[Case]) -> dict[str, Any]:
    """Write the cases; return the manifest's entry."""
    tensors = {
        f"{kind}.{index}.{name}": np.ascontiguousarray(value)
        for index, case in enumerate(cases)
        for kind, arrays in zip(("input", "output", "float"), case[1:], strict=True)
        for name, value in arrays.items()
    }
    (folder / NAME).write_bytes(save(tensors))
    return {"count": len(cases), "adapters": [case.adapter for case in cases]}


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


def check_golden(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the golden cases and compare with the outputs recorded at export.

    Returns:
        cases, the largest difference from the recorded outputs and from the float model's.

    Raises:
        GateError: an answer is further from the float model than the bundle was at export.
    """
    cases = read_golden(path, manifest)
    if not cases:
        return {"cases": 0, "max_abs_error": 0.0, "max_abs_error_float": 0.0}
    runner = Runner.load(path, verify="never")
    own, exact, recorded = [0.0], [0.0], [0.0]
    for case in cases:
        outputs = runner.run(case.inputs, adapter=case.adapter if runner.adapters else None)
        for name, value in outputs.items():
            was, true = case.outputs[name], case.exact[name]
            own.append(_distance(value, was))
            exact.append(_distance(value, true))
            recorded.append(_distance(was, true))
    worst, before = float(np.max(exact)), float(np.max(recorded))
    if not worst <= SLACK * before + 1e-4:  # so that NaN fails
        raise GateError(
            f"{path}: found answers {worst:.3g} from the float model, expected at most "
            f"{SLACK} times the {before:.3g} at export; do not ship it on this machine"
        )
    return {
        "cases": len(cases),
        "max_abs_error": float(np.max(own)),
        "max_abs_error_float": worst,
    }


def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.abs(a - b).max())
