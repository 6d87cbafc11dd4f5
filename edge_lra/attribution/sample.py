"""What a bundle's products read on some texts, and what its layers answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.attribution.rounding import Sample
from edge_lra.probe import layer_names, open_probe

Array = npt.NDArray[Any]
# At most. MiniLM: each site within .001 of what 48 texts and 1024 rows give (its worst: .042).
TEXTS, ROWS = 32, 256


def spread(count: int) -> list[int]:
    """Return which of so many texts are run: `TEXTS` at most, from all parts."""
    places = np.linspace(0, count - 1, min(TEXTS, count)).round().astype(int)
    return [int(place) for place in places]


def run_bundle(
    bundle: Path, texts: Sequence[Mapping[str, Array]], values: Sequence[str], layers: int
) -> tuple[dict[str, Sample], list[list[Array]]]:
    """Run each text alone, as it is in a bundle's own run.

    The bundle's values rather than a float model's: they are what its quantizers get.

    Args:
        bundle: the bundle's folder.
        texts: all that the graph takes, a text an entry.
        values: names of float values (.., in) to sample rows of.
        layers: how many the model has.

    Returns:
        A sample of each value, and each layer's output (1, tokens, hidden), a text an entry.
    """
    names = layer_names(bundle, layers)
    run = open_probe(bundle, [*dict.fromkeys([*values, *names])])
    found = [run(text) for text in texts]
    share = -(-ROWS // len(texts))
    samples = {name: _sample([values[name] for values in found], share) for name in values}
    return samples, [[values[name] for values in found] for name in names]


def _sample(wholes: Sequence[Array], share: int) -> Sample:
    """Take up to `share` rows of each text's value (.., in)."""
    random = np.random.default_rng(0)
    rows, text = [], []
    flat = [whole.reshape(-1, whole.shape[-1]) for whole in wholes]
    for place, whole in enumerate(flat):
        chosen = random.choice(len(whole), min(share, len(whole)), replace=False)
        rows.append(whole[np.sort(chosen)])
        text += [place] * len(chosen)
    low, high = (np.stack([edge(whole) for whole in flat]) for edge in (_lowest, _highest))
    return Sample(np.concatenate(rows), np.array(text), low, high)


def _lowest(whole: Array) -> Array:
    return np.asarray(whole.min(0))


def _highest(whole: Array) -> Array:
    return np.asarray(whole.max(0))
