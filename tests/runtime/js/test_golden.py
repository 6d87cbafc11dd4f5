"""Node and the browser answer the golden cases, and Node as Python does, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edge_lra import Runner
from edge_lra.bundle import load_manifest
from edge_lra.golden import compare, read_golden
from tests.runtime.js.chromium import Chromium
from tests.runtime.js.hosts import PHONE, ROOT, Host, Node, Web, value_of

BUNDLES = ["merged", "factored", "hidden", "four_bits"]


def golden_runs(folder: Path) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return a call of `run` for each golden case with its adapter."""
    manifest = load_manifest(folder)
    return [
        (
            "run",
            {
                name: {"dims": a.shape, "data": a.ravel().tolist()}
                for name, a in case.inputs.items()
            },
            {"adapter": case.adapter if manifest["adapter_inputs"] else None},
        )
        for case in read_golden(folder, manifest)
    ]


def as_arrays(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return outputs of the driver as numpy's."""
    return {
        name: np.array(value["data"], value["type"]).reshape(value["dims"])
        for name, value in outputs.items()
    }


@pytest.mark.parametrize("name", BUNDLES)
def test_golden_cases_hold(name: str, host: Host, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    manifest = load_manifest(folder)
    cases = read_golden(folder, manifest)
    found, *runs = host.call(folder, ("checkGolden",), *golden_runs(folder))
    reference = compare(cases, [as_arrays(run) for run in runs], manifest)
    assert found["passed"] and found["cases"] == len(cases) > 0
    assert (found["decided"], found["agreed"]) == (reference.decided, reference.agreed)
    assert found["maxAbsError"] == pytest.approx(reference.max_abs_error, rel=1e-6)
    assert found["maxAbsErrorFloat"] == pytest.approx(reference.max_abs_error_float, rel=1e-6)
    assert found["allowedErrorFloat"] == pytest.approx(reference.allowed_error_float, rel=1e-6)


@pytest.mark.parametrize("name", BUNDLES)
def test_node_answers_as_python_to_the_bit(
    name: str, node: Node, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    runner = Runner.load(folder, threads=1)
    runs = node.call(folder, *golden_runs(folder))
    for case, found in zip(read_golden(folder, runner.manifest), runs, strict=True):
        adapter = case.adapter if runner.adapters else None
        expected = runner.run(case.inputs, adapter=adapter)
        for key, value in as_arrays(found).items():
            np.testing.assert_array_equal(value, expected[key])


def test_every_integer_is_exact(host: Host) -> None:
    cases = ROOT / "runtime/cases"
    expected = [name for name in load_file(cases / "integers.safetensors") if name[0] == "y"]
    found = value_of(host.ask({"verb": "integers", "folder": host.place(cases)})[0])
    assert found == {"differs": [], "count": len(expected)}


def test_a_page_that_is_no_secure_context_checks_its_files_too(
    factored: Path, browser: Chromium, built: None, tmp_path: Path
) -> None:
    """As on a phone that opens this machine's page over plain http: no `crypto.subtle`."""
    web = Web(browser, tmp_path, PHONE)
    assert web.page.evaluate("[isSecureContext, typeof crypto.subtle]") == [False, "undefined"]
    assert web.call(factored, ("checkGolden",))[0]["passed"]
    web.close()
