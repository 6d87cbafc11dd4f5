"""Measure a bundle where it runs: latency, starting, memory, operators, layers."""

from edge_lra.profile.latencies import Shape, Timing
from edge_lra.profile.limits import LIMITS
from edge_lra.profile.measure import measure, measure_on
from edge_lra.profile.measurement import Measurement, Operator
from edge_lra.profile.plan import Plan
from edge_lra.profile.report import render
from edge_lra.profile.result import Profile

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
