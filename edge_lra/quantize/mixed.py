"""Which linears of an encoder have 8 bits beside the others' 4: where a byte takes off most error.

Each linear is tried alone: a few texts run through its layer with the error in it that 4 bits
leave, and what that changes in the layer's output is set against its size. Values and the up
projections of feed-forward blocks gain most, down projections least.

MiniLM, squared changes of the last layer's output by all linears' 4 bits: .0128. With 8 bits for
half the weights, chosen by their layers' outputs, .0031 are left; by the last layer's output
itself, for which each trial would run the rest of the model, .0030.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_lra.quantize.blockwise import quantize_blocks
from edge_lra.quantize.calibrate import EncoderRun
from edge_lra.quantize.compensate import Coupling, output_error
from edge_lra.quantize.readings import Couplings, MomentFile
from edge_lra.recipe import EncoderRecipe
from edge_lra.weights import Source

Array = npt.NDArray[Any]
# Roles of a layer's linears, and of what remembers the value that each reads: "" the norm before.
READS = {
    "query": "",
    "key": "",
    "value": "",
    "output": "output",
    "up": "attention_norm",
    "down": "up",
}
BITS = 4
TRIED = 16  # texts that run through a layer for each of its linears
# Of the layers' weights that have 8 bits. MiniLM, mean-pooled hidden states of 320 texts, MB, 99 %
# of the cosines above and mean: 0 14.3 .9597 .9922; .57 17.0 .9888 .9974. (In blocks of 32 rather
# than 64, with 4 bits compensated alike: .42 16.5 .9866 .9970; .5 17.0 .9862 .9973.)
SHARE = 0.57


class Change(NamedTuple):
    """What 4 bits of one linear alone do."""

    lost: float  # |changed - output|^2 / |output|^2 of its layer
    weights: int


class TrialRun(EncoderRun):
    """A calibrating run that also tries the linears of each layer.

    Attributes:
        changes: by module, in the model's order.
    """

    def __init__(
        self,
        recipe: EncoderRecipe,
        config: Mapping[str, Any],
        epsilon: float,
        source: Callable[[str], Source],
        moments: MomentFile,
        sites: Collection[str],
        compensates: bool,
    ) -> None:
        """Take what a calibrating run takes.

        Args:
            recipe: the family's.
            config: the checkpoint's.
            epsilon: of the norms.
            source: finds a recipe tensor's rows.
            moments: where covariances wait.
            sites: the modules to try.
            compensates: weights will be rounded for the least error of their outputs.
        """
        super().__init__(recipe, config, epsilon, source, moments)
        self.sites, self.compensates = sites, compensates
        self.changes: dict[str, Change] = {}
        self._entered = recipe.embeddings["norm"]  # the norm whose output enters the next layer
        self._couplings = Couplings()
        self._trial: tuple[str, Coupling] | None = None

    def layer(self, x: Array, names: Mapping[str, str], ends: Array) -> Array:
        """Return a layer's output, (tokens, hidden), once its linears were tried."""
        y = super().layer(x, names, ends)
        stop = ends[TRIED - 1] if len(ends) >= TRIED else len(x)
        read = {**names, "": self._entered}
        self._entered = names["output_norm"]
        for role, reading in READS.items():
            module, moment = names[role], self.readings[read[reading]].moment
            if module not in self.sites or moment is None:
                continue
            self._trial = module, self._couplings.later(moment)()
            changed = super().layer(x[:stop], names, ends[: TRIED - 1])
            self._trial = None
            lost = float(((changed - y[:stop]) ** 2).sum() / (y[:stop] ** 2).sum())
            weights = math.prod(self.source(f"{module}.weight").shape)
            self.changes[module] = Change(lost, weights)
        return y

    def weight(self, module: str) -> Iterator[tuple[int, Array]]:
        """Yield (first row, rows), of the linear that is tried with the error of 4 bits."""
        tried, coupling = self._trial or (None, None)
        for start, rows in super().weight(module):
            if module == tried and coupling is not None:
                yield start, as_rounded(rows, coupling, self.compensates)
            else:
                yield start, rows

    def remember(self, name: str, x: Array) -> None:
        """Keep what is found of a value, but not of a trial's."""
        if self._trial is None:
            super().remember(name, x)


def as_rounded(weight: Array, coupling: Coupling, compensated: bool) -> Array:
    """Return a weight with an error as large as 4 bits will leave, in a fraction of the time.

    Args:
        weight: (out, in) some rows or all.
        coupling: of what it reads.
        compensated: it will be rounded for the least error of its outputs.
    """
    gap = quantize_blocks(weight, BITS).weight(BITS, weight.shape[1]) - weight
    if compensated:
        gap = gap * left_share(weight, gap, coupling)
    return np.asarray(weight + gap)


def left_share(weight: Array, gap: Array, coupling: Coupling) -> float:
    """Return how much of a plain rounding's error compensation leaves.

    It is what the error costs once later columns have made up for it: 1.02 to 1.25 times what is
    left in MiniLM's linears of 4 bits.

    Args:
        weight: (out, in) some rows or all.
        gap: (out, in) what plain rounding adds to it.
        coupling: of what it reads.
    """
    plain = output_error(weight, weight + gap, coupling.moment).lost
    left = float((coupling.cost * gap**2).sum())
    return math.sqrt(left / plain if plain else 1.0)


def finer_sites(changes: Mapping[str, Change], share: float = SHARE) -> tuple[str, ...]:
    """Return the modules that gain most a weight from 8 bits, in the model's order.

    Args:
        changes: of the modules to choose from.
        share: of all their weights that may have 8 bits.
    """
    room = share * sum(change.weights for change in changes.values())
    chosen = set()
    for module in sorted(changes, key=lambda m: -changes[m].lost / changes[m].weights):
        if changes[module].weights <= room:
            chosen.add(module)
            room -= changes[module].weights
    return tuple(module for module in changes if module in chosen)
