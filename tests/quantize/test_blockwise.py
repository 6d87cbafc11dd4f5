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


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_integers_times_scales_are_the_weight_within_half_a_step(bits: int) -> None:
    weight = np.random.default_rng(0).normal(size=(6, 100))  # the last block is not full
    weight[2] = 0
    found = quantize_blocks(weight, bits)
    assert found.packed.shape == (6, 4, BLOCK * bits // 8)
    wide = np.repeat(found.scale.astype(np.float64), BLOCK, axis=1)
    shown = (unpack(found.packed, bits) * wide)[:, :100]
    np.testing.assert_array_equal(shown, found.weight)
    errors = np.abs(weight - shown)
    assert errors.max() == found.max_error
    # The largest value of the other sign may lie half a step beyond the last integer.
    assert (errors <= np.abs(wide[:, :100]) * 1.0001).all()
    assert np.median(errors / np.abs(wide[:, :100])) < 0.3


@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_value_of_a_block_is_kept(bits: int) -> None:
    weight = np.random.default_rng(1).normal(size=(4, 64))
    blocks = [a.reshape(4, 2, BLOCK) for a in (weight, quantize_blocks(weight, bits).weight)]
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
    np.testing.assert_allclose(y, x @ found.weight.T, rtol=0, atol=2e-4)
