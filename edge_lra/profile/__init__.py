"""Measure a bundle where it runs: latency, memory, loading, operators."""

from edge_lra.profile.measure import measure
from edge_lra.profile.report import render
from edge_lra.profile.result import LIMITS, Measurement, Operator, Profile, Shape, Timing

__all__ = [
    "LIMITS",
    "Measurement",
    "Operator",
    "Profile",
    "Shape",
    "Timing",
    "measure",
    "render",
]
