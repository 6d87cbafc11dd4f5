"""Prompts and conversations to token ids, and token ids to text, with a bundle's tokenizer."""

from __future__ import annotations

import importlib.util
import numbers
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.runner.chat import ChatTemplate, Message
from edge_lra.runner.text import open_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Prompt = str | Sequence[int] | np.ndarray


def is_one(prompt: Any) -> TypeGuard[Prompt]:
    """Tell one prompt, text or ids, from a list of prompts."""
    if isinstance(prompt, np.ndarray):
        return bool(prompt.ndim == 1)
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        return True  # what is neither is refused as one
    return len(prompt) > 0 and all(isinstance(token, numbers.Integral) for token in prompt)


class Prompts:
    """The tokenizer of one bundle, opened when it is needed; safe from many threads."""

    def __init__(self, folder: Path, info: dict[str, Any] | None, vocabulary: int) -> None:
        """Take the bundle's folder, its manifest's `tokenizer` and the vocabulary's size."""
        self._folder = folder
        self._info = info
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._tokenizer: Tokenizer | None = None
        self._template: ChatTemplate | None = None

    def ids(self, prompt: Prompt) -> list[int]:
        """Return a prompt's token ids.

        Raises:
            EdgeError: it is empty, holds an id that is none, or the bundle has no tokenizer.
        """
        if isinstance(prompt, str):
            found = self.tokenize(prompt)
            if not prompt or not found:
                raise EdgeError("prompt: found it empty, expected text")
            return found
        items = prompt if isinstance(prompt, (Sequence, np.ndarray)) else [None]
        if not all(isinstance(token, numbers.Integral) for token in items):
            raise EdgeError("prompt: found no text and no token ids, expected one of them")
        ids = [int(token) for token in items]
        if not ids:
            raise EdgeError("prompt: found it empty, expected at least one token")
        odd = [token for token in ids if not 0 <= token < self._vocabulary]
        if odd:
            raise EdgeError(f"prompt: found {odd[0]}, expected ids of 0 to {self._vocabulary - 1}")
        return ids

    def tokenize(self, text: str) -> list[int]:
        """Return a text's ids with the special tokens that the tokenizer's file adds.

        So does transformers: it ignores `add_bos_token` where there is a tokenizer.json.
        """
        return self._known(self._open().encode(text).ids)

    def chat(self, messages: Sequence[Message], **values: Any) -> list[int]:
        """Return the ids of a conversation; the template writes its special tokens itself."""
        if self._template is None:
            self._template = ChatTemplate.load(self._folder)
        text = self._template.render(messages, **values)
        return self._known(self._open().encode(text, add_special_tokens=False).ids)

    def decoder(self, needed: bool) -> Callable[[Sequence[int]], str] | None:
        """Return the function from ids to text; None, unless needed, where there is no way."""
        if not needed and (self._info is None or not importlib.util.find_spec("tokenizers")):
            return None
        return self._open().decode

    def _known(self, ids: Sequence[int]) -> list[int]:
        if ids and max(ids) >= self._vocabulary:
            raise EdgeError(
                f"tokenizer: gives id {max(ids)}, expected 0 to {self._vocabulary - 1}, the "
                "model's; is it another model's tokenizer?"
            )
        return list(ids)

    def _open(self) -> Tokenizer:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = open_tokenizer(self._folder, self._info)
            return self._tokenizer
