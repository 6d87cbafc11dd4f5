from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_lra.quantize.blockwise import BLOCK, quantize_blocks

Array = np.ndarray


def unpack(packed: Array, bits: int) -> Array:
    """Return the integers (rows, blocks * 32) that packed bytes hold, by the operator's rule."""
    if bits == 8:
        return packed.reshape(len(packed), -1).astype(np.int64) - 128
    low, high = packed & 15, packed >> 4
    return np.stack([low, high], axis=-1).reshape(len(packed), -1).astype(np.int64) - 8


@pytest.mark.parametrize(("bits", "block"), [(4, BLOCK), (8, BLOCK), (4, 16)])
def test_packed_integers_times_scales_are_the_weight_within_half_a_step(
    bits: int, block: int
) -> None:
    weight = np.random.default_rng(0).normal(size=(6, 100))  # the last block is not full
    weight[2] = 0
    found = quantize_blocks(weight, bits, block)
    assert found.packed.shape == (6, -(-100 // block), block * bits // 8)
    wide = np.repeat(found.scale.astype(np.float64), block, axis=1)
    shown = (unpack(found.packed, bits) * wide)[:, :100]
    np.testing.assert_array_equal(shown, found.weight(bits, 100))
    errors = np.abs(weight - shown)
    # The largest value of the other sign may lie half a step beyond the last integer.
    assert (errors <= np.abs(wide[:, :100]) * 1.0001).all()
    assert np.median(errors / np.abs(wide[:, :100])) < 0.3


@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_value_of_a_block_is_kept(bits: int) -> None:
    weight = np.random.default_rng(1).normal(size=(4, 64))
    kept_weight = quantize_blocks(weight, bits).weight(bits, 64)
    blocks = [a.reshape(4, 2, BLOCK) for a in (weight, kept_weight)]
    place = np.abs(blocks[0]).argmax(axis=2, keepdims=True)
    given, kept = (np.take_along_axis(block, place, axis=2) for block in blocks)
    np.testing.assert_allclose(kept, given, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_onnxruntime_reads_the_packed_weight_as_it_was_meant(bits: int) -> None:
    random = np.random.default_rng(2)
    found = quantize_blocks(random.normal(size=(8, 96)), bits)
    x = random.normal(size=(5, 96)).astype(np.float32)
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft",
        K=96, N=8, bits=bits, block_size=BLOCK,
    )  # fmt: skip
    float_, bytes_ = TensorProto.FLOAT, TensorProto.UINT8
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", float_, x.shape)],
        [helper.make_tensor_value_info("y", float_, (5, 8))],
        [
            helper.make_tensor("w", bytes_, found.packed.shape, found.packed.tobytes(), raw=True),
            helper.make_tensor("s", float_, (found.scale.size,), found.scale.ravel()),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, x @ found.weight(bits, 96).T, rtol=0, atol=2e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_float32_rows_round_as_float64_ones_but_where_two_values_are_the_largest(bits: int) -> None:
    weight = np.random.default_rng(3).normal(size=(64, 100)).astype(np.float32)
    narrow, wide = quantize_blocks(weight, bits), quantize_blocks(weight.astype(np.float64), bits)
    np.testing.assert_array_equal(narrow.scale, wide.scale)
    # The quotient of two float32 numbers may round to the other side of a half.
    assert (unpack(narrow.packed, bits) != unpack(wide.packed, bits)).mean() < 1e-3


def test_of_two_largest_values_float32_takes_the_positive_one() -> None:
    weight = np.full((2, BLOCK), 0.25, np.float32)
    weight[0, 3], weight[0, 7] = -1, 1
    weight[1, 3], weight[1, 7] = 1, -1
    scale = quantize_blocks(weight, 8).scale
    np.testing.assert_array_equal(scale, np.full((2, 1), -1 / 128, np.float32))
