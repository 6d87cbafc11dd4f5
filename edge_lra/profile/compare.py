"""Two bundles that ran in turns in one process: their ratio, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_lra.profile.doubts import doubts
from edge_lra.profile.plan import Plan, Session
from edge_lra.profile.result import (
    RESAMPLES,
    STEP,
    Decoding,
    Measurement,
    Ratio,
    Shape,
    Timing,
    name_context,
)
from edge_lra.transport.base import Transport


def compare(
    shape: Shape,
    ours_ms: Sequence[float],
    theirs_ms: Sequence[float],
    context: int | None = None,
) -> Ratio:
    """Return the ratio of medians, theirs over ours.

    The interval is the bootstrap's over rounds: what a round's runs have in common, such as a
    busy machine, stays together.
    """
    ours, theirs = np.asarray(ours_ms), np.asarray(theirs_ms)
    picks = np.random.default_rng(0).integers(0, len(ours), (RESAMPLES, len(ours)))
    ratios = np.median(theirs[picks], axis=1) / np.median(ours[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    middle = float(np.median(theirs) / np.median(ours))
    return Ratio(shape, middle, (float(low), float(high)), context)


@dataclass(frozen=True)
class Comparison:
    """Two bundles in turns: the timings of each, ratios, and what is doubtful."""

    timings: tuple[tuple[Timing, ...], tuple[Timing, ...]]
    decoding: tuple[tuple[Decoding, ...], tuple[Decoding, ...]]
    ratios: tuple[Ratio, ...]
    warnings: tuple[str, ...]
    complete: bool

    def add_to(self, found: Sequence[Measurement]) -> list[Measurement]:
        """Return the measurements of both with the latencies that were taken in turns."""
        return [
            replace(
                one,
                timings=timings,
                decoding=decoding,
                warnings=(*one.warnings, *self.warnings),
                complete=one.complete and self.complete,
            )
            for one, timings, decoding in zip(found, self.timings, self.decoding, strict=True)
        ]


def compare_on(
    transport: Transport,
    places: tuple[str, str],
    plan: Plan,
    progress: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Run two bundles in turns in one process a shape, and one a context, on the device.

    Raises:
        EdgeError: not even the first shape could be measured.
    """
    session = Session(transport, progress)
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    decoding: tuple[list[Decoding], list[Decoding]] = ([], [])
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
    for context in plan.contexts:
        request = plan.request("measure", places, STEP, context)
        answer = session.ask(f"a token {name_context(context)} in turns", request)
        if answer is None:
            continue
        ours, theirs = answer["latencies_ms"]
        for tokens, values in zip(decoding, (ours, theirs), strict=True):
            tokens.append(Decoding(context, tuple(values)))
        ratios.append(compare(STEP, ours, theirs, context))
        session.warnings += doubts(decoding[0][-1], answer, plan.runs is None)
    return Comparison(
        (tuple(timings[0]), tuple(timings[1])),
        (tuple(decoding[0]), tuple(decoding[1])),
        tuple(ratios),
        tuple(session.warnings),
        session.complete,
    )
