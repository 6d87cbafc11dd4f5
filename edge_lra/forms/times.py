"""What each form of each linear takes on a device: each shape measured once, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge_lra.errors import EdgeError
from edge_lra.forms.graphs import Small, outlier_graph, product_graph, rounding_graph
from edge_lra.forms.linears import Linear
from edge_lra.quantize.schemes import FORMS, USUAL
from edge_lra.transport import NotAnswered, Transport

BUDGET_S = 4.0
Key = tuple[Any, ...]


class Rows(NamedTuple):
    """A linear's shape, and how many rows it multiplies."""

    out: int
    width: int
    rows: int


@dataclass(frozen=True)
class FormTimes:
    """Microseconds on a device.

    Attributes:
        products: of a linear with its bias, by shape and form, the rounding of what it reads left
            out; a form is missing where the device cannot run it.
        rounding: of what int8 linears read, by width and rows.
        outliers: of what keeps outliers apart in int8, by the down projection's shape.
        missing: why a form cannot be had, by form.
    """

    products: Mapping[tuple[Rows, str], float]
    rounding: Mapping[tuple[int, int], float]
    outliers: Mapping[Rows, float]
    missing: Mapping[str, str]


def rows_of(linear: Linear, tokens: int) -> Rows:
    """Return a linear's shape for one text of so many tokens."""
    out, width = linear.source.shape
    return Rows(out, width, 1 if linear.first else tokens)


def measure_times(
    linears: Sequence[Linear],
    apart: bool,
    static: bool,
    way: Transport,
    tokens: int,
    threads: int,
) -> FormTimes:
    """Measure every form of every shape.

    Args:
        linears: of the encoder.
        apart: down projections in int8 keep outliers in float32.
        static: int8 rounds what it reads by calibrated ranges.
        way: to the device.
        tokens: of the one text.
        threads: that multiply.

    Raises:
        EdgeError: the device only emulates, has no Python, or cannot run int8 or float32.
    """
    refuse_emulated(way)
    graphs: dict[Key, Small] = {}
    for linear in linears:
        shape = rows_of(linear, tokens)
        for form, scheme in FORMS.items():
            if (shape, form) not in graphs:
                graphs[shape, form] = product_graph(scheme(), linear.source, shape.rows, static)
        widths = [shape.width]
        if linear.role == "down" and apart and ("few", shape) not in graphs:
            usual = FORMS[USUAL]()
            graphs["few", shape] = outlier_graph(usual, linear.source, shape.rows, static)
            widths.append(shape.out)
        for width in widths:
            if ("round", width, shape.rows) not in graphs:
                graphs["round", width, shape.rows] = rounding_graph(width, shape.rows, static)
    requests = [graph.request() for graph in graphs.values()]
    request = {"what": "graphs", "threads": threads, "budget_s": BUDGET_S, "graphs": requests}
    try:
        answers = way.run(request)["graphs"]
    except NotAnswered as error:
        raise EdgeError(
            f"{way.target}: found a runner that times no single product ({error}), expected Python "
            "there; plan over ssh, or write the plan's [forms] by hand"
        ) from None
    return read_times(graphs, answers, way.target)


def refuse_emulated(way: Transport) -> None:
    """Refuse a device whose times are an emulator's.

    Raises:
        EdgeError: names it.
    """
    if not way.keeps_time:
        raise EdgeError(
            f"{way.target}: found an emulator, whose times say nothing of a device's, expected a "
            "device; give its --target, or write the plan's [forms] by hand"
        )


def read_times(
    graphs: Mapping[Key, Small], answers: Sequence[Mapping[str, Any]], target: str
) -> FormTimes:
    """Return what the answers say of products, roundings and outliers.

    Raises:
        EdgeError: the device cannot run int8 or float32.
    """
    taken: dict[Key, float] = {}
    missing: dict[str, str] = {}
    for key, answer in zip(graphs, answers, strict=True):
        if answer["error"] is not None:
            form = key[1] if key[1] in FORMS else USUAL
            if form == USUAL or form == "float32":
                raise EdgeError(
                    f"{target}: found no kernel for {form} there ({answer['error']}), expected "
                    "one; is its onnxruntime too old?"
                )
            missing[form] = answer["error"]
            continue
        taken[key] = float(answer["us"])
    rounding = {
        (key[1], key[2]): us / graphs[key].copies for key, us in taken.items() if key[0] == "round"
    }
    products, outliers = {}, {}
    for key, us in taken.items():
        if key[0] == "few":
            shared = rounding[key[1].out, key[1].rows]
            outliers[key[1]] = max(0.0, us - shared) / graphs[key].copies
        elif key[0] != "round":
            shape, form = key
            shared = rounding[shape.width, shape.rows] if form == USUAL else 0.0
            products[shape, form] = max(0.0, us - shared) / graphs[key].copies
    return FormTimes(products, rounding, outliers, missing)
