"""Times by shape from the device's answers, and the devices that have none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.forms.graphs import STREAMED_MIB, copies_of
from edge_lra.forms.linears import Linear
from edge_lra.forms.times import Rows, measure_times
from edge_lra.quantize.schemes import FORMS
from edge_lra.transport import NotAnswered
from edge_lra.weights import Source
from tests.forms.fakes import OUTLIERS, ROUNDING, US, FakeWay


@pytest.fixture
def linears(tiny: Path) -> list[Linear]:
    base = Checkpoint(tiny / "model")
    shapes = {"query": (32, 32), "key": (32, 32), "up": (64, 32), "down": (32, 64)}
    return [
        Linear(role, role, layer, role, f"{layer}{role}", layer == 1, Source(base, role, shape))
        for layer in range(2)
        for role, shape in shapes.items()
    ]


@pytest.mark.parametrize("static", [True, False])
def test_each_shape_is_measured_once_and_told_by_linear(
    linears: list[Linear], static: bool
) -> None:
    way = FakeWay()
    found = measure_times(linears, True, static, way, 16, 2)
    shapes = {Rows(*size, rows) for size in ((32, 32), (64, 32), (32, 64)) for rows in (16, 1)}
    assert found.products.keys() == {(shape, form) for shape in shapes for form in FORMS}
    for (_, form), us in found.products.items():
        expected = {"int8": 100.0, "int8-weight-only": 200.0, "float32": 400.0}[form]
        assert us == pytest.approx(expected)
    assert found.rounding == {(width, rows): ROUNDING for width in (32, 64) for rows in (16, 1)}
    assert found.outliers == {Rows(32, 64, rows): pytest.approx(OUTLIERS) for rows in (16, 1)}
    (asked,) = way.asked
    assert asked["threads"] == 2
    assert len(asked["graphs"]) == len(shapes) * len(FORMS) + 4 + 2


def test_weights_of_a_graph_come_from_memory() -> None:
    assert copies_of((4096, 4096)) == 2
    assert 4 * copies_of((768, 768)) * 768 * 768 / 2**20 == pytest.approx(STREAMED_MIB, rel=0.2)


def test_a_form_that_the_device_has_no_kernel_for_is_left_out(linears: list[Linear]) -> None:
    known = {name: us for name, us in US.items() if name != "MatMulNBits"}
    found = measure_times(linears, False, True, FakeWay(known), 16, 1)
    assert {form for _, form in found.products} == {"int8", "float32"}
    assert found.missing == {"int8-weight-only": "no MatMulNBits"}
    known.pop("MatMulIntegerToFloat")
    with pytest.raises(EdgeError, match="fake: found no kernel for int8 there"):
        measure_times(linears, False, True, FakeWay(known), 16, 1)


def test_an_emulator_has_no_times(linears: list[Linear]) -> None:
    way = FakeWay(keeps_time=False)
    with pytest.raises(EdgeError, match="fake: found an emulator, whose times say nothing"):
        measure_times(linears, False, True, way, 16, 1)
    assert not way.asked


def test_a_runner_without_python_says_what_to_do(linears: list[Linear]) -> None:
    class Phone(FakeWay):
        def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
            raise NotAnswered("adb: the native runner does not answer 'graphs'")

    with pytest.raises(EdgeError, match=r"times no single product .* plan over ssh"):
        measure_times(linears, False, True, Phone(), 16, 1)
