"""The loop of generation: prompts are read row by row, then all rows go on together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_lra.runner.cache import Cache
from edge_lra.runner.lookup import Lookup
from edge_lra.runner.pieces import Pieces
from edge_lra.runner.sampling import Sampler


@dataclass(frozen=True)
class Generation:
    """What was generated behind one prompt.

    Attributes:
        text: what follows the prompt; without special tokens and the stop string. Empty where
            the bundle has no tokenizer.
        tokens: all new tokens, the stop token among them.
        prompt_tokens: how many the prompt has.
        stopped_by: "stop_token", "stop_string" or "max_tokens".
        prefill_s: seconds to read the prompt.
        decode_s: seconds from then on; of all rows of a batch together.
        drafted: tokens that lookup guessed.
        accepted: guesses that were right.
    """

    text: str
    tokens: list[int]
    prompt_tokens: int
    stopped_by: str
    prefill_s: float
    decode_s: float
    drafted: int = 0
    accepted: int = 0

    @property
    def tokens_per_s(self) -> float:
        """Return the tokens a second behind the first, which the prompt's run gives."""
        return (len(self.tokens) - 1) / self.decode_s if self.decode_s > 0 else 0.0


class Row:
    """One prompt and what follows it."""

    def __init__(
        self,
        prompt: Sequence[int],
        limit: int,
        stop_tokens: Sequence[int],
        sampler: Sampler,
        pieces: Pieces | None,
    ) -> None:
        """Take the prompt, the most new tokens, and how they are chosen and written."""
        self.prompt = list(prompt)
        self.tokens: list[int] = []
        self.stopped_by = ""
        self.prefill_s = self.decode_s = 0.0
        self.drafted = self.accepted = 0
        self._limit = limit
        self._stop_tokens = frozenset(stop_tokens)
        self._sampler = sampler
        self._pieces = pieces

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return self._limit - len(self.tokens)

    def take(self, logits: np.ndarray) -> str:
        """Choose the next token; return the text that is sure now."""
        token = self._sampler.choose(logits)
        self.tokens.append(token)
        piece = ""
        if token in self._stop_tokens:
            self.stopped_by = "stop_token"
        elif self._pieces is not None:
            piece = self._pieces.add(token)
            if self._pieces.stopped:
                self.stopped_by = "stop_string"
        if not self.stopped_by and not self.left:
            self.stopped_by = "max_tokens"
        if self.stopped_by and self._pieces is not None:
            piece += self._pieces.finish()
            if self._pieces.stopped:
                self.stopped_by = "stop_string"
        return piece

    def result(self) -> Generation:
        """Return what was generated."""
        return Generation(
            text=self._pieces.text if self._pieces else "",
            tokens=self.tokens,
            prompt_tokens=len(self.prompt),
            stopped_by=self.stopped_by,
            prefill_s=self.prefill_s,
            decode_s=self.decode_s,
            drafted=self.drafted,
            accepted=self.accepted,
        )


def decode(cache: Cache, rows: Sequence[Row], draft: int = 0) -> Iterator[tuple[int, str]]:
    """Generate until every row has stopped; yield the row's number with each piece of its text.

    A row that has filled the context slides: its last half is read again from the beginning, so
    that it goes on exactly as though its prompt had been these tokens.

    Args:
        cache: an empty one, with as many rows.
        rows: the prompts.
        draft: how many tokens to guess by lookup, of one row only.
    """
    for place, row in enumerate(rows):
        start = time.perf_counter()
        piece = row.take(cache.prefill(row.prompt, place))
        row.prefill_s = time.perf_counter() - start
        if row.stopped_by:
            cache.rest(place)
        if piece:
            yield place, piece
    advance = _Together(cache, rows) if draft == 0 else _Guessing(cache, rows[0], draft)
    active = [place for place, row in enumerate(rows) if not row.stopped_by]
    while active:
        start = time.perf_counter()
        for place in active:
            if cache.lengths[place] == cache.context:
                _slide(cache, rows[place], place)
        pieces = advance(active)
        seconds = time.perf_counter() - start
        for place in active:
            rows[place].decode_s += seconds
            if rows[place].stopped_by:
                cache.rest(place)
        yield from pieces
        active = [place for place in active if not rows[place].stopped_by]


def _slide(cache: Cache, row: Row, place: int) -> None:
    kept = [*row.prompt, *row.tokens][-(cache.context // 2) :]
    cache.truncate(0, place)
    cache.prefill(kept[:-1], place)


Advance = Callable[[Sequence[int]], list[tuple[int, str]]]


class _Together:
    """One token for each active row."""

    def __init__(self, cache: Cache, rows: Sequence[Row]) -> None:
        self._cache = cache
        self._rows = rows
        self._ids = np.zeros(len(rows), np.int64)

    def __call__(self, active: Sequence[int]) -> list[tuple[int, str]]:
        for place in active:
            self._ids[place] = self._rows[place].tokens[-1]
        logits = self._cache.step(self._ids)
        found = [(place, self._rows[place].take(logits[place])) for place in active]
        return [(place, piece) for place, piece in found if piece]


class _Guessing:
    """Several tokens of one row: a guess, as far as the model would have chosen the same."""

    def __init__(self, cache: Cache, row: Row, draft: int) -> None:
        self._cache = cache
        self._row = row
        self._lookup = Lookup(draft)
        self._lookup.extend([*row.prompt, *row.tokens])

    def __call__(self, active: Sequence[int]) -> list[tuple[int, str]]:
        cache, row = self._cache, self._row
        length = cache.lengths[0]
        room = min(cache.scored, cache.context - length, row.left) - 1
        guess = self._lookup.guess(room)
        ids = [row.tokens[-1], *guess]
        logits = cache.score(ids) if guess else cache.step(ids)
        text, start = "", len(row.tokens)
        for place in range(len(ids)):
            text += row.take(logits[place])
            if row.stopped_by or row.tokens[-1] not in guess[place : place + 1]:
                break
        taken = row.tokens[start:]
        cache.truncate(length + len(taken))
        self._lookup.extend(taken)
        row.drafted += len(guess)
        row.accepted += sum(a == b for a, b in zip(taken, guess, strict=False))
        return [(0, text)] if text else []
