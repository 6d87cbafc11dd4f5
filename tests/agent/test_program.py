"""The program as a transport starts it: JSON in, JSON out, little imported."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_lra.agent import inputs
from edge_lra.agent.__main__ import ANSWERS, answer
from edge_lra.agent.clocks import read_clocks
from edge_lra.agent.cold import PYTHON, measure_cold
from edge_lra.agent.switch import measure_switch
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.runner import Runner
from tests.agent.asked import request_of

HEAVY = {"torch", "onnx", "onnx_ir", "transformers", "peft", "click", "rich", "psutil"}


@pytest.fixture(scope="module")
def bundle(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("program") / "b.edge"
    adapters = [(name, tiny_made / "adapter") for name in ("mood", "tone")]
    request = ExportRequest(out, str(tiny_made / "model"), adapters, mode="factored", verify=False)
    return export(request)


def test_a_mistake_is_answered_not_raised(tmp_path: Path) -> None:
    assert "found no manifest.json" in answer(request_of(tmp_path, "measure"))["error"]
    assert "found 'no', expected one of probe, measure" in answer({"what": "no"})["error"]


@pytest.mark.parametrize("what", sorted({"probe", "measure", "cold", "operators", "sweep"}))
def test_an_answer_is_json_and_loads_nothing_a_device_lacks(bundle: Path, what: str) -> None:
    code = (
        "import json, sys; from edge_lra.agent.__main__ import answer; "
        f"print(json.dumps(answer(json.load(sys.stdin)))); print(*({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(request_of(bundle, what)),
        capture_output=True,
        text=True,
        check=True,
    )
    text, loaded = done.stdout.split("\n")[:2]
    assert "error" not in json.loads(text)
    assert loaded == ""
    assert what in ANSWERS


def test_a_probe_needs_no_onnxruntime() -> None:
    code = (
        "import sys; from edge_lra.agent.__main__ import answer; answer({'what': 'probe'}); "
        "print(*({'numpy', 'onnxruntime', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_inputs_are_tokens_of_the_vocabulary(bundle: Path) -> None:
    runner = Runner.load(bundle, verify="never")
    found = inputs.token_inputs(bundle, runner.input_names, (4, 40))
    assert set(found) == set(runner.input_names)
    assert found["input_ids"].shape == (4, 40)
    assert set(found["input_ids"].ravel()) <= set(range(1, 19))
    assert found["attention_mask"].all()
    with pytest.raises(EdgeError, match="found the input 'pixels'"):
        inputs.token_inputs(bundle, ["pixels"], (1, 8))


def test_a_cold_start_holds_its_stages_and_no_more_than_it_took(bundle: Path) -> None:
    begin = time.monotonic()
    found = measure_cold(request_of(bundle, "cold"))
    elapsed_s = time.monotonic() - begin
    assert sum(found["cold_s"]) < elapsed_s
    for cold_s, imports_s, load_s, first_ms in zip(*found.values(), strict=True):
        assert min(imports_s, load_s, first_ms) > 0
        assert imports_s + load_s + first_ms / 1e3 < cold_s < 30


def test_a_cold_start_that_cannot_be_is_one_line(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON, "no-such-python --flag")
    with pytest.raises(EdgeError, match=f"no-such-python cannot be started.*{PYTHON}"):
        measure_cold(request_of(bundle, "cold"))
    monkeypatch.setenv(PYTHON, "sh -c 'echo first >&2; echo broke >&2; exit 3'")
    with pytest.raises(EdgeError, match=r"the new process failed: broke$"):
        measure_cold(request_of(bundle, "cold"))


def test_the_peak_agrees_with_what_the_system_counted(bundle: Path) -> None:
    """A small shell starts the program: ru_maxrss of a child includes its parent before exec."""
    message = json.dumps(request_of(bundle, "measure"))
    script = (
        "import os, resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'edge_lra.agent'], input=sys.argv[1],"
        " capture_output=True, text=True, check=True)\n"
        "print(done.stdout)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, message], capture_output=True, text=True, check=True
    )
    text, counted_mib = done.stdout.split("\n")[:2]
    peak_mib = json.loads(text)["memory"]["peak_rss_mib"]
    assert peak_mib == pytest.approx(float(counted_mib), rel=0.02)


def test_a_switch_is_timed_where_there_is_another_adapter(bundle: Path) -> None:
    runner = Runner.load(bundle, threads=1, verify="never")
    tokens = inputs.token_inputs(bundle, runner.input_names, (1, 8))
    runner.use(None)
    assert measure_switch(runner, tokens) is None  # none chosen: nothing to come back to
    runner.use("mood")
    found = measure_switch(runner, tokens)
    assert found is not None and 0 < found < 1000
    assert runner.default_adapter == "mood"


def test_prepacking_turned_off_saves_the_copies(tmp_path: Path) -> None:
    """One product with 16 MiB of weights, which lie beside the graph and are mapped."""
    weights = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2048])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2048])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="model.onnx.data"
    )
    code = (
        "import sys, json, pathlib; import edge_lra.agent.inputs as inputs, onnxruntime\n"
        "from edge_lra.agent import unpacked\n"
        "from edge_lra.agent.memory import split\n"
        "inputs.load_manifest = lambda folder: {'files': ['model.onnx', 'model.onnx.data']}\n"
        "found = unpacked.measure_unpacked({'bundles': [sys.argv[1]], 'threads': 1})\n"
        "before = split().anonymous_mib\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "session = inputs.open_session(folder, inputs.session_options(folder, 1))\n"
        "print(json.dumps([found['anonymous_mib'], split().anonymous_mib - before]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    without, packed = json.loads(done.stdout)
    assert packed - without == pytest.approx(16, abs=2)


def test_clocks_are_read_where_the_system_has_them(tmp_path: Path) -> None:
    assert read_clocks(tmp_path) == {"clocks_mhz": {}, "celsius": {}, "throttled": 0}
    core, zone = tmp_path / "devices/system/cpu/cpu0", tmp_path / "class/thermal/thermal_zone0"
    for folder in (core / "cpufreq", core / "thermal_throttle", zone):
        folder.mkdir(parents=True)
    (core / "cpufreq/scaling_cur_freq").write_text("1800000\n")
    (core / "thermal_throttle/core_throttle_count").write_text("3\n")
    (zone / "temp").write_text("61500\n")
    (zone / "type").write_text("cpu-thermal\n")
    assert read_clocks(tmp_path) == {
        "clocks_mhz": {"cpu0": 1800.0},
        "celsius": {"thermal_zone0 cpu-thermal": 61.5},
        "throttled": 3,
    }
