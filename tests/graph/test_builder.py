from __future__ import annotations

import numpy as np

from edge_lra.graph.builder import GraphBuilder


def test_constants_that_differ_late_are_not_shared() -> None:
    graph = GraphBuilder()
    one, other = np.ones(100, np.float32), np.ones(100, np.float32)
    other[-1] = 0
    assert graph.constant(one) is not graph.constant(other)
    assert graph.constant(one) is graph.constant(one.copy())
