"""Adapter kinds: what each adds to a base weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LowRank:
    """W' = W + scale * up @ down (LoRA, Hu et al. 2021, eq. 3; PEFT's lora_B and lora_A)."""

    down: Array  # (rank, in) float32
    up: Array  # (out, rank) float32
    scale: float
    transposed: bool = False  # the base stores (in, out), as GPT-2's Conv1D does

    def merge_rows(self, rows: Array, start: int) -> Array:
        """Return float64 rows of the base weight plus their share of the update.

        Summed rank by rank: a BLAS product may differ by CPU and thread count.

        Args:
            rows: (n, columns) float64, from row `start` of the stored weight.
            start: index of the first row.
        """
        left, right = (self.down.T, self.up.T) if self.transposed else (self.up, self.down)
        part = left[start : start + len(rows)].astype(np.float64) * self.scale
        wide = right.astype(np.float64)
        merged = rows.copy()
        for index in range(len(wide)):
            merged += part[:, index : index + 1] * wide[index]
        return merged
