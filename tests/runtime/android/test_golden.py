"""The Java runner answers golden vectors, integers and token for token as the Python runner."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_lra import Generator, Runner
from edge_lra.bundle import describe_files, load_manifest, seal
from edge_lra.golden import check_golden, read_golden
from tests.runner import tiny_decoder as tiny_decoder_module
from tests.runtime.android.probe import Probe
from tests.runtime.android.toolchain import ROOT

BUNDLES = ["merged", "factored", "hidden", "four_bits"]


def test_every_integer_is_exact(probe: Probe) -> None:
    answer = probe.ask("integers", folder=str(ROOT / "runtime/cases"))
    assert answer == {"cases": 48, "wrong": 0}


@pytest.mark.parametrize("name", BUNDLES)
def test_golden_cases_hold_with_the_figures_of_python(
    name: str, probe: Probe, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    expected = check_golden(folder, load_manifest(folder))
    found = probe.ask("golden", runner=probe.load(folder))
    assert found["cases"] == expected["cases"] > 0
    assert found["max_abs_error"] == pytest.approx(expected["max_abs_error"], abs=1e-6)
    assert found["max_abs_error_float"] == pytest.approx(expected["max_abs_error_float"], abs=1e-6)
    assert found["max_abs_error_float"] <= found["allowed_error_float"]
    assert found["agreed"] == found["decided"]


@pytest.mark.parametrize("name", BUNDLES)
def test_outputs_are_those_of_python_to_the_bit(
    name: str, probe: Probe, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    manifest = load_manifest(folder)
    python, runner = Runner.load(folder, threads=1), probe.load(folder)
    cases = read_golden(folder, manifest)
    assert cases
    for case in cases:
        adapter = case.adapter if python.adapters else None
        expected = python.run(case.inputs, adapter=adapter)
        found = probe.run(runner, case.inputs, adapter=adapter)
        assert list(found) == list(expected)
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key])


def test_adapters_switch_and_turn_off(probe: Probe, hidden: Path, factored: Path) -> None:
    python, runner = Runner.load(hidden, threads=1), probe.load(hidden)
    inputs = dict(read_golden(hidden, load_manifest(hidden))[0].inputs)
    results = []
    for adapter in ("headless", None, "headless"):
        probe.ask("use", runner=runner, adapter=adapter)
        found = probe.run(runner, inputs)["last_hidden_state"]
        expected = python.run(inputs, adapter=adapter)["last_hidden_state"]
        np.testing.assert_array_equal(found, expected)
        results.append(found)
    assert abs(results[0] - results[1]).max() > 0.01
    np.testing.assert_array_equal(results[0], results[2])

    runner = probe.load(factored)
    texts = [[101, 1037, 2986, 2143, 1010, 4010, 102], [101, 2986, 102]]
    labels = [
        [
            one["label"]
            for one in probe.ask("classify", runner=runner, texts=texts, adapter=name)["found"]
        ]
        for name in ("sentiment", "mirrored")
    ]
    assert labels == [["positive", "positive"], ["negative", "negative"]]


@pytest.mark.parametrize(
    ("name", "adapters"),
    [("tiny_decoder", [None]), ("tiny_decoder_factored", [None, "one", "two"])],
)
def test_greedy_tokens_are_those_of_python(
    name: str, adapters: list[str | None], probe: Probe, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    runner = probe.load(folder)
    rng = np.random.default_rng(3)
    with Generator.load(folder, threads=1) as python:
        size = python.layout.vocabulary
        for adapter in adapters:
            for length in (1, 7, 50):
                prompt = rng.integers(0, size, length).tolist()
                expected = python.generate(prompt, max_tokens=40, adapter=adapter, stop_tokens=())
                found = probe.ask(
                    "generate",
                    runner=runner,
                    prompt=prompt,
                    max_tokens=40,
                    adapter=adapter,
                    stop_tokens=[],
                )
                assert found["tokens"] == expected.tokens == found["heard"]
                assert found["stoppedBy"] == "MAX_TOKENS"


def test_a_cache_reads_in_chunks_and_grows_as_that_of_python(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_decoder_module, "CONTEXT", 600)
    model = tiny_decoder_module.random_llama()
    folder = tiny_decoder_module.write_bundle(tmp_path / "long.edge", model)
    runner = probe.load(folder)
    rng = np.random.default_rng(4)
    with Generator.load(folder, threads=1) as python:
        for length in (250, 256, 257, 520):  # the cache grows between steps; prompts of chunks
            prompt = rng.integers(0, python.layout.vocabulary, length).tolist()
            expected = python.generate(prompt, max_tokens=40, stop_tokens=())
            found = probe.ask(
                "generate", runner=runner, prompt=prompt, max_tokens=40, stop_tokens=[]
            )
            assert found["tokens"] == expected.tokens


def test_threads_share_a_runner_and_one_may_close_it(probe: Probe, factored: Path) -> None:
    inputs = read_golden(factored, load_manifest(factored))[0].inputs
    answer = probe.ask("together", runner=probe.load(factored), inputs=str(probe.file(inputs)))
    assert answer["right"] == 200 and answer["wrong"] == 0
    assert answer["closed"] >= 20  # the closing thread's own, at least


def test_a_graph_in_onnxruntimes_own_format_runs(
    probe: Probe, tiny_decoder: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_decoder, tmp_path / "x.edge")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(bundle / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(bundle / "model.onnx", options, ["CPUExecutionProvider"])
    for name in ("model.onnx", "model.onnx.data"):
        (bundle / name).unlink()
    manifest = load_manifest(tiny_decoder)
    kept = describe_files(bundle)
    (bundle / "manifest.json").write_bytes(seal(manifest | {"files": kept}))
    asked = {"prompt": [1, 2, 3], "max_tokens": 16, "stop_tokens": []}
    expected = probe.ask("generate", runner=probe.load(tiny_decoder), **asked)
    found = probe.ask("generate", runner=probe.load(bundle), **asked)
    assert found["tokens"] == expected["tokens"] and len(found["tokens"]) == 16
