"""What choosing another adapter costs."""

from __future__ import annotations

import statistics
import time
from functools import partial

import numpy as np

from edge_lra.agent.inputs import Arrays
from edge_lra.agent.timing import timed_run
from edge_lra.runner import Cache, Generator, Runner
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


def measure_switch_of_cache(generator: Generator, cache: Cache) -> float | None:
    """Return the milliseconds that a step with another adapter takes above a repeated one.

    Both adapters are in memory, as those of a running program are: what is left is a lease, an
    integer a row, and weights that the processor's caches have lost. None for fewer than two.
    """
    was = generator.default_adapter
    others = [name for name in generator.adapters if name != was]
    if not others or was is None:
        return None
    ids = np.ones(cache.rows, np.int64)
    lengths = list(cache.lengths)
    kept = [max(1, min(length, cache.context - 1)) for length in lengths]
    chosen, extras = [], []

    def step() -> None:
        for row, length in enumerate(kept):
            cache.truncate(length, row)
        cache.step(ids)

    def choose(name: str) -> None:
        lease = generator.lease(cache.rows, name)
        assert lease is not None
        cache.use(lease)

    leases = [generator.lease(1, name) for name in (others[0], was)]  # they stay in memory
    for round_number in range(ROUNDS + len(leases)):
        took_ms = timed_run(partial(choose, (others[0], was)[round_number % 2]))
        switched_ms = timed_run(step)
        if round_number >= len(leases):  # the first ones bind the stacks
            chosen.append(took_ms)
            extras.append(switched_ms - timed_run(step))
    choose(was)
    return statistics.median(chosen) + max(0.0, statistics.median(extras))


def _read(runner: Runner, name: str) -> float:
    """Read an adapter as its first use does; return milliseconds."""
    start = time.perf_counter()
    AdapterStore(runner.path, runner.manifest, verify=False).tensors(name)
    return 1e3 * (time.perf_counter() - start)
