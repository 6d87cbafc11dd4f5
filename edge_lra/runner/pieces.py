"""Tokens to text as they come: whole characters, and nothing behind a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

HALF = "\ufffd"  # what a decoder writes for bytes that are no character yet
CONTEXT = 6  # tokens of the prompt that are decoded with the first of the text


class Pieces:
    """The text of one row, handed out in pieces.

    A token may be half a character, and its text may depend on the token before it: the tokens
    since the last whole piece are decoded together, and what they add is the next piece.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stop: Sequence[str], prompt: Sequence[int]
    ) -> None:
        """Take the tokenizer's decoder, the strings that end the text and what it continues."""
        self._decode = decode
        self._stop = tuple(stop)
        # Without a token before it, the first would lose the space it begins with.
        self._tokens = list(prompt[-CONTEXT:])
        self._before = decode(self._tokens)  # text of the tokens that gave theirs
        if self._before.endswith(HALF):
            self._tokens, self._before = [], ""
        self._known = len(self._tokens)
        self._held = ""  # text that may be the beginning of a stop string
        self.text = ""  # what was handed out
        self.stopped = False

    def add(self, token: int) -> str:
        """Return the text that is sure now; it ends before a stop string, and then for good."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        if len(text) <= len(self._before) or text.endswith(HALF):
            return ""
        piece = text[len(self._before) :]
        self._tokens = self._tokens[self._known :]
        self._known = len(self._tokens)
        self._before = self._decode(self._tokens)
        return self._hand_out(piece, last=False)

    def finish(self) -> str:
        """Return the rest: half characters as the decoder writes them, and what was held."""
        piece = self._decode(self._tokens)[len(self._before) :]
        self._tokens, self._known, self._before = [], 0, ""
        return self._hand_out(piece, last=True)

    def _hand_out(self, piece: str, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + piece
        found = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        self.stopped = bool(found)
        sure = min(found) if found else len(text) - (0 if last else self._beginning(text))
        self._held = "" if found else text[sure:]
        self.text += text[:sure]
        return text[:sure]

    def _beginning(self, text: str) -> int:
        """Return how many characters at the end may be the beginning of a stop string."""
        longest = min(len(text), max((len(stop) - 1 for stop in self._stop), default=0))
        for size in range(longest, 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stop):
                return size
        return 0
