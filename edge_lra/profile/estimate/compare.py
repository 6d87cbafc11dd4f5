"""The error of an estimate against a measurement of the same bundle, in total and by class."""

from __future__ import annotations

from collections.abc import Mapping

from edge_lra.profile.estimate.costs import ATTENTION, ELEMENTWISE, OTHER, PRODUCTS, RENAMES, SWEPT
from edge_lra.profile.measurement import Measurement
from edge_lra.profile.result import Estimate

TOTAL = "total"


def class_of(operator: str) -> str:
    """Return the class that an operator's time is counted under."""
    if operator in PRODUCTS:
        return PRODUCTS[operator]
    if operator == "MultiHeadAttention":
        return ATTENTION
    if operator in RENAMES:
        return OTHER
    return SWEPT.get(operator, (ELEMENTWISE, ""))[0]


def estimate_error(estimated: Estimate, measured: Measurement) -> Mapping[str, float]:
    """Return estimate / measurement - 1 of the first shape that both have, "total" first.

    Classes are held against onnxruntime's profiler (of the measurement's first shape), whose few
    microseconds a node weigh on short ones. Empty where no shape is common or the threads differ.
    """
    if estimated.threads != measured.threads:
        return {}
    timings = {timing.shape: timing for timing in measured.timings}
    common = [shape for shape in estimated.shapes if shape.shape in timings]
    if not common:
        return {}
    shape = common[0]
    errors = {TOTAL: shape.middle_ms / timings[shape.shape].percentile_ms(50) - 1}
    if shape.shape != measured.timings[0].shape:
        return errors
    found: dict[str, float] = {}
    for operator in measured.operators:
        kind = class_of(operator.name)
        found[kind] = found.get(kind, 0.0) + operator.mean_ms
    for kind, milliseconds in found.items():
        if kind in shape.classes_ms and milliseconds > 0:
            errors[kind] = shape.classes_ms[kind] / milliseconds - 1
    return errors
