"""Two bundles that ran in turns in one process: their ratio, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_lra.profile.doubts import doubts
from edge_lra.profile.latencies import RESAMPLES, Decoding, Shape, Timing, decoding_of, timings_of
from edge_lra.profile.measurement import Measurement
from edge_lra.profile.plan import Plan, Session
from edge_lra.profile.result import Ratio
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
    """Two bundles in turns: what was taken of each, ratios, and what is doubtful."""

    taken: tuple[tuple[Timing | Decoding, ...], ...]
    ratios: tuple[Ratio, ...]
    warnings: tuple[str, ...]
    complete: bool

    def add_to(self, found: Sequence[Measurement]) -> list[Measurement]:
        """Return the measurements of both with the latencies that were taken in turns."""
        return [
            replace(
                one,
                timings=timings_of(taken),
                decoding=decoding_of(taken),
                warnings=(*one.warnings, *self.warnings),
                complete=one.complete and self.complete,
            )
            for one, taken in zip(found, self.taken, strict=True)
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
    taken: tuple[list[Timing | Decoding], ...] = ([], [])
    ratios = []
    for index, part in enumerate(plan.parts):
        request = plan.request("measure", places, part.shape, part.context)
        name = f"{part.name} in turns"
        answer = transport.run(request) if index == 0 else session.ask(name, request)
        if answer is None:
            continue
        ours, theirs = answer["latencies_ms"]
        for rows, values in zip(taken, (ours, theirs), strict=True):
            rows.append(part.take(values))
        ratios.append(compare(part.shape, ours, theirs, part.context))
        session.warnings += doubts(taken[0][-1], answer, plan.runs is None)
    rows_of = tuple(tuple(rows) for rows in taken)
    return Comparison(rows_of, tuple(ratios), tuple(session.warnings), session.complete)
