"""Products of rows in one and two digits, against numpy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edge_lra.graph.builder import GraphBuilder
from edge_lra.quantize.digits import HIGH, LOW, Rounding, multiply_rows, round_rows
from edge_lra.quantize.pairsafe import quantize_pair_safe, quantize_rows

REACH = 32.0
ROUNDINGS = {
    "one digit": Rounding(1),
    "two digits": Rounding(2),
    "two fixed": Rounding(2, REACH),
}
random = np.random.default_rng(0)
# Rows of very different reach, as a decoder's first token and its others.
X = (random.standard_normal((2, 9, 64)) * np.exp(random.normal(0, 1, (2, 9, 1)))).astype(np.float32)
WEIGHT = random.standard_normal((48, 64))


def run(x: np.ndarray, rounding: Rounding, integers: bool = False) -> np.ndarray:
    """Return x times WEIGHT as a session computes it, or x's integers."""
    graph = GraphBuilder()
    value = graph.input("x", "float32", ("batch", "tokens", 64))
    rows = round_rows(graph, value, rounding)
    quantized = stored(rounding)
    weight, scale = (graph.constant(a) for a in (quantized.values.T.copy(), quantized.scale))
    y = multiply_rows(graph, rows, weight, scale)
    model = graph.model([("y", y, ("batch", "tokens", 48))], "product")
    rows.values.dtype = ir.DataType.UINT8
    model.graph.outputs.append(rows.values)
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": x})
    return np.asarray(outputs[1 if integers else 0])


def stored(rounding: Rounding):  # type: ignore[no-untyped-def]
    return (quantize_pair_safe if rounding.digits == 1 else quantize_rows)(WEIGHT)


@pytest.mark.parametrize("name", list(ROUNDINGS))
def test_a_product_is_that_of_rounded_weights_within_its_digits(name: str) -> None:
    rounding = ROUNDINGS[name]
    quantized = stored(rounding)
    exact = X.astype(np.float64) @ (quantized.values * quantized.scale[:, None].astype(float)).T
    largest = np.abs(X).max(axis=-1, keepdims=True) if rounding.reach is None else REACH
    step = largest / 127 if rounding.digits == 1 else largest / (HIGH * LOW)
    reached = np.abs(quantized.values * quantized.scale[:, None]).sum(axis=1)
    bound = step / 2 * reached * 1.01  # each of a row's roundings at its worst
    assert (np.abs(run(X, rounding) - exact) <= bound).all()
    assert (np.abs(run(X, rounding) - exact).max(axis=-1) > 0).all()


def test_two_digits_leave_a_hundredth_of_ones_error() -> None:
    errors = []
    for name in ("one digit", "two digits"):
        quantized = stored(ROUNDINGS[name])
        weight = quantized.values * quantized.scale[:, None].astype(float)
        errors.append(np.linalg.norm(run(X, ROUNDINGS[name]) - X @ weight.T))
    assert errors[1] < errors[0] / 50


@pytest.mark.parametrize("name", list(ROUNDINGS))
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    whole = run(X, ROUNDINGS[name])
    apart = np.stack([[run(X[b : b + 1, t : t + 1], ROUNDINGS[name])[0, 0] for t in range(9)]
                      for b in range(2)])  # fmt: skip
    assert np.array_equal(whole, apart)


@pytest.mark.parametrize("name", list(ROUNDINGS))
def test_a_row_of_zeros_gives_zeros(name: str) -> None:
    x = X.copy()
    x[0, 3] = 0
    y = run(x, ROUNDINGS[name])
    assert np.array_equal(y[0, 3], np.zeros(48)) and np.isfinite(y).all()


@pytest.mark.parametrize("name", ["two digits", "two fixed"])
def test_two_digits_keep_pairs_of_products_in_16_bits(name: str) -> None:
    x = np.concatenate([X, X * 1e4, -np.abs(X) * 1e4])
    values = run(x, ROUNDINGS[name], integers=True)
    assert values.min() >= 1 and values.max() == 127
    assert np.abs(quantize_rows(WEIGHT).values.astype(int)).max() * 127 * 2 < 2**15
