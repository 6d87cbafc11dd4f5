"""Round a weight's columns one after the other, each making up for the errors before it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_lra.blas import one_thread
from edge_lra.quantize.compensate.coupling import Coupling

Array = npt.NDArray[Any]
LAZY = 32  # columns that take in the errors of all before them at once, by one matrix product
# The weight and its errors count in units of 2**-22 of the row's largest value, shares in 2**-12.
# Sums of their products, below 2**39 in MiniLM's int4, are exact below 2**53, so that no order
# changes them: rows come out the same on every CPU and in chunks of any size.
UNIT_BITS = 22


class Form(Protocol):
    """What integers a weight (out, in) may be rounded to."""

    def step(self, column: int) -> Array:
        """Return what one integer is worth in a column, (out,) float64."""

    def nearest(self, column: int, wanted: Array, integers: Array) -> Array:
        """Return the nearest integers that a column may have.

        Args:
            column: which.
            wanted: (out,) in steps.
            integers: (in, out) the columns rounded so far, 0 in the others.
        """


def round_columns(weight: Array, coupling: Coupling, form: Form) -> Array:
    """Return a weight's integers, (out, in) float64, for the least error of its outputs.

    Args:
        weight: (out, in) rows; each is rounded without regard to others.
        coupling: of what it reads.
        form: the integers to choose from.
    """
    _, exponent = np.frexp(np.abs(weight).max(axis=1, initial=1e-30))
    unit = np.ldexp(1.0, exponent - UNIT_BITS)  # (out,)
    exact = np.rint(weight.T[coupling.order] / unit)
    errors = np.zeros_like(exact)
    integers = np.zeros(weight.T.shape)
    with one_thread():
        for start in range(0, len(exact), LAZY):
            end = start + LAZY
            tile = exact[start:end] + coupling.shares[:start, start:end].T @ errors[:start]
            for place, own in enumerate(tile, start):
                inside = coupling.shares[start:place, place] @ errors[start:place]
                column = int(coupling.order[place])
                step = form.step(column)
                found = form.nearest(column, (own + inside) * unit / step, integers)
                integers[column] = found
                errors[place] = exact[place] - np.rint(found * step / unit)
    return integers.T
