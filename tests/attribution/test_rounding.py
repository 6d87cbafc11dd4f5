"""Activations are rounded in numpy as onnxruntime rounds them."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edge_lra.attribution.rounding import Sample, by_block, by_constant, by_row, by_tensor
from edge_lra.quantize.blockwise import quantize_blocks

ROWS = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)


def whole(rows: np.ndarray) -> Sample:
    """Return a sample that is all there is of one text."""
    return Sample(rows, np.zeros(len(rows), int), rows.min(0)[None], rows.max(0)[None])


def run(node: str, x: np.ndarray, stored: dict[str, np.ndarray], **attributes: object) -> list:
    """Return an operator's outputs, `stored` its further inputs."""
    domain = attributes.pop("domain", "")
    outputs = ["y", "step", "zero"] if node == "DynamicQuantizeLinear" else ["y"]
    made = helper.make_node(node, ["x", *stored], outputs, domain=domain, **attributes)
    graph = helper.make_graph(
        [made],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})


def test_a_value_rounded_as_a_whole_has_the_operators_integers() -> None:
    integers, step, zero = run("DynamicQuantizeLinear", ROWS, {})
    found = by_tensor(whole(ROWS))
    np.testing.assert_array_equal(found.integers, integers)
    np.testing.assert_allclose(found.values, (integers - np.float32(zero)) * step, rtol=1e-6)


def test_rows_of_a_text_are_rounded_by_the_range_of_the_whole_text() -> None:
    integers, _, _ = run("DynamicQuantizeLinear", ROWS, {})
    part = Sample(ROWS[3:5], np.zeros(2, int), ROWS.min(0)[None], ROWS.max(0)[None])
    np.testing.assert_array_equal(by_tensor(part).integers, integers[3:5])


def test_each_text_is_rounded_by_its_own_range() -> None:
    rows = np.concatenate([ROWS, 50 * ROWS])
    low, high = (
        np.stack([edge(ROWS, axis=0), edge(50 * ROWS, axis=0)]) for edge in (np.min, np.max)
    )
    found = by_tensor(Sample(rows, np.repeat([0, 1], 20), low, high))
    np.testing.assert_array_equal(found.integers[:20], by_tensor(whole(ROWS)).integers)


def test_a_constant_scale_cuts_what_it_does_not_reach() -> None:
    step, zero = np.array(0.01, np.float32), np.array(100, np.uint8)
    (integers,) = run("QuantizeLinear", ROWS, {"s": step, "z": zero})
    found = by_constant(float(step), int(zero))(whole(ROWS))
    np.testing.assert_array_equal(found.integers, integers)
    assert found.values.max() == np.float32(155) * step


def test_a_rows_rounding_does_not_depend_on_the_others() -> None:
    rows = ROWS * np.linspace(1, 100, 20, dtype=np.float32)[:, None]
    found = by_row(whole(rows)).values
    np.testing.assert_array_equal(found[:1], by_row(whole(rows[:1])).values)
    assert (np.abs(found - rows).max(1) <= np.ptp(rows, axis=1) / 255 * 0.501).all()


def test_blocks_give_what_the_kernel_multiplies() -> None:
    weight = np.random.default_rng(1).normal(size=(16, 64))
    blocks = quantize_blocks(weight, 8)
    stored = {"w": blocks.packed, "s": blocks.scale.reshape(-1)}
    sizes = {"K": 64, "N": 16, "bits": 8, "block_size": 32, "accuracy_level": 4}
    (found,) = run("MatMulNBits", ROWS, stored, domain="com.microsoft", **sizes)
    expected = by_block(whole(ROWS)).values @ blocks.weight(8, 64).T
    # The rounding itself moves the product by .007; kernels differ in a few roundings of ties.
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_a_last_block_may_be_short() -> None:
    found = by_block(whole(ROWS[:, :40])).values
    np.testing.assert_array_equal(found[:, :32], by_block(whole(ROWS)).values[:, :32])
    assert np.abs(found - ROWS[:, :40]).max() <= np.abs(ROWS).max() / 254 * 1.001


def test_an_outlier_coarsens_its_own_block_alone() -> None:
    rows = ROWS.copy()
    rows[:, 7] *= 50
    found, before = (by_block(whole(values)).values for values in (rows, ROWS))
    np.testing.assert_array_equal(found[:, 32:], before[:, 32:])
    own = [i for i in range(32) if i != 7]
    assert np.abs(found - rows)[:, own].mean() > 10 * np.abs(before - ROWS)[:, own].mean()
