"""Guess the next tokens from what the text has said before, for the model to confirm.

Source: Saxena, Prompt Lookup Decoding, 2023 (github.com/apoorvumang/prompt-lookup-decoding). The
model reads its last token and the draft in one run and keeps the tokens it would have chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 3  # tokens that must repeat; a shorter stretch is tried when a longer one is new


class Lookup:
    """Where each short stretch of tokens ended last, so that a guess costs no search."""

    def __init__(self, draft: int) -> None:
        """Take how many tokens a guess may have."""
        self._draft = draft
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # stretch -> where what followed it begins

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens of the prompt or the text."""
        for token in tokens:
            # A stretch is noted when its follower is known: the last one must not find itself.
            for size in range(1, LONGEST + 1):
                if len(self._tokens) >= size:
                    self._ends[tuple(self._tokens[-size:])] = len(self._tokens)
            self._tokens.append(token)

    def guess(self, most: int) -> list[int]:
        """Return what followed the longest stretch that the text ends with; at most `most`.

        A guess may run over the end of the text into itself, as what repeats does.
        """
        for size in range(min(LONGEST, len(self._tokens)), 0, -1):
            start = self._ends.get(tuple(self._tokens[-size:]))
            if start is not None:
                period = self._tokens[start:]
                count = max(0, min(self._draft, most))
                return [period[place % len(period)] for place in range(count)]
        return []
