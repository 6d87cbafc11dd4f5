"""Percentiles, intervals and throughput."""

from __future__ import annotations

import numpy as np

from edge_lra.profile.latencies import Timing


def test_percentiles_interpolate() -> None:
    timing = Timing((1, 8), tuple(float(i) for i in range(101)))
    assert [timing.percentile_ms(p) for p in (50, 99)] == [50.0, 99.0]
    assert Timing((1, 8), (2.0, 1.0)).percentile_ms(50) == 1.5


def test_an_interval_covers_the_percentile_in_nineteen_of_twenty_samples() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):
        low, high = Timing((1, 8), tuple(random.exponential(1, 60))).interval_ms(50)
        covered += low <= np.log(2) <= high
    assert 180 <= covered <= 198


def test_throughput_counts_the_texts_of_a_batch() -> None:
    assert Timing((8, 128), (40.0, 40.0)).texts_per_s == 200
