"""What each form of each linear changes in its layer's output, and what all changes come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_lra.calibration import Encoded
from edge_lra.forms.linears import read_by, reads_first
from edge_lra.forms.rounded import PRODUCTS, RoundedRun, treat
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.quantize.calibrate import EncoderRun
from edge_lra.quantize.mixed import READS
from edge_lra.quantize.readings import MomentFile, Reading
from edge_lra.weights import Array


class FormTrials(EncoderRun):
    """A calibrating run that also tries each linear of a layer in each form, on other text.

    Attributes:
        lost: |changed - output|^2 / |output|^2 of a layer, by the module and its form.
        output: (tokens, hidden) of the last layer that was run, for the texts that were tried.
    """

    def __init__(self, build: EncoderBuilder, tried: Encoded) -> None:
        """Take the builder whose graph is to be foreseen.

        Args:
            build: of the graph.
            tried: texts to try linears on. MiniLM's error in int8 is .0310 on
                text that calibrated it and .0382 on other text.
        """
        parts = build.recipe, build.plan.config, build.epsilon, build.source
        super().__init__(*parts, MomentFile())
        self.build, self.rounded = build, RoundedRun(build)
        self.lost: dict[tuple[str, str], float] = {}
        self.output: Array = np.zeros((0, 0))
        self._entered = build.recipe.embeddings["norm"]
        self._last = build.recipe.layer["output_norm"].format(
            i=build.recipe.count(build.plan.config, "layers") - 1
        )
        self.tried = tried
        lengths = [len(ids) for ids in tried.texts]
        self._starts = np.cumsum([0, *lengths[:-1]])
        self._stop = sum(lengths)

    def run(self, texts: Sequence[Array], types: Sequence[Array] = ()) -> dict[str, Reading]:
        """Run texts that calibrate, each (tokens,) ids, behind those that are tried."""
        tried = self.tried
        if not tried.types and not types:
            return super().run([*tried.texts, *texts])
        own, others = (
            kinds or [np.zeros_like(ids) for ids in parts]
            for kinds, parts in ((tried.types, tried.texts), (types, texts))
        )
        return super().run([*tried.texts, *texts], [*own, *others])

    def remember(self, name: str, x: Array) -> None:
        """Keep what is found of the texts that calibrate."""
        super().remember(name, x[self._stop :])

    def layer(self, x: Array, names: Mapping[str, str], ends: Array) -> Array:
        """Return a layer's output, (tokens, hidden), once its linears were tried."""
        y = super().layer(x, names, ends)
        ends, self.output = self._starts[1:], y[: self._stop]
        last = names["output_norm"] == self._last
        for role, reading in READS.items():
            module = names[role]
            found = self.readings[read_by(reading, names, self._entered)]
            self.rounded.reads[module] = treat(self.build, role, names, found)
            for form in PRODUCTS:
                self.rounded.forms = {module: form}
                changed = self.rounded.layer(x[: self._stop], names, ends)
                self.lost[module, form] = self._lost(changed, last)
        self._entered = names["output_norm"]
        return y

    def error(self, forms: Mapping[str, str]) -> float:
        """Return the relative L2 error of the last layer's output, once `run` was called.

        Args:
            forms: of modules; others are exact.
        """
        self.rounded.forms, self.rounded.tables = forms, True
        self.rounded.run(*self.tried)
        return math.sqrt(self._lost(self.rounded.output, True))

    def _lost(self, changed: Array, last: bool) -> float:
        """Return the squared change of the output, of what a head reads where it is the last."""
        exact = self.output
        if last and reads_first(self.build):
            changed, exact = changed[self._starts], exact[self._starts]
        return float(((changed - exact) ** 2).sum() / (exact**2).sum())
