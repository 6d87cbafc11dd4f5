"""Many numbers brought down to what a line or a chart can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_lra.profile.latencies import Latencies
from edge_lra.profile.measurement import Measurement, Sample, Start, Step
from edge_lra.profile.report.words import count, number

INTERPRETER = "interpreter"
IMPORTS = "imports"


def start_parts(start: Start) -> dict[str, float]:
    """Return the stages of the start in seconds, in their order.

    What is left of a cold start is the interpreter's own. Where the stages were taken in another
    process and last longer than the cold start did, nothing is left.
    """
    parts = {IMPORTS: start.imports_s, "load": start.load_s, "first run": start.first_run_ms / 1e3}
    left = 0.0 if start.cold_s is None else start.cold_s - sum(parts.values())
    return {INTERPRETER: left, **parts} if left > 0 else parts


def layer_operators(measured: Measurement | Step) -> dict[str, dict[str, float]]:
    """Return each layer's milliseconds by operator: its mean, split as in the run that was kept."""
    split: dict[str, dict[str, float]] = {layer.name: {} for layer in measured.layers}
    for span in measured.spans:
        of = split.setdefault(span.layer, {})
        of[span.operator] = of.get(span.operator, 0.0) + span.duration_us
    for layer in measured.layers:
        of = split[layer.name]
        total = sum(of.values())
        split[layer.name] = {name: layer.mean_ms * us / total for name, us in of.items() if total}
    return {layer.name: split[layer.name] for layer in measured.layers}


@dataclass(frozen=True)
class Histogram:
    """Runs by latency; the last number is of those that lie beyond the bins.

    Attributes:
        low_ms, high_ms: where the first bin begins and the last one ends.
        counts: runs in each bin, all of one width.
        above: runs beyond `high_ms`.
        max_ms: the slowest of all runs.
    """

    low_ms: float
    high_ms: float
    counts: tuple[int, ...]
    above: int
    max_ms: float

    @property
    def beyond(self) -> str:
        """Say what lies beyond the bins; empty where nothing does."""
        if not self.above:
            return ""
        return f"{count(self.above, 'run')} beyond, up to {number(self.max_ms)} ms"

    def edge_ms(self, place: int) -> float:
        """Return where a bin begins."""
        return self.low_ms + (self.high_ms - self.low_ms) * place / len(self.counts)


def histogram(timing: Latencies, bins: int) -> Histogram:
    """Sort runs into bins of one width that a few outliers do not squeeze.

    The bins end at the upper outer fence, q3 + 3 IQR (Tukey, 1977), or at p90 where that is
    farther: what one run in ten does is no outlier. p99 would not do: of 50 runs it lies halfway
    to the slowest.
    """
    values = np.asarray(timing.latencies_ms)
    first, third, tenth = np.percentile(values, [25, 75, 90])
    fence = max(float(third + 3 * (third - first)), float(tenth))
    inside = values[values <= fence]
    low, high = float(inside.min()), float(inside.max())
    counts, _ = np.histogram(inside, bins, (low, high) if high > low else (low, low + 1e-3))
    return Histogram(
        low,
        high if high > low else low + 1e-3,
        tuple(int(count) for count in counts),
        len(values) - len(inside),
        float(values.max()),
    )


def columns(samples: Sequence[Sample], count: int) -> list[float]:
    """Return resident memory in so many columns of equal time, the most of each.

    A column without a sample keeps the value before it.
    """
    start, end = samples[0].second, samples[-1].second
    most: list[float | None] = [None] * count
    for sample in samples:
        place = column(sample.second, start, end, count)
        most[place] = max(sample.rss_mib, most[place] or 0.0)
    values: list[float] = []
    for value in most:
        values.append(value if value is not None else values[-1])
    return values


def column(second: float, start: float, end: float, count: int) -> int:
    """Return the column of a moment among `count` from start to end; the nearest, if outside."""
    share = (second - start) / (end - start) if end > start else 0.0
    return max(0, min(count - 1, int(share * count)))


def thin(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Return at most so many samples: the ends, and the least and the most of every stretch."""
    if len(samples) <= most:
        return list(samples)
    kept = {0, len(samples) - 1}
    for stretch in np.array_split(np.arange(len(samples)), (most - 2) // 2):
        values = [samples[place].rss_mib for place in stretch]
        kept |= {int(stretch[int(np.argmin(values))]), int(stretch[int(np.argmax(values))])}
    return [samples[place] for place in sorted(kept)]


def sparkline(values: Sequence[float], blocks: str) -> str:
    """Return values as bars between the least and the most, which `blocks` draws in steps."""
    low, high = min(values), max(values)
    width = (high - low) or 1.0
    steps = len(blocks) - 1
    return "".join(blocks[min(steps, int((value - low) / width * len(blocks)))] for value in values)
