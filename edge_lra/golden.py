"""Golden vectors: what every runner of a bundle must answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from edge_lra.errors import GateError
from edge_lra.runner import Runner

# int8 roundings may flip between CPUs' float kernels; the float model is the judge then.
SLACK = 1.5


def check_golden(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the golden cases and compare with the outputs recorded at export.

    Returns:
        cases, the largest difference from the recorded outputs and from the float model's.

    Raises:
        GateError: an answer is further from the float model than the bundle was at export.
    """
    count = int(manifest["golden"]["count"])
    if count == 0:
        return {"cases": 0, "max_abs_error": 0.0, "max_abs_error_float": 0.0}
    tensors = load_file(path / "golden.safetensors")
    runner = Runner.load(path, verify="never")
    own = exact = recorded = 0.0
    for index, adapter in enumerate(manifest["golden"]["adapters"]):
        prefix = f"input.{index}."
        inputs = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        outputs = runner.run(inputs, adapter=adapter if runner.adapters else None)
        for name, value in outputs.items():
            was, true = tensors[f"output.{index}.{name}"], tensors[f"float.{index}.{name}"]
            own = max(own, float(np.abs(value - was).max()))
            exact = max(exact, float(np.abs(value - true).max()))
            recorded = max(recorded, float(np.abs(was - true).max()))
    if exact > SLACK * recorded + 1e-4:
        raise GateError(
            f"{path}: found answers {exact:.3g} from the float model, expected at most "
            f"{SLACK} times the {recorded:.3g} at export; do not ship it on this machine"
        )
    return {"cases": count, "max_abs_error": own, "max_abs_error_float": exact}
