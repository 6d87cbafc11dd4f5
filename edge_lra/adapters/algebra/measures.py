"""What an adapter's sites look like in numbers: size, effective rank, spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_lra.adapters.algebra.svd import decompose, squared_norm
from edge_lra.adapters.lora_file import LoraFile
from edge_lra.adapters.names import find_rename, tied_heads
from edge_lra.checkpoint import Checkpoint

BARS = "▁▂▃▄▅▆▇█"
SHOWN = 16  # singular values of a sparkline


@dataclass(frozen=True)
class Measure:
    """One module's update D = scale * up @ down.

    Attributes:
        norm: ||D||, Frobenius.
        relative_norm: ||D|| / ||W||, where the base is known.
        effective_rank: exp of the entropy of the singular values' shares.
        spectrum: singular values over the largest, descending.
    """

    module: str
    rank: int
    scale: float
    norm: float
    relative_norm: float | None
    effective_rank: float
    spectrum: list[float]


def measure(lora: LoraFile, base: Checkpoint | None = None) -> list[Measure]:
    """Measure every site of a LoRA, one at a time.

    Raises:
        EdgeError: factors are damaged, or the base is another one.
    """
    modules = sorted(lora.sites)
    names = {}
    if base is not None:
        names = base_names(lora, base)
    found = []
    for module in modules:
        update = lora.sites[module]
        parts = decompose(update)
        norm = math.sqrt(parts.energy)
        relative = None
        if base is not None:
            rows = (part.reshape(len(part), -1) for _, part in base.row_chunks(names[module]))
            size = math.sqrt(sum(map(squared_norm, rows)))
            relative = norm / size if size else None
        largest = parts.values[0] or 1.0
        spectrum = [round(float(value / largest), 6) for value in parts.values]
        effective = parts.effective_rank()
        rank, scale = len(update.down), update.scale
        found.append(Measure(module, rank, scale, norm, relative, effective, spectrum))
    return found


def base_names(lora: LoraFile, base: Checkpoint) -> dict[str, str]:
    """Return the base's weight of each module; of a head that shares one, the embedding's.

    Raises:
        EdgeError: the base is another one.
    """
    ties = tied_heads(base.tensors)
    known = {head: base.tensors[name] for head, name in ties.items()} | dict(base.tensors)
    wanted = {module: f"{module}.weight" for module in lora.sites}
    rename = find_rename(lora.saved.file, wanted.values(), known)
    found = {m: next(n for n in (rename(w), w) if n in known) for m, w in wanted.items()}
    return {module: ties.get(name, name) for module, name in found.items()}


def sparkline(spectrum: list[float]) -> str:
    """Return singular values as bars, the largest the highest; of many, evenly picked ones."""
    places = np.unique(np.linspace(0, len(spectrum) - 1, min(SHOWN, len(spectrum))).round())
    picked = [spectrum[int(place)] for place in places]
    return "".join(BARS[min(len(BARS) - 1, int(value * len(BARS)))] for value in picked)
