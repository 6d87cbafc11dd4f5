"""Two bundles that ran in turns in one process: their ratio, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_lra.profile.doubts import doubts
from edge_lra.profile.plan import Plan, Session
from edge_lra.profile.result import RESAMPLES, Measurement, Ratio, Shape, Timing
from edge_lra.transport.base import Transport


def compare(shape: Shape, ours_ms: Sequence[float], theirs_ms: Sequence[float]) -> Ratio:
    """Return the ratio of medians, theirs over ours.

    The interval is the bootstrap's over rounds: what a round's runs have in common, such as a
    busy machine, stays together.
    """
    ours, theirs = np.asarray(ours_ms), np.asarray(theirs_ms)
    picks = np.random.default_rng(0).integers(0, len(ours), (RESAMPLES, len(ours)))
    ratios = np.median(theirs[picks], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(shape, float(np.median(theirs) / np.median(ours)), (float(low), float(high)))


@dataclass(frozen=True)
class Comparison:
    """Two bundles in turns: the timings of each by shape, ratios, and what is doubtful."""

    timings: tuple[tuple[Timing, ...], tuple[Timing, ...]]
    ratios: tuple[Ratio, ...]
    warnings: tuple[str, ...]
    complete: bool

    def add_to(self, found: Sequence[Measurement]) -> list[Measurement]:
        """Return the measurements of both with the latencies that were taken in turns."""
        return [
            replace(
                one,
                timings=timings,
                warnings=(*one.warnings, *self.warnings),
                complete=one.complete and self.complete,
            )
            for one, timings in zip(found, self.timings, strict=True)
        ]


def compare_on(
    transport: Transport,
    places: tuple[str, str],
    plan: Plan,
    progress: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Run two bundles in turns in one process a shape, on the device.

    Raises:
        EdgeError: not even the first shape could be measured.
    """
    session = Session(transport, progress)
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    ratios = []
    for index, shape in enumerate(plan.shapes):
        request = plan.request("measure", places, shape)
        name = f"{shape[0]}x{shape[1]} in turns"
        answer = transport.run(request) if index == 0 else session.ask(name, request)
        if answer is None:
            continue
        ours, theirs = answer["latencies_ms"]
        for rows, values in zip(timings, (ours, theirs), strict=True):
            rows.append(Timing(shape, tuple(values)))
        ratios.append(compare(shape, ours, theirs))
        session.warnings += doubts(timings[0][-1], answer, plan.runs is None)
    return Comparison(
        (tuple(timings[0]), tuple(timings[1])),
        tuple(ratios),
        tuple(session.warnings),
        session.complete,
    )
