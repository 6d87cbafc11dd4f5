"""The C++ runner answers the golden cases, and what Python answers bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save, save_file

from edge_lra import Runner
from edge_lra.bundle import load_manifest
from edge_lra.golden import compare, read_golden, run_cases
from tests.runtime.cpp.abi import NEVER, Bundle, Refused
from tests.runtime.cpp.bundles import change_manifest, tokens
from tests.runtime.cpp.places import CASES, ask_tool, call_tool

BUNDLES = ("merged", "factored", "hidden")
RELEASES = (None, "1.20.0", "1.23.0", "1.24.1")


@pytest.mark.parametrize(
    ("name", "release"),
    [
        *((name, release) for name in BUNDLES for release in RELEASES),
        *(("four_bits", release) for release in RELEASES if release != "1.20.0"),
    ],
)
def test_golden_cases_hold_in_every_release(
    name: str, release: str | None, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    found = ask_tool("verify", folder, release=release)
    assert found["onnxruntime"] == (release or onnxruntime.__version__)
    assert found["cases"] == len(read_golden(folder, load_manifest(folder))) > 0
    assert 0 < found["max_abs_error_float"] <= found["allowed_error_float"]
    assert found["agreed"] == found["decided"]
    assert (found["decided"] > 0) == (name != "hidden")


@pytest.mark.parametrize("release", (None, "1.23.0", "1.24.1"))
def test_a_language_models_prompts_hold_in_every_release(
    release: str | None, tied_decoder: Path
) -> None:
    found = ask_tool("verify", tied_decoder, release=release)
    assert found["cases"] == 4 and found["agreed"] == found["decided"] > 4


def test_hidden_states_have_cases_with_the_adapter_and_without(hidden: Path) -> None:
    cases = read_golden(hidden, load_manifest(hidden))
    assert {case.adapter for case in cases} == {"headless", None}


@pytest.mark.parametrize("name", BUNDLES)
def test_the_comparison_is_that_of_python(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    manifest = load_manifest(folder)
    cases = read_golden(folder, manifest)
    expected = compare(cases, run_cases(folder, manifest, cases), manifest)
    found = ask_tool("verify", folder)
    for field in ("max_abs_error", "max_abs_error_float", "allowed_error_float"):
        assert found[field] == pytest.approx(getattr(expected, field), rel=1e-6), field
    assert (found["decided"], found["agreed"]) == (expected.decided, expected.agreed)


@pytest.mark.parametrize("name", BUNDLES)
def test_outputs_are_those_of_python_bit_by_bit(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(name)
    runner = Runner.load(folder, threads=1)
    inputs = {
        n: v for n, v in runner.tokenize(["a fine film, warm and funny", "bad"]).inputs.items()
    }
    save_file(inputs, tmp_path / "in.safetensors")
    for adapter in runner.adapters or [None]:
        chosen = ["--adapter", adapter] if adapter else []
        files = ["--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.safetensors"]
        done = call_tool("run", "--threads", 1, *chosen, *files, folder)
        assert done.returncode == 0, done.stderr
        expected = runner.run(inputs, adapter=adapter)
        found = load_file(tmp_path / "out.safetensors")
        assert found.keys() == expected.keys()
        for output, value in expected.items():
            np.testing.assert_array_equal(found[output], value, output)


def test_adapters_are_on_off_and_switched_as_in_python(hidden: Path) -> None:
    runner, bundle = Runner.load(hidden, threads=1), Bundle(hidden, threads=1)
    inputs = dict(runner.tokenize(["a fine film"]).inputs)
    answers = []
    for adapter in ("headless", None, "headless"):
        runner.use(adapter)
        bundle.set_adapter(adapter)
        answers.append(bundle.run(inputs)["last_hidden_state"])
        np.testing.assert_array_equal(answers[-1], runner.run(inputs)["last_hidden_state"])
    bundle.close()
    assert abs(answers[0] - answers[1]).max() > 0.01
    np.testing.assert_array_equal(answers[0], answers[2])


@pytest.mark.parametrize("release", RELEASES)
def test_integer_products_are_exact_in_every_release(release: str | None) -> None:
    found = ask_tool("cases", CASES, release=release)
    assert found["exact"] == found["cases"] == 48


def test_golden_cases_that_are_cut_are_damaged(tiny_bundle: Path) -> None:
    (tiny_bundle / "golden.safetensors").write_bytes(b"\x01")
    change_manifest(tiny_bundle, lambda manifest: manifest["golden"].update(adapters=["one"]))
    bundle = Bundle(tiny_bundle, verify=NEVER)
    with pytest.raises(Refused) as raised:
        bundle.verify()
    assert raised.value.code == "damaged"
    (tiny_bundle / "golden.safetensors").write_bytes(save({"x": np.zeros(1)}))
    with pytest.raises(Refused, match="found a case without its inputs or answers"):
        bundle.verify()
    bundle.close()


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_golden_answers_that_differ_fail_the_gate(tiny_bundle: Path, off: float) -> None:
    bundle = Bundle(tiny_bundle, verify=NEVER)
    exact = bundle.run(tokens(), "one")["hidden"]
    cases = {f"input.0.{name}": value for name, value in tokens().items()}
    cases |= {"output.0.hidden": exact, "float.0.hidden": exact + np.float32(off)}
    cases["output.0.hidden"] = exact + np.float32(off)
    save_file(cases, tiny_bundle / "golden.safetensors")
    change_manifest(tiny_bundle, lambda manifest: manifest["golden"].update(adapters=["one"]))
    again = Bundle(tiny_bundle, verify=NEVER)
    if off:
        with pytest.raises(Refused, match="from the float model, expected at most") as raised:
            again.verify()
        assert raised.value.code == "gate_failed"
    else:
        assert again.verify().max_abs_error == 0
    bundle.close()
    again.close()
