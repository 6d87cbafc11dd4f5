"""Texts to windows of token ids, as the model saw them when it was trained.

A text's ids are those of the bundle's tokenizer, with the special tokens that its file adds
(transformers adds the same). Where it puts none in front, the text is led by the token that ends
one: that is what stands before a text in packed training data, and without a token before it the
first one could not be scored. A text that is longer than a window goes on in another, led alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.metrics import Array

LENGTH = 256  # tokens of a window, its leading one included
TOKENS = 512  # scored where the user names no number: SmolLM2-135M takes 10 s on two threads


@dataclass(frozen=True)
class Windows:
    """Rows of token ids that are run each by itself.

    Attributes:
        rows: (tokens,) int64 each, at least two.
        source: where the texts come from.
        texts: how many of them are in the rows.
        truncated: of these, the one that the number of tokens cut.
    """

    rows: tuple[Array, ...]
    source: str
    texts: int
    truncated: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens are predicted: all but each row's first."""
        return sum(len(row) - 1 for row in self.rows)


def cut_windows(
    texts: Sequence[str],
    source: str,
    tokenize: Callable[[str], list[int]],
    decoder: Mapping[str, Any],
    tokens: int | None = None,
) -> Windows:
    """Return the windows of texts, until so many tokens are scored.

    Args:
        texts: in the order in which they are taken.
        source: what to call them.
        tokenize: the bundle's.
        decoder: the manifest's entry.
        tokens: to score at most; None for `TOKENS`.

    Raises:
        EdgeError: the number makes no sense, or no text has a token to score.
    """
    left = check_tokens(tokens)
    length = min(LENGTH, decoder["context_length"])
    rows: list[Array] = []
    used = truncated = 0
    for text in texts:
        if left < 1:
            break
        ids = tokenize(text)
        parts = split(ids, leading_token(ids, decoder), length)
        kept = []
        for part in parts:
            cut = part[: left + 1]
            if len(cut) > 1:
                kept.append(np.array(cut, np.int64))
                left -= len(cut) - 1
        used += bool(kept)
        truncated += bool(kept) and sum(map(len, kept)) < sum(map(len, parts))
        rows += kept
    if not rows:
        raise EdgeError(f"{source}: found no text of two tokens, expected one to verify with")
    return Windows(tuple(rows), source, used, truncated)


def check_tokens(tokens: int | None) -> int:
    """Return how many tokens to score.

    Raises:
        EdgeError: it is none.
    """
    if tokens is not None and tokens < 1:
        raise EdgeError(f"verify tokens: found {tokens}, expected at least 1")
    return TOKENS if tokens is None else tokens


def leading_token(ids: Sequence[int], decoder: Mapping[str, Any]) -> int | None:
    """Return what is put before a text's ids: None where the tokenizer did so, or nothing fits."""
    ends, begin = decoder["eos_token_ids"], decoder["bos_token_id"]
    if not ids or ids[0] in (begin, *ends):
        return None
    return int(ends[0]) if ends else begin


def split(ids: Sequence[int], leading: int | None, length: int) -> list[list[int]]:
    """Return a text's ids in windows of at most `length`, each led by `leading`."""
    first = [] if leading is None else [leading]
    room = max(1, length - len(first))
    return [[*first, *ids[start : start + room]] for start in range(0, len(ids), room)]


def random_windows(rows: Array) -> Windows:
    """Return windows of random ids (rows, tokens), for a bundle without a tokenizer."""
    return Windows(tuple(rows), "random ids (no tokenizer)", len(rows))
