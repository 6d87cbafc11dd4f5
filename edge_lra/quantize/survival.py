"""How much of an adapter's change of a weight is left once the merged weight is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.weights import Array


@dataclass
class Survival:
    """Sums over the rows of one merged weight, collected as they are written.

    The rounded weight's distance from the base, projected on the change D: <Q(W + D) - W, D> /
    <D, D> is 1 where rounding is independent of D, and 0 where D is rounded away.
    """

    tensor: str
    along: float = 0.0
    total: float = 0.0
    rows: int = 0
    below_step: int = 0  # rows whose largest change is less than one step of their integers

    def add(self, rounded: Array, step: Array, merged: Array, plain: Array) -> None:
        """Take in rows (n, in) as rounded, merged and without the update; steps (n,) of rows."""
        change = merged - plain
        self.along += float(((rounded - plain) * change).sum())
        self.total += float((change**2).sum())
        largest = np.abs(change).max(axis=1, initial=0.0)
        self.rows += int((largest > 0).sum())
        self.below_step += int(((largest > 0) & (largest < step)).sum())

    @property
    def share(self) -> float:
        """Return the part of the change that is left."""
        return self.along / self.total if self.total else 1.0


def summary(found: Sequence[Survival]) -> dict[str, Any] | None:
    """Return the manifest's entry: the worst weight, the median, and the rows below a step."""
    changed = [item for item in found if item.total]
    if not changed:
        return None
    worst = min(changed, key=lambda item: item.share)
    return {
        "min": round(worst.share, 6),
        "worst": worst.tensor,
        "median": round(float(np.median([item.share for item in changed])), 6),
        "rows_below_step": round(
            sum(i.below_step for i in changed) / max(1, sum(i.rows for i in changed)), 6
        ),
    }
