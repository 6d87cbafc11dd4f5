"""The imports that a run needs, timed: nothing here loads numpy or onnxruntime by itself."""

from __future__ import annotations

import time


def import_runner() -> float:
    """Import numpy, onnxruntime and the runner; return the seconds that took.

    Where they were imported before, that is next to nothing.
    """
    start = time.perf_counter()
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401

    import edge_lra.runner  # noqa: F401

    return time.perf_counter() - start
