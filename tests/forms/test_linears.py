"""Which linears there are, what they read, and what each form of them costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_lra.forms.linears import Linear, find_linears
from edge_lra.forms.make import MIB, plan_forms
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.inputs import ExportRequest, read_inputs
from edge_lra.planning import make_plan
from edge_lra.quantize.schemes import USUAL
from tests.forms.fakes import OUTLIERS, US, FakeWay
from tests.forms.test_trials import asked


def linears_of(request: ExportRequest) -> dict[tuple[int, str], Linear]:
    build = EncoderBuilder(make_plan(request, read_inputs(request)))
    return {(linear.layer, linear.role): linear for linear in find_linears(build)}


def test_linears_that_read_one_value_share_its_rounding(strong: Path) -> None:
    found = linears_of(asked(strong))
    assert not any(linear.first for linear in found.values())
    readers = [{found[layer, role].value for role in ("query", "key", "value")} for layer in (0, 1)]
    assert [len(values) for values in readers] == [1, 1]
    assert len({linear.value for linear in found.values()}) == 8


def test_a_head_of_the_first_token_spares_the_last_layer_the_others(strong: Path) -> None:
    adapters = [("one", str(strong / "adapter"))]
    found = linears_of(asked(strong, task=None, adapters=adapters))
    first = {place for place, linear in found.items() if linear.first}
    assert first == {(1, "query"), (1, "output"), (1, "up"), (1, "down")}
    assert found[1, "query"].value != found[1, "key"].value == found[1, "value"].value


@pytest.mark.parametrize("without", [(), ("outliers",)])
def test_outliers_count_for_the_linear_that_reads_them(
    strong: Path, without: tuple[str, ...]
) -> None:
    found = plan_forms(replace(asked(strong), without=without), FakeWay(), {}, "a device", 16)
    apart = 0.0 if without else OUTLIERS
    for site in found.costs.sites:
        expected = US["MatMulIntegerToFloat"] + (apart if site.role == "down" else 0.0)
        assert site.costs[USUAL].us == pytest.approx(expected)
    size = found.costs.nbytes(found.costs.throughout(USUAL)) / MIB
    assert size == pytest.approx(found.usual["size_mib"], rel=5e-4)
