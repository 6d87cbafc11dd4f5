"""Decoder graphs in every scheme: close to float, exact where only dividing happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edge_lra.adapters.factored import with_factors
from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.builder import GraphBuilder
from edge_lra.graph.decoder import build_decoder
from edge_lra.graph.plan import Built, Plan
from edge_lra.packing import adapter_tensors, off_shape
from edge_lra.planning import adapter_slots
from edge_lra.quantize.digits import Rounding
from edge_lra.quantize.schemes import Float, KeepFloat, Named
from edge_lra.quantize.stored import single_weights
from edge_lra.recipe import DecoderRecipe
from edge_lra.weights import Stored
from tests.graph.decoders import (
    Stepper,
    float_logits,
    plan_for,
    random_model,
    token_ids,
    write_graph,
)
from tests.graph.test_decoder_adapters import read, stack, train

FAMILIES = ("llama", "llama-tied", "llama-biases", "gemma3", "gpt2")
# Share of the logits that random models, which amplify noise, may be off by.
ERRORS = {"int8": 0.05, "int8-weight-only": 0.05, "int4": 0.35}


class Divided(Float):
    """Float32 that divides what int8 divides."""

    calibrates = smooths_head = True


@pytest.mark.parametrize("name", FAMILIES)
def test_dividing_channels_changes_nothing_in_float(tmp_path: Path, name: str) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path / "base")
    built = build_decoder(replace(plan_for(tmp_path / "base"), scheme=Divided()))
    _, every = Stepper(write_graph(built, tmp_path / "graph"), built).run(token_ids((2, 12)))
    assert np.abs(every - float_logits(model, token_ids((2, 12)))).max() <= 1e-4
    divided = [w for w in built.builder.weights if w.source.column_scale is not None]
    assert len(divided) >= 4 * 2  # norms and the linears that read them


@pytest.mark.parametrize("target", ["q_proj", "gate_proj", "up_proj", "down_proj", "o_proj"])
def test_adapters_read_divided_channels(tmp_path: Path, target: str) -> None:
    base = tmp_path / "base"
    random_model("llama").save_pretrained(base)
    model = train(base, "llama", tmp_path / "lora", target_modules=[target])
    adapter = with_factors(read(base, tmp_path / "lora"), Checkpoint(base))
    plan = plan_for(base, slots=adapter_slots([adapter]))
    built = build_decoder(replace(plan, scheme=Divided()))
    tensors = adapter_tensors(adapter, built.adapter_inputs)
    stacks = {
        item.name: stack([np.zeros(off_shape(item), np.float32), tensors[item.name]])
        for item in built.adapter_inputs
    }
    stepper = Stepper(
        write_graph(built, tmp_path / "graph"), built, {**stacks, "adapter_index": np.array([1])}
    )
    ids = token_ids((1, 12))
    _, every = stepper.run(ids)
    assert np.abs(every - float_logits(model, ids)).max() <= 1e-4


@pytest.mark.parametrize("scheme", list(ERRORS))
@pytest.mark.parametrize("name", FAMILIES)
def test_a_scheme_answers_as_float_does_within_its_bits(
    tmp_path: Path, name: str, scheme: str
) -> None:
    model = random_model(name)
    model.save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base", scheme))
    _, every = Stepper(write_graph(built, tmp_path / "graph"), built).run(token_ids((2, 12)))
    expected = float_logits(model, token_ids((2, 12)))
    assert np.linalg.norm(every - expected) <= ERRORS[scheme] * np.linalg.norm(expected)


def test_linears_that_read_one_value_share_one_product(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base", "int8"))
    # Queries, keys and values; the output; gate and up; down; and the head.
    assert Counter(node.op_type for node in built.model.graph)["MatMulInteger"] == 4 * 2 + 1


def test_a_prompt_in_chunks_gives_the_integers_of_a_token_at_a_time(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base", "int8"))
    path, ids = write_graph(built, tmp_path / "graph"), token_ids((1, 16))
    whole, steps = Stepper(path, built), Stepper(path, built)
    _, every = whole.run(ids)
    one = np.concatenate([steps.run(ids[:, i : i + 1])[1] for i in range(16)], axis=1)
    # Attention's sums differ in their last bits between the two, which flips a rounding or two.
    assert np.abs(every - one).max() <= 1e-3 * np.abs(every).max()


def test_int4_keeps_the_head_in_8_bits(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base", "int4"))
    bits = [n.attributes["bits"].value for n in built.model.graph if n.op_type == "MatMulNBits"]
    assert bits == [4] * 7 * 2 + [8]


@pytest.mark.parametrize("scheme", ["int8-weight-only", "int4"])
@pytest.mark.parametrize("name", ["llama-tied", "gemma3", "gpt2"])
def test_a_tied_table_is_stored_once_and_read_by_two_names(
    tmp_path: Path, name: str, scheme: str
) -> None:
    random_model(name).save_pretrained(tmp_path / "base")
    plan = plan_for(tmp_path / "base", scheme)
    built = build_decoder(plan)
    assert len(readers_of_words(built, plan)) == 1
    path = write_graph(built, tmp_path / "graph")
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
    }
    views = built.builder.views
    assert [places[name] for name in views] == [places[view.name] for view in views.values()]
    scales = 1 if scheme == "int4" else 2  # of a row of 64, in int4 one a block of 64
    assert built.decoder and built.decoder["shared_bytes"] == 96 * 64 + 96 * 4 * scales


@pytest.mark.parametrize(
    ("name", "scheme", "kept"),
    [("llama", "int4", ()), ("llama-tied", "int8", ()), ("llama-tied", "int4", ("*embed_tokens",))],
)
def test_what_is_untied_or_of_another_form_is_stored_apart(
    tmp_path: Path, name: str, scheme: str, kept: tuple[str, ...]
) -> None:
    random_model(name).save_pretrained(tmp_path / "base")
    plan = plan_for(tmp_path / "base", scheme)
    built = build_decoder(replace(plan, scheme=KeepFloat(plan.scheme, kept)))
    assert len(readers_of_words(built, plan)) == (1 if name == "llama" else 2)
    assert not built.builder.views and built.decoder and built.decoder["shared_bytes"] == 0


def readers_of_words(built: Built, plan: Plan) -> list[Stored]:
    """Return what is stored of the embedding's tensor."""
    assert isinstance(plan.recipe, DecoderRecipe)
    table = plan.names[plan.recipe.embeddings["word"]]
    return [w for w in single_weights(built.builder.weights) if w.source.tensor == table]


def test_named_linears_stay_in_float_beside_those_that_share(tmp_path: Path) -> None:
    model = random_model("llama")
    model.save_pretrained(tmp_path / "base")
    plan = plan_for(tmp_path / "base", "int8")
    scheme = KeepFloat(plan.scheme, ["*k_proj", "*layers.1.mlp*", "lm_head"])
    built = build_decoder(replace(plan, scheme=scheme))
    counts = Counter(node.op_type for node in built.model.graph)
    assert not scheme.unused and counts["MatMul"] == 2 + 3 + 1
    _, every = Stepper(write_graph(built, tmp_path / "graph"), built).run(token_ids((2, 12)))
    expected = float_logits(model, token_ids((2, 12)))
    assert np.linalg.norm(every - expected) <= ERRORS["int8"] * np.linalg.norm(expected)


class Joined(Divided):
    """Float32 that multiplies side by side what int8 multiplies so."""

    def joined(
        self, graph: GraphBuilder, x: ir.Value, weights: Named, rounding: Rounding
    ) -> ir.Value:
        values = [self.linear(graph, x, name, weight) for name, weight in weights]
        return graph.op("Concat", values, axis=-1)


def test_packed_readers_get_the_adapters_of_each_linear(tmp_path: Path) -> None:
    base = tmp_path / "base"
    random_model("llama").save_pretrained(base)
    targets = {"one": ["k_proj"], "two": ["q_proj", "v_proj"]}
    models = {
        name: train(base, "llama", tmp_path / name, place, r=2 + place, target_modules=modules)
        for place, (name, modules) in enumerate(targets.items())
    }
    checkpoint = Checkpoint(base)
    adapters = [with_factors(read(base, tmp_path / name), checkpoint) for name in targets]
    plan = replace(plan_for(base, slots=adapter_slots(adapters)), scheme=Joined())
    built = build_decoder(plan)
    assert {item.role for item in built.adapter_inputs} == {"down", "joined_up"}
    parts = [adapter_tensors(adapter, built.adapter_inputs) for adapter in adapters]
    stacks = {
        item.name: stack(
            [np.zeros(off_shape(item), np.float32), *(part[item.name] for part in parts)]
        )
        for item in built.adapter_inputs
    }
    feeds = {**stacks, "adapter_index": np.array([1, 0, 2])}
    stepper = Stepper(write_graph(built, tmp_path / "graph"), built, feeds)
    ids = np.repeat(token_ids((1, 12)), 3, axis=0)
    _, every = stepper.run(ids)
    expected = [models["one"], random_model("llama"), models["two"]]
    for row, model in enumerate(expected):
        assert np.abs(every[row] - float_logits(model, ids[:1])[0]).max() <= 1e-4


@pytest.mark.parametrize(
    ("name", "packed"), [("llama", True), ("llama-biases", False), ("qwen3", False)]
)
def test_readers_are_packed_where_nothing_lies_between(
    tmp_path: Path, name: str, packed: bool
) -> None:
    random_model(name).save_pretrained(tmp_path / "base")
    built = build_decoder(plan_for(tmp_path / "base", "int8"))
    (node, *_) = [n for n in built.model.graph if n.op_type == "GroupQueryAttention"]
    assert (node.inputs[1] is None) == packed
