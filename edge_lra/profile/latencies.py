"""Latencies of runs of one kind: a shape, or a language model's next token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 95, 99)
RESAMPLES = 1000
Shape = tuple[int, int]  # (batch, tokens)
Interval = tuple[float, float]  # of 95 %
STEP: Shape = (1, 1)  # of a run that gives one token


class Latencies(ABC):
    """Milliseconds of runs of one kind, in the order they were run."""

    latencies_ms: tuple[float, ...]

    @property
    @abstractmethod
    def name(self) -> str:
        """What was run, such as 1x128."""

    def percentile_ms(self, percent: float) -> float:
        """Return the latency that `percent` of the runs do not exceed, interpolated."""
        return float(np.percentile(self.latencies_ms, percent))

    def interval_ms(self, percent: float) -> Interval:
        """Return the 95 % interval of a percentile by the bootstrap (Efron, 1979)."""
        values = np.asarray(self.latencies_ms)
        picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
        low, high = np.percentile(np.percentile(values[picks], percent, axis=1), [2.5, 97.5])
        return float(low), float(high)

    def percentiles(self) -> dict[str, Any]:
        """Return the number of runs, percentiles and their intervals, for JSON."""
        quantiles = {f"p{p}_ms": self.percentile_ms(p) for p in PERCENTILES}
        intervals = {f"p{p}_interval_ms": list(self.interval_ms(p)) for p in PERCENTILES}
        return {"runs": len(self.latencies_ms)} | quantiles | intervals


@dataclass(frozen=True)
class Timing(Latencies):
    """Latencies of one shape."""

    shape: Shape
    latencies_ms: tuple[float, ...]

    @property
    def name(self) -> str:
        """The shape as `1x128`."""
        return name_run(self.shape)

    @property
    def texts_per_s(self) -> float:
        """Throughput of this batch size at the median."""
        return 1e3 * self.shape[0] / self.percentile_ms(50)

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the texts a second at the median."""
        return self.texts_per_s * self.shape[1]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return (
            {"shape": list(self.shape)}
            | self.percentiles()
            | {
                "texts_per_s": self.texts_per_s,
                "tokens_per_s": self.tokens_per_s,
                "latencies_ms": list(self.latencies_ms),
            }
        )


@dataclass(frozen=True)
class Decoding(Latencies):
    """Latencies of a language model's next token: a step of one row, and the choice.

    Attributes:
        context: how many tokens the model had read before.
    """

    context: int
    latencies_ms: tuple[float, ...]

    @property
    def name(self) -> str:
        """How long the context was."""
        return name_run(STEP, self.context)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second at the median."""
        return 1e3 / self.percentile_ms(50)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return (
            {"context": self.context}
            | self.percentiles()
            | {"tokens_per_s": self.tokens_per_s, "latencies_ms": list(self.latencies_ms)}
        )


def name_run(shape: Shape, context: int | None = None) -> str:
    """Return `1x128`; of a token, behind how many it was generated."""
    return f"{shape[0]}x{shape[1]}" if context is None else f"token after {context}"


def timings_of(taken: Iterable[Latencies]) -> tuple[Timing, ...]:
    """Return the latencies of shapes."""
    return tuple(one for one in taken if isinstance(one, Timing))


def decoding_of(taken: Iterable[Latencies]) -> tuple[Decoding, ...]:
    """Return the latencies of tokens."""
    return tuple(one for one in taken if isinstance(one, Decoding))
