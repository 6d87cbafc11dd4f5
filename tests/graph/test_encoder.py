from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from edge_lra.adapters import Adapter, LowRank
from edge_lra.bundle import sha256_file
from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.encoder import Built, Plan, build_encoder
from edge_lra.oracle import Oracle
from edge_lra.packing import adapter_tensors
from edge_lra.quantize.schemes import SCHEMES
from edge_lra.recipe import find_recipe
from edge_lra.writer import write_data, write_model

SIZES = {
    "bert": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "roberta": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4},
}
TASKS = {
    "feature-extraction": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}


def checkpoint(path: Path, family: str, task: str) -> Checkpoint:
    inner = {"hidden_dim": 128} if family == "distilbert" else {"intermediate_size": 128}
    config = transformers.AutoConfig.for_model(
        family, vocab_size=200, max_position_embeddings=40, **inner, **SIZES[family]
    )
    torch.manual_seed(0)
    getattr(transformers, TASKS[task]).from_config(config).save_pretrained(path)
    return Checkpoint(path)


def export(base: Checkpoint, folder: Path, scheme: str, task: str, **options: object) -> Built:
    folder.mkdir()
    recipe = find_recipe(base.config)
    names = recipe.resolve(base.tensors)
    plan = Plan(recipe, base.config, base, SCHEMES[scheme](), task, names, **options)
    built = build_encoder(plan)
    layout = write_data(built.builder, folder / "model.onnx.data")
    fingerprint = sha256_file(folder / "model.onnx.data")
    write_model(built.model, built.builder, layout, folder, fingerprint)
    return built


def tokens(built: Built) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    ids = random.integers(5, 200, (3, 17))
    mask = np.ones((3, 17), np.int64)
    ids[1, 11:], mask[1, 11:] = 1, 0
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: values[name] for name, _ in built.inputs}


def run(folder: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("family", list(SIZES))
@pytest.mark.parametrize("task", list(TASKS))
def test_the_float_graph_gives_the_oracles_answers(tmp_path: Path, family: str, task: str) -> None:
    base = checkpoint(tmp_path / "base", family, task)
    built = export(base, tmp_path / "out", "none", task)
    feeds = tokens(built)
    expected = Oracle(base.path, task, None, None, None).run(feeds)
    found = run(tmp_path / "out", feeds)
    attended = feeds["attention_mask"].astype(bool)
    for name, values in expected.items():
        pick = ... if values.shape[:2] != attended.shape else attended
        np.testing.assert_allclose(found[name][pick], values[pick], atol=2e-5)


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
    expected = Oracle(base.path, "feature-extraction", None, None, None).run(feeds)
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
    adapter = Adapter("a", tmp_path, sites, {}, 2, None, None, {})
    export(base, tmp_path / "merged", "none", task, merged=sites)
    built = export(base, tmp_path / "factored", "int8", task, sites=frozenset(sites))
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
    built = export(base, tmp_path / "factored", "none", task, sites=frozenset({site}))
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
