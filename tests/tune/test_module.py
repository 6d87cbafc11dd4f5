from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from edge_lra.adapters import read_adapter
from edge_lra.adapters.kinds.layers import KINDS, LayersWeight
from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.tune import LowRankAdapter, insert, load_adapter, save_adapter
from edge_lra.tune.module import ACTIVATIONS
from edge_lra.weights import Source

IDS = torch.arange(12).reshape(2, 6)


def bert() -> transformers.BertForSequenceClassification:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=16,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config).eval()


def gpt2() -> transformers.GPT2LMHeadModel:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=16, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def randomize(model: torch.nn.Module) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "adapter_" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.3)


def logits(model: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(IDS).logits)


@pytest.mark.parametrize("kind", ["serial-residual", "parallel"])
def test_a_form_that_keeps_the_output_begins_as_the_base(kind: str) -> None:
    model = bert()
    plain = logits(model)
    insert(model, "both", kind, 4, "gelu")
    np.testing.assert_array_equal(logits(model), plain)


def test_what_is_inserted_is_all_that_is_trained_and_is_counted() -> None:
    model = bert()
    inserted = insert(model, "both", "serial-residual", 4, train=["classifier"])
    assert inserted.sites == [
        f"bert.encoder.layer.{i}.{name}.dense"
        for i in (0, 1)
        for name in ("attention.output", "output")
    ]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        n for n, _ in model.named_parameters() if "adapter_" in n or "classifier" in n
    }
    one_site = 2 * 16 * 4 + 4 + 16
    assert inserted.trainable == 4 * one_site + 2 * 16 + 2
    for site in inserted.sites:
        assert isinstance(model.get_submodule(site), LowRankAdapter)


def test_removing_leaves_no_trace() -> None:
    model = bert()
    model.bert.pooler.requires_grad_(False)
    modules = {name: id(module) for name, module in model.named_modules()}
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    state = copy.deepcopy(model.state_dict())
    inserted = insert(model, "both", "parallel", 4)
    randomize(model)
    inserted.remove()
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert {name: p.requires_grad for name, p in model.named_parameters()} == required
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert state.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("sites", "count"),
    [
        ("attention-output", 2),
        ("ffn-output", 2),
        ("both", 4),
        (["query", "layer.1.attention.self.key"], 3),
        (["ffn-output", "query"], 4),
        ("all-linear", 14),
    ],
)
def test_sites_are_found_by_role_or_by_the_end_of_a_name(
    sites: str | list[str], count: int
) -> None:
    assert len(insert(bert(), sites, "parallel", 2).sites) == count


def test_all_linears_are_those_that_are_no_head() -> None:
    names = insert(bert(), "all-linear", "parallel", 2, train=["classifier"]).sites
    assert len(names) == 13 and "bert.pooler.dense" in names
    assert len(insert(gpt2(), "all-linear", "parallel", 2).sites) == 8


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (["query", "nothing"], "found no linear for nothing"),
        ("LayerNorm", "found no linear for LayerNorm"),
    ],
)
def test_a_name_that_matches_no_linear_is_named(sites: str | list[str], message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        insert(bert(), sites, "parallel", 2)


@pytest.mark.parametrize(("kind", "activation"), itertools.product(KINDS, ACTIVATIONS))
def test_a_saved_adapter_loads_to_the_same_model(
    tmp_path: Path, kind: str, activation: str
) -> None:
    model = bert()
    insert(model, "both", kind, 3, activation, 0.5, train=["classifier"])
    randomize(model)
    save_adapter(model, tmp_path, ["classifier"], task_type="SEQ_CLS")
    fresh = bert()
    torch.nn.init.zeros_(fresh.classifier.weight)
    load_adapter(fresh, tmp_path)
    np.testing.assert_array_equal(logits(fresh), logits(model))


@pytest.mark.parametrize("make", [bert, gpt2], ids=["linear", "conv1d"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_linear_adapter_folds_into_its_base(tmp_path: Path, kind: str, make: object) -> None:
    model = make()  # type: ignore[operator]
    model.save_pretrained(tmp_path / "base")
    insert(model, "both", kind, 3, "linear", 0.5)
    randomize(model)
    (tmp_path / "adapter").mkdir()
    save_adapter(model, tmp_path / "adapter")
    base = Checkpoint(tmp_path / "base")
    adapter = read_adapter(tmp_path / "adapter", "a", base.tensors, ())
    assert adapter.kind == "low-rank-layers" and len(adapter.updates) == 8
    merged = make()  # type: ignore[operator]
    state = merged.state_dict()
    for name, update in adapter.updates.items():
        source = Source(base, name, base.tensors[name].shape, update)
        rows = np.concatenate([part for _, part in source.chunks()])
        state[name].copy_(torch.from_numpy(rows))
    wanted = logits(model)
    assert np.linalg.norm(logits(merged) - wanted) <= 1e-5 * np.linalg.norm(wanted)
    assert np.linalg.norm(logits(make()) - wanted) > 1e-2 * np.linalg.norm(wanted)  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_its_formula_in_numpy_is_what_torch_computes(
    tmp_path: Path, kind: str, activation: str
) -> None:
    model = bert()
    model.save_pretrained(tmp_path / "base")
    insert(model, ["intermediate.dense"], kind, 3, activation, 0.5)
    randomize(model)
    (tmp_path / "adapter").mkdir()
    save_adapter(model, tmp_path / "adapter")
    base = Checkpoint(tmp_path / "base")
    adapter = read_adapter(tmp_path / "adapter", "a", base.tensors, ())
    name = "bert.encoder.layer.1.intermediate.dense"
    update = adapter.updates[f"{name}.weight"]
    assert isinstance(update, LayersWeight)
    module = model.get_submodule(name)
    x = torch.randn(5, 16)
    with torch.no_grad():
        y, wanted = module.base_layer(x), module(x)  # type: ignore[operator]
    np.testing.assert_allclose(update.layers.apply(x.numpy(), y.numpy()), wanted, atol=1e-6)
