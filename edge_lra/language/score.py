"""Run a bundle over windows of tokens beside the float model, and keep what the metrics need.

The bundle is the one that ships: it gives the logits of every position of short runs alone, so
that a window is read in pieces over the cache, as text is generated. Long runs take other kernels;
the longest windows are read once more in one piece each, and their last position is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra import golden
from edge_lra.language.metrics import Positions, compare_positions, join
from edge_lra.language.oracle import FloatModel, Step
from edge_lra.language.windows import Windows
from edge_lra.metrics import Array
from edge_lra.runner import Cache, Generator

EFFECT_ROWS = 8  # windows that show the adapter's effect
PREFILLS = 16  # windows that are read in one piece
PROMPTS = (32, 8, 17, 16)  # tokens of the golden cases: runs to both sides of a short one
GREEDY_TOKENS = 16


@dataclass(frozen=True)
class Scores:
    """What was found of one adapter, or of none.

    Attributes:
        positions: of short runs.
        prefills: of long ones; None where every window is short.
        survival: of the adapter's effect, as `verify.adapter_survival`; None without an adapter,
            NaN where it has no effect in the float model itself.
        cases: the golden ones.
    """

    positions: Positions
    prefills: Positions | None
    survival: float | None
    cases: list[golden.Case]


class Scorer:
    """One adapter's bundle beside its float model, on the same windows."""

    def __init__(
        self,
        generator: Generator,
        model: FloatModel,
        windows: Windows,
        adapter: str | None,
        has_effect: bool,
        step: Step,
    ) -> None:
        """Run the float model over the windows.

        Args:
            generator: the bundle's.
            model: the float model with the adapter.
            windows: what both read.
            adapter: of a factored bundle.
            has_effect: whether to measure how much of the adapter's effect is left.
            step: told how many of how many parts are done.
        """
        self._generator, self._model, self._adapter = generator, model, adapter
        self._rows = windows.rows
        rows = list(windows.rows)
        self._step = step
        self._hidden = model.hidden(rows, True, lambda done, total: step(done, 2 * total))
        effect = rows[:EFFECT_ROWS] if has_effect else []
        self._plain = model.hidden(effect, False, lambda done, total: None) if effect else []

    def score(self) -> Scores:
        """Run the bundle over the windows."""
        parts, along, total = [], 0.0, 0.0
        for place, row in enumerate(self._rows):
            for start, found in self._pieces(row):
                expected = self._expected(place, start, len(found))
                following = row[start + 1 : start + 1 + len(found)]
                count = len(following)
                if count:
                    parts.append(compare_positions(expected[:count], found[:count], following))
                if place < len(self._plain):
                    part = self._plain[place][start : start + len(found)]
                    base = self._model.logits(part, False).astype(np.float64)
                    effect, shown = expected - base, found - base
                    along += float(np.vdot(effect, shown))
                    total += float(np.vdot(effect, effect))
            self._step(len(self._rows) + place + 1, 2 * len(self._rows))
        survival = (along / total if total else float("nan")) if self._plain else None
        return Scores(join(parts), self._prefills(), survival, self._cases())

    def _cache(self) -> Cache:
        return self._generator.cache(adapter=self._adapter)

    def _expected(self, place: int, start: int, count: int) -> Array:
        return self._model.logits(self._hidden[place][start : start + count], True)

    def _pieces(self, row: Array) -> Iterator[tuple[int, Array]]:
        """Yield (first position, logits) of a window in pieces over one cache."""
        cache, size = self._cache(), self._generator.layout.scored
        for start in range(0, len(row), size):
            yield start, cache.score(row[start : start + size])

    def _prefills(self) -> Positions | None:
        short = self._generator.layout.scored
        places = [p for p, row in enumerate(self._rows) if len(row) > short]
        places.sort(key=lambda place: -len(self._rows[place]))
        found = []
        for place in places[:PREFILLS]:
            row = self._rows[place]
            logits = self._cache().prefill(row)[None]
            expected = self._expected(place, len(row) - 1, 1)
            # What follows the last token is not known: only the distributions are compared.
            found.append(compare_positions(expected, logits, expected.argmax(-1)))
        return join(found) if found else None

    def _cases(self) -> list[golden.Case]:
        """Return prompts with the logits of their last token, and what greedily follows."""
        cases = []
        context = self._generator.layout.context
        for place, length in zip(range(len(self._rows)), PROMPTS, strict=False):
            ids = self._rows[place][: min(length, context - GREEDY_TOKENS)]
            cache = self._cache()
            logits = cache.prefill(ids).copy()
            inputs = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), np.int64)}
            exact = self._expected(place, len(ids) - 1, 1)
            cases.append(
                golden.Case(
                    self._adapter,
                    inputs,
                    {"logits": logits[None, None]},
                    {"logits": exact[None]},
                    continue_greedily(cache, logits, GREEDY_TOKENS),
                )
            )
        return cases


def continue_greedily(cache: Cache, logits: Any, count: int) -> golden.Greedy:
    """Return the tokens that greedily follow what a cache has read, with their margins.

    Args:
        cache: of one row.
        logits: (vocabulary,) of the last token it read.
        count: how many tokens to take.
    """
    tokens: list[int] = []
    margins: list[float] = []
    for place in range(count):
        if place:
            logits = cache.step([tokens[-1]])[0]
        second, best = np.sort(np.partition(logits, -2)[-2:])
        tokens.append(int(np.argmax(logits)))
        margins.append(float(best - second))
    return golden.Greedy(np.array(tokens, np.int64), np.array(margins, np.float32))
