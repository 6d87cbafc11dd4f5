"""Embedding tables in 4 bits, against onnxruntime's own look-up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.blockwise import quantize_blocks
from edge_lra.quantize.schemes import SCHEMES
from edge_lra.quantize.stored import BlockWeight, Int8Weight
from edge_lra.quantize.tables import WORD_BLOCK, WordRows, quantize_words
from edge_lra.weights import Source

Array = np.ndarray


def table() -> Array:
    return np.random.default_rng(0).normal(size=(7, 48))


def source(array: Array) -> Source:
    checkpoint = cast(Any, SimpleNamespace(tensors={}))
    return Source(checkpoint, "words", array.shape, replacement=array)


def looked_up(stored: WordRows, ids: Array) -> Array:
    """Return what onnxruntime gathers, float16."""
    tensors: dict[str, list[Array]] = {}
    for name, _, rows in stored.pieces():
        tensors.setdefault(name, []).append(rows)
    types = {"uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16}
    weights = [
        helper.make_tensor(
            s.name, types[s.dtype], s.shape, np.concatenate(tensors[s.name]).tobytes(), raw=True
        )
        for s in stored.specs
    ]
    node = helper.make_node(
        "GatherBlockQuantized", [weights[0].name, "ids", weights[1].name], ["y"],
        domain="com.microsoft", bits=4, block_size=WORD_BLOCK, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ids.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
        weights,
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, {"ids": ids})[0])


def test_onnxruntime_gathers_the_words_that_were_meant() -> None:
    words, ids = table(), np.array([[6, 0, 3], [3, 3, 1]])
    meant = quantize_words(words).weight(4, 48)
    found = looked_up(WordRows("w", source(words)), ids)
    np.testing.assert_array_equal(found, meant[ids].astype(np.float16))


@pytest.mark.parametrize("scheme", ["int4", "int8-weight-only"])
def test_a_heads_rows_are_gathered_as_they_are_multiplied_by(scheme: str) -> None:
    graph, head = GraphBuilder(), np.random.default_rng(1).normal(size=(7, 96))
    y = SCHEMES[scheme]().tied_embedding(
        graph, graph.input("ids", "int64", [2, 3]), "head", source(head)
    )
    assert y is not None
    (stored,) = graph.weights
    assert isinstance(stored, BlockWeight)
    tensors = {name: rows for name, _, rows in stored.pieces()}
    for name, view in graph.views.items():
        whole = tensors[name].reshape(view.shape)
        graph.values[view.name].const_value = ir.tensor(whole, name=view.name)
    for spec in stored.specs:
        del graph.values[spec.name]  # that the head alone reads
    model = ir.to_proto(graph.model([("y", y, [2, 3, 96])], "g"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = np.array([[6, 0, 3], [3, 3, 1]])
    (found,) = session.run(None, {"ids": ids})
    meant = stored.shown(*(tensors[spec.name] for spec in stored.specs))
    np.testing.assert_array_equal(found, meant[ids].astype(np.float32))
    assert np.abs(found - head[ids]).max() < np.abs(head).max() / 128


@pytest.mark.parametrize(("scheme", "width"), [("int4", 40), ("int8", 96), ("none", 96)])
def test_a_head_of_broken_blocks_or_another_form_is_stored_apart(scheme: str, width: int) -> None:
    graph = GraphBuilder()
    ids = graph.input("ids", "int64", ["n"])
    head = source(np.ones((5, width)))
    assert SCHEMES[scheme]().tied_embedding(graph, ids, "head", head) is None
    assert not graph.weights and not graph.nodes


def test_words_lie_nearer_than_with_each_blocks_largest_value_kept() -> None:
    words = table()
    kept = quantize_blocks(words, 4, WORD_BLOCK).weight(4, 48)
    found = quantize_words(words).weight(4, 48)
    assert np.square(found - words).sum() < 0.9 * np.square(kept - words).sum()


@pytest.mark.parametrize("size", [0.0, 1e-12])
def test_a_row_below_what_float16_holds_is_zero(size: float) -> None:
    words = table()
    words[2] *= size
    found = looked_up(WordRows("w", source(words)), np.arange(7))
    assert (found[2] == 0).all() and np.abs(found[1]).max() > 1


@pytest.mark.parametrize(
    ("scheme", "width", "words", "stored"),
    [
        ("int4", 48, True, WordRows),
        ("int4", 40, True, Int8Weight),  # no whole blocks
        ("int4", 48, False, Int8Weight),
        ("int8", 48, True, Int8Weight),
    ],
)
def test_only_int4_keeps_an_encoders_words_in_four_bits(
    scheme: str, width: int, words: bool, stored: type
) -> None:
    graph = GraphBuilder()
    SCHEMES[scheme]().embedding(
        graph, graph.input("ids", "int64", ["n"]), "w", source(np.ones((5, width))), words
    )
    assert [type(weight) for weight in graph.weights] == [stored]
