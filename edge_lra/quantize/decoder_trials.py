"""Which linears of a decoder have 8 bits beside the others' 4, from what 4 change in a layer.

As in `mixed`, each linear is tried alone, but as it will be rounded: where the first tokens of
texts reach a hundred times as far as others, compensation takes off their error and leaves that of
the others. A token's change is set against its own size, or the first ones would stand for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np

from edge_lra.graph.decoder_config import DecoderConfig
from edge_lra.quantize.affine import round_affine
from edge_lra.quantize.compensate import Coupling
from edge_lra.quantize.compensate.coupling import DECODER_DAMPING
from edge_lra.quantize.decoder_run import Array, Columns, DecoderRun
from edge_lra.quantize.mixed import Change
from edge_lra.quantize.readings import Couplings, MomentFile
from edge_lra.recipe import DecoderRecipe
from edge_lra.weights import Source

# Roles of a layer's linears, and of what remembers the value that each reads.
READS = {
    "packed": "attention_norm",
    "query": "attention_norm",
    "key": "attention_norm",
    "value": "attention_norm",
    "output": "output",
    "gate": "feed_forward_norm",
    "up": "feed_forward_norm",
    "down": "down",
}
TRIED = 8  # texts that run through a layer for each of its linears
# Of the layers' weights that have 8 bits: SmolLM2-135M is as large as llama.cpp's Q4_K_M with it.
SHARE = 0.094


def linears(layer: Mapping[str, str], count: int) -> list[str]:
    """Return the modules of the linears of `count` layers, from a layer's names by role."""
    roles = [role for role in READS if role in layer]
    return [layer[role].format(i=i) for i in range(count) for role in roles]


class DecoderTrials(DecoderRun):
    """A calibrating run that also tries the linears of each layer.

    Attributes:
        changes: by module, in the model's order.
    """

    def __init__(
        self,
        recipe: DecoderRecipe,
        config: DecoderConfig,
        source: Callable[[str], Source],
        linear_source: Callable[[str], Source],
        has_bias: Callable[[str], bool],
        moments: MomentFile,
        modules: Collection[str],
        compensates: bool,
    ) -> None:
        """Take what a calibrating run takes.

        Args:
            recipe: the family's.
            config: the checkpoint's, read.
            source: finds a recipe tensor's rows.
            linear_source: finds the rows of a linear's weight.
            has_bias: says whether there is a bias of a name.
            moments: where covariances wait.
            modules: those to try.
            compensates: weights will be rounded for the least error of their outputs.
        """
        super().__init__(recipe, config, source, linear_source, has_bias, moments)
        self.modules, self.compensates = modules, compensates
        self.changes: dict[str, Change] = {}
        self._couplings = Couplings(DECODER_DAMPING)
        self._trial: tuple[str, Coupling] | None = None  # a weight's tensor, and of what it reads

    def layer(self, x: Array, index: int, ends: Array) -> Array:
        """Return a layer's output, (tokens, hidden), once its linears were tried."""
        y = super().layer(x, index, ends)
        stop = int(ends[TRIED - 1]) if len(ends) >= TRIED else len(x)
        power = np.maximum((y[:stop] ** 2).sum(axis=1), 1e-30)
        names = {role: name.format(i=index) for role, name in self.recipe.layer.items()}
        for role, read in READS.items():
            if names.get(role) not in self.modules:
                continue
            reading, source = self.sites[names[read]].reading, self.linear_source(names[role])
            if reading is None or reading.moment is None:
                continue
            self._trial = source.tensor, self._couplings.later(reading.moment)()
            changed = super().layer(x[:stop], index, ends[: TRIED - 1])
            self._trial = None
            lost = float((((changed - y[:stop]) ** 2).sum(axis=1) / power).mean())
            self.changes[names[role]] = Change(lost, math.prod(source.shape))
        return y

    def summed(self, source: Source, columns: Columns) -> Iterator[Array]:
        """Yield rows of a weight, those of the one that is tried as 4 bits show them."""
        for rows in super().summed(source, columns):
            if self._trial is not None and source.tensor == self._trial[0]:
                coupling = self._trial[1] if self.compensates else None
                yield round_affine(rows, coupling).weight(rows.shape[1])
            else:
                yield rows

    def remember(self, site: str, x: Array, columns: Columns, bounded: bool) -> None:
        """Keep what is found of a value, but not of a trial's."""
        if self._trial is None:
            super().remember(site, x, columns, bounded)
