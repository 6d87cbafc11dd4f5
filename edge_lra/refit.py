"""Fit factored adapters to the rounded base that they are written beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_lra.adapters import Adapter
from edge_lra.adapters.kinds.update import Factors
from edge_lra.blas import one_thread
from edge_lra.checkpoint import Checkpoint
from edge_lra.quantize.compensate import Fitted, OutputError, refit
from edge_lra.quantize.readings import Read
from edge_lra.quantize.stored import Rounded
from edge_lra.weights import Array, Source, Stored, read_whole
from edge_lra.writer import Layout

CUTOFF = 1e-6  # of a moment's largest singular value: they are kept in float32


class Refitted(NamedTuple):
    """An adapter with its factors fitted, and the error of its sites' outputs before and after."""

    adapter: Adapter
    before: OutputError
    after: OutputError

    def as_dict(self) -> dict[str, float]:
        """Return the manifest's entry, of all sites together; 6 digits are the same on any CPU."""
        return {
            "error_before": float(f"{self.before.ratio:.6g}"),
            "error_after": float(f"{self.after.ratio:.6g}"),
        }


@dataclass(frozen=True)
class RoundedBase:
    """The base's rounded weights in a written data file.

    Attributes:
        weights: as they were written.
        data: the file.
        layout: where each tensor is in it.
    """

    weights: Sequence[Stored]
    data: Path
    layout: Layout

    def lost(self, tensor: str, shape: tuple[int, ...]) -> Array:
        """Return what rounding took off a linear's weight, (out, in) float64.

        What is stored in parts is put together: rows and columns apart, outputs and inputs that
        are switched off in one part and on in another. Parts in float32 have no error.

        Args:
            tensor: the checkpoint's name of the weight.
            shape: of the whole weight.
        """
        lost = np.zeros(shape)
        for weight in self.weights:
            if isinstance(weight, Rounded) and weight.source.tensor == tensor:
                rows = slice(None) if weight.source.rows is None else weight.source.rows
                lost[rows] += self._lost(weight)
        return lost

    def _lost(self, weight: Rounded) -> Array:
        """Return float rows less rounded ones, for an input before it is divided."""
        stored = (
            np.fromfile(
                self.data, spec.dtype, math.prod(spec.shape), offset=self.layout.offsets[spec.name]
            ).reshape(spec.shape)
            for spec in weight.specs
        )
        lost = _whole(weight.source) - weight.shown(*stored)
        divisor = weight.source.column_scale
        if divisor is None:
            return lost
        undivided: Array = np.divide(lost, divisor, out=np.zeros_like(lost), where=divisor != 0)
        return undivided


def refit_adapters(
    adapters: Sequence[Adapter],
    checkpoint: Checkpoint,
    base: RoundedBase,
    reads: Mapping[str, Read],
) -> list[Refitted]:
    """Fit each adapter, on its own, to the rounded base; their ranks stay and so does the base.

    Args:
        adapters: with factors.
        checkpoint: the float base.
        base: that they will be switched onto.
        reads: what linears read, by the checkpoint's names of their weights.
    """
    none = OutputError(0.0, 0.0)
    found = [Refitted(adapter, none, none) for adapter in adapters]
    for tensor, read in reads.items():
        sites = [item.adapter.factors.get(tensor, Factors()) for item in found]
        if not any(factors.down is not None for factors in sites) or read.reading.moment is None:
            continue
        weight, moment = read_whole(checkpoint, tensor), read.reading.moment()
        lost, unmet = _uncentred(base.lost(tensor, weight.shape), read, moment)
        for place, factors in enumerate(sites):
            if factors.down is not None:
                fitted = refit(weight, weight - lost, factors, moment)
                found[place] = _joined(found[place], tensor, fitted, unmet)
    return found


def _joined(item: Refitted, tensor: str, fitted: Fitted, unmet: OutputError) -> Refitted:
    """Return an adapter with one site's factors in place of its own, and its error added."""
    factors = {**item.adapter.factors, tensor: fitted.factors}
    before, after = fitted.before.joined(unmet), fitted.after.joined(unmet)
    return Refitted(
        replace(item.adapter, factors=factors), item.before.joined(before), item.after.joined(after)
    )


def _uncentred(lost: Array, read: Read, moment: Array) -> tuple[Array, OutputError]:
    """Return what factors that read x have to make up for, and what they cannot.

    The rounded weight reads x - s, so its outputs are off by E (x - s). Of the constant E s, what a
    linear function of x gives is E s v' x, v the regression of 1 on x; the rest is no factor's.
    The outputs of a norm give all of it: sum of x / gamma is the same for every token.

    Args:
        lost: E (out, in).
        read: what x is.
        moment: (in, in) X'X / tokens.
    """
    if read.shift is None:
        return lost, OutputError(0.0, 0.0)
    constant, mean = lost @ read.shift, read.reading.mean
    with one_thread():
        of_one = np.linalg.lstsq(moment, mean, rcond=CUTOFF)[0]
    rest = max(0.0, float(1 - 2 * of_one @ mean + of_one @ moment @ of_one))
    return lost - np.outer(constant, of_one), OutputError(rest * float(constant @ constant), 0.0)


def _whole(source: Source) -> Array:
    """Return all rows of a source in float64."""
    return np.concatenate([rows for _, rows in source.chunks()])
