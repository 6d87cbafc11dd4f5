"""How far a quantized weight's outputs lie from its own."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_lra.blas import one_thread

Array = npt.NDArray[Any]


class OutputError(NamedTuple):
    """Mean power of outputs and of what quantization changed of them; parts of a weight add up."""

    lost: float  # tr(E S E'), E = weight - shown
    whole: float  # tr(W S W')

    @property
    def ratio(self) -> float:
        """Return sqrt(lost / whole): the relative error of the outputs."""
        return math.sqrt(self.lost / self.whole) if self.whole else 0.0

    def joined(self, other: OutputError) -> OutputError:
        """Return the error of both parts' outputs together."""
        return OutputError(self.lost + other.lost, self.whole + other.whole)


def output_error(weight: Array, shown: Array, moment: Array) -> OutputError:
    """Return the error of the outputs, for inputs of a second moment.

    Args:
        weight: (out, in) some rows or all.
        shown: (out, in) what the integers and scales stand for, factors included.
        moment: (in, in) X'X / tokens of what the weight reads.
    """
    return OutputError(_power(weight - shown, moment), _power(weight, moment))


def _power(matrix: Array, moment: Array) -> float:
    """Return tr(M S M'), above rounding's negative zeros."""
    wide = matrix.astype(np.float64)
    with one_thread():
        return max(0.0, float(((wide @ moment) * wide).sum()))
