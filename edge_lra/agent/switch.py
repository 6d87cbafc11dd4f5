"""What choosing another adapter costs."""

from __future__ import annotations

import statistics
import time
from functools import partial

from edge_lra.agent.inputs import Arrays
from edge_lra.agent.timing import timed_run
from edge_lra.runner import Runner
from edge_lra.runner.adapters import AdapterStore

ROUNDS = 15


def measure_switch(runner: Runner, inputs: Arrays) -> float | None:
    """Return the milliseconds that a first run with another adapter takes above a repeated one.

    That is reading the adapter's file, which the system has in memory, and feeding other
    tensors: medians of each. None for a bundle with fewer than two adapters.
    """
    was = runner.default_adapter
    others = [name for name in runner.adapters if name != was]
    if not others or was is None:
        return None
    reads, extras = [], []
    run = partial(runner.run, inputs)
    for round_number in range(ROUNDS):
        name = (others[0], was)[round_number % 2]
        reads.append(_read(runner, name))
        runner.use(name)
        switched = timed_run(run)
        extras.append(switched - timed_run(run))
    runner.use(was)
    return max(0.0, statistics.median(reads) + statistics.median(extras))


def _read(runner: Runner, name: str) -> float:
    """Read an adapter as its first use does; return milliseconds."""
    start = time.perf_counter()
    AdapterStore(runner.path, runner.manifest, verify=False).tensors(name)
    return 1e3 * (time.perf_counter() - start)
