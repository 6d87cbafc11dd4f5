"""What one set of labelled rows tells of two models' accuracies: the difference and its doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
# Without one event in n rows, its rate is below 3 / n with 95 % confidence (Hanley and
# Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983).
RULE_OF_THREE = 3
TELLING = 1.0  # points: what decides whether a model is shipped; 300 rows at least tell it
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Drop:
    """How many points of accuracy are lost; below zero they are gained.

    Attributes:
        points: on these rows.
        low: end of the 95 % interval, in points.
        high: its other end.
        resolution: the drop in points that so many rows can tell from none.
    """

    points: float
    low: float
    high: float
    resolution: float


def paired_drop(before: Array, after: Array, seed: int = 0) -> Drop:
    """Return the drop between two models that answered the same rows.

    The interval is the percentile bootstrap's (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13) over rows, which stay pairs: a row that both answer alike adds no
    doubt. A resample's lost, gained and other rows are one draw of a multinomial.

    Few changed rows make that interval narrow even where there are few rows: without any, its
    width is 0. So the resolution is half its width, but at least the rule of three's bound.

    Args:
        before: (rows,) bool, which are right.
        after: (rows,) the same of the other model.
        seed: of the resampling.
    """
    rows = len(before)
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    shares = np.array([lost, gained, rows - lost - gained]) / rows
    drawn = np.random.default_rng(seed).multinomial(rows, shares, RESAMPLES)
    low, high = np.percentile(100 * (drawn[:, 0] - drawn[:, 1]) / rows, [2.5, 97.5])
    return Drop(
        100 * (lost - gained) / rows,
        float(low),
        float(high),
        max(float(high - low) / 2, 100 * RULE_OF_THREE / rows),
    )
