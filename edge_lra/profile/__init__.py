"""Measure a bundle where it runs: latency, starting, memory, operators, layers."""

from edge_lra.profile.measure import measure, measure_on
from edge_lra.profile.plan import Plan
from edge_lra.profile.report import render
from edge_lra.profile.result import LIMITS, Measurement, Operator, Profile, Shape, Timing

__all__ = [
    "LIMITS",
    "Measurement",
    "Operator",
    "Plan",
    "Profile",
    "Shape",
    "Timing",
    "measure",
    "measure_on",
    "render",
]
