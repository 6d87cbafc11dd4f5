"""Turn factors found in another format into PEFT's terms: names, layouts, ranks and alphas."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.adapters.saved import Array, Saved
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import TensorFile, read_rows

DOWN, UP = "lora_A.weight", "lora_B.weight"
DOWN_ROWS, UP_ROWS = "lora_embedding_A", "lora_embedding_B"
MAGNITUDE = "lora_magnitude_vector"
Change = Callable[[Array], Array]


class Computed(Mapping[str, Array]):
    """Tensors by name, each worked out when it is asked for and not kept."""

    def __init__(self, steps: Mapping[str, Callable[[], Array]]) -> None:
        """Take how each is worked out."""
        self._steps = dict(steps)

    def __getitem__(self, name: str) -> Array:
        """Work a tensor out."""
        return self._steps[name]()

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._steps)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._steps)


@dataclass
class Part:
    """A tensor of a file on its way to PEFT's layout.

    Attributes:
        key: its name in the file, for messages.
        shape: in PEFT's layout, known before it is read.
        read: returns it in PEFT's layout.
    """

    key: str
    shape: tuple[int, ...]
    read: Callable[[], Array]


@dataclass
class Parts:
    """The sites of one file, as they are found.

    Attributes:
        where: the file, for messages.
        sites: parts by PEFT's name, by module.
        scales: alpha / rank by module; 1 where none is given.
        whole: whole tensors by name.
    """

    where: Path
    sites: dict[str, dict[str, Part]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    whole: dict[str, Part] = field(default_factory=dict)

    def add(self, module: str, part: str, found: Part) -> None:
        """Note a site's part.

        Raises:
            EdgeError: the site has it already, under another key.
        """
        known = self.sites.setdefault(module, {})
        if part in known:
            raise EdgeError(
                f"{self.where}: {found.key}: found {module}'s {part} twice, also as "
                f"{known[part].key}, expected it once; save one adapter"
            )
        known[part] = found

    def rank(self, module: str) -> int:
        """Return a site's rank.

        Raises:
            EdgeError: a factor is missing or empty, or the two do not fit each other.
        """
        parts = self.sites[module]
        pair = (DOWN_ROWS, UP_ROWS) if {DOWN_ROWS, UP_ROWS} & parts.keys() else (DOWN, UP)
        where = f"{self.where}: {module}"
        if missing := [part for part in pair if part not in parts]:
            found = ", ".join(part.key for part in parts.values())
            raise EdgeError(
                f"{where}: found {found} without its {missing[0]}, expected both factors; "
                "the adapter is incomplete, save it again"
            )
        down, up = (parts[part].shape for part in pair)
        if 0 in (*down, *up):
            raise EdgeError(
                f"{where}: found factors {up} and {down} of size zero, expected a rank of at "
                "least 1; save the adapter again"
            )
        if len(down) < 2 or len(up) < 2 or down[0] != up[1]:
            raise EdgeError(
                f"{where}: found factors {up} and {down} in PEFT's layout, expected (out, rank) "
                "and (rank, in); the file is damaged, save it again"
            )
        return down[0]

    def saved(self, path: Path, title: str, config_file: Path, config: Mapping[str, Any]) -> Saved:
        """Return them as PEFT would have saved them.

        Args:
            path: what the user gave.
            title: the format's.
            config_file: where ranks and alphas come from, for messages.
            config: further settings.

        Raises:
            EdgeError: there is no site, or one is incomplete.
        """
        if not self.sites:
            raise EdgeError(f"{self.where}: found no factors, expected some; is it an adapter?")
        ranks = {module: self.rank(module) for module in sorted(self.sites)}
        alphas = {module: self.scales.get(module, 1.0) * rank for module, rank in ranks.items()}
        rank, alpha = (Counter(v.values()).most_common(1)[0][0] for v in (ranks, alphas))
        settings = {
            **{key: value for key, value in config.items() if value is not None},
            "peft_type": "LORA",
            "inference_mode": True,
            "r": int(rank),
            "lora_alpha": tidy(alpha),
            "target_modules": list(ranks),
            "rank_pattern": {anchored(m): r for m, r in ranks.items() if r != rank},
            "alpha_pattern": {anchored(m): tidy(a) for m, a in alphas.items() if a != alpha},
            "use_dora": any(MAGNITUDE in parts for parts in self.sites.values()),
        }
        steps = {name: part.read for name, part in self.whole.items()}
        for module, parts in self.sites.items():
            steps |= {f"{module}.{name}": part.read for name, part in parts.items()}
        return Saved(path, title, config_file, self.where, settings, Computed(steps))


def anchored(module: str) -> str:
    """Return the pattern that matches this module only."""
    return f"^{re.escape(module)}"


def tidy(value: float) -> float | int:
    """Return a whole number without its point."""
    return int(value) if float(value).is_integer() else float(value)


def part_of(file: TensorFile, key: str, change: Change | None = None) -> Part:
    """Return a tensor of a file, in another layout if `change` is given.

    `change` rearranges axes and rows alone: its effect on the shape is tried without data.
    """
    shape = file.tensors[key].shape
    if change is None:
        return Part(key, shape, lambda: read_rows(file, key))
    # A view of one zero costs no memory, whatever its shape.
    turned = change(np.broadcast_to(np.zeros(1, np.float32), shape))
    return Part(key, turned.shape, lambda: np.ascontiguousarray(change(read_rows(file, key))))


def transpose(values: Array) -> Array:
    """Return a matrix the other way round; what is none stays, and is refused later."""
    return values.T if values.ndim == 2 else values
