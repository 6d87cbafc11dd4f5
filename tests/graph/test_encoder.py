from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edge_lra.adapters import Adapter, LowRank
from edge_lra.adapters.factored import with_factors
from edge_lra.bundle import sha256_file
from edge_lra.graph.factors import Slot
from edge_lra.graph.plan import LAYER_OUTPUT
from edge_lra.oracle import Oracle
from edge_lra.packing import adapter_tensors
from tests.graph.encoders import SIZES, TASKS, checkpoint, export, run, tokens


@pytest.mark.parametrize("family", list(SIZES))
@pytest.mark.parametrize("task", list(TASKS))
def test_the_float_graph_gives_the_oracles_answers(tmp_path: Path, family: str, task: str) -> None:
    base = checkpoint(tmp_path / "base", family, task)
    built = export(base, tmp_path / "out", "none", task)
    feeds = tokens(built)
    expected = Oracle(base.path, task, [], None, None).run(feeds)
    found = run(tmp_path / "out", feeds)
    attended = feeds["attention_mask"].astype(bool)
    for name, values in expected.items():
        pick = ... if values.shape[:2] != attended.shape else attended
        np.testing.assert_allclose(found[name][pick], values[pick], atol=2e-5)


@pytest.mark.parametrize("scheme", ["none", "int8", "int4"])
def test_a_head_of_one_token_asks_the_last_layer_for_no_other(tmp_path: Path, scheme: str) -> None:
    base = checkpoint(tmp_path / "base", "bert", "sequence-classification")
    built = export(base, tmp_path / "out", scheme, "sequence-classification")
    nodes = {str(node.outputs[0].name): node for node in built.model.graph}
    last = LAYER_OUTPUT.format(i=1)
    built.model.graph.outputs.append(nodes[last].outputs[0])
    ir.save(built.model, tmp_path / "out" / "probe.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "probe.onnx")
    feeds = tokens(built)
    (found,) = session.run([last], feeds)
    assert found.shape[:2] == (len(feeds["input_ids"]), 1)


def test_a_batch_without_padding_gives_the_masked_answers(tmp_path: Path) -> None:
    task = "feature-extraction"
    base = checkpoint(tmp_path / "base", "bert", task)
    feeds = tokens(export(base, tmp_path / "out", "none", task))
    (padded,) = run(tmp_path / "out", feeds).values()
    (rest,) = run(tmp_path / "out", {name: v[[0, 2]] for name, v in feeds.items()}).values()
    np.testing.assert_allclose(rest, padded[[0, 2]], atol=2e-6)
    (short,) = run(tmp_path / "out", {name: v[1:2, :11] for name, v in feeds.items()}).values()
    np.testing.assert_allclose(short, padded[1:2, :11], atol=2e-6)


def test_the_int8_graph_stays_close_to_the_oracle(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "bert", "feature-extraction")
    built = export(base, tmp_path / "out", "int8", "feature-extraction")
    feeds = tokens(built)
    expected = Oracle(base.path, "feature-extraction", [], None, None).run(feeds)
    found = run(tmp_path / "out", feeds)["last_hidden_state"]
    attended = feeds["attention_mask"].astype(bool)
    error = (found - expected["last_hidden_state"])[attended]
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(expected["last_hidden_state"][attended])


def test_int8_factors_at_every_linear_give_the_merged_answer(tmp_path: Path) -> None:
    task = "feature-extraction"
    base = checkpoint(tmp_path / "base", "bert", task)
    random = np.random.default_rng(0)
    sites = {
        name: LowRank(
            random.normal(size=(2, i.shape[1])), random.normal(size=(i.shape[0], 2)), 0.08
        )
        for name, i in base.tensors.items()
        if name.startswith("encoder") and len(i.shape) == 2
    }
    assert len(sites) == 12
    adapter = with_factors(Adapter("a", tmp_path, sites, {}, None, None, {}), base)
    export(base, tmp_path / "merged", "none", task, merged=sites)
    slots = {site: Slot(low_rank=True) for site in sites}
    built = export(base, tmp_path / "factored", "int8", task, slots=slots)
    feeds = tokens(built)
    on = adapter_tensors(adapter, built.adapter_inputs)
    off = {name: v[:, :0] if "down" in name else v[:0] for name, v in on.items()}
    mask = feeds["attention_mask"].astype(bool)
    merged = run(tmp_path / "merged", feeds)["last_hidden_state"][mask]
    found = run(tmp_path / "factored", feeds | on)["last_hidden_state"][mask]
    assert np.linalg.norm(found - merged) < 0.05 * np.linalg.norm(merged)
    plain = run(tmp_path / "factored", feeds | off)["last_hidden_state"][mask]
    assert np.linalg.norm(plain - merged) > 0.15 * np.linalg.norm(merged)


def test_factors_as_inputs_give_the_merged_answer_and_the_same_data(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "bert", "feature-extraction")
    site = "encoder.layer.1.attention.self.value.weight"
    random = np.random.default_rng(0)
    down, up = random.normal(size=(4, 64)), random.normal(size=(64, 4))
    adapter = LowRank(down, up, 0.1)
    task = "feature-extraction"
    plain = export(base, tmp_path / "plain", "none", task)
    export(base, tmp_path / "merged", "none", task, merged={site: adapter})
    built = export(base, tmp_path / "factored", "none", task, slots={site: Slot(low_rank=True)})
    feeds = tokens(plain)
    names = [item.name for item in built.adapter_inputs]
    on = dict(zip(names, [down.T.astype("f"), (0.1 * up.T).astype("f")], strict=True))
    off = {name: value[:, :0] if "down" in name else value[:0] for name, value in on.items()}
    name = "last_hidden_state"
    merged, bare = run(tmp_path / "merged", feeds)[name], run(tmp_path / "plain", feeds)[name]
    np.testing.assert_allclose(run(tmp_path / "factored", feeds | on)[name], merged, atol=1e-5)
    np.testing.assert_allclose(run(tmp_path / "factored", feeds | off)[name], bare, atol=1e-6)
    assert np.abs(merged - bare).max() > 1e-2
    assert sha256_file(tmp_path / "plain/model.onnx.data") == sha256_file(
        tmp_path / "factored/model.onnx.data"
    )
