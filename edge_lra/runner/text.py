"""Text to token inputs with the bundle's tokenizer.json; `tokenizers` is loaded when needed."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edge_lra.errors import EdgeError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

logger = logging.getLogger(__name__)
BATCH_SIZE = 16
OVERLAP = 128  # context tokens that two neighbouring windows share


class Tokens(NamedTuple):
    """Inputs (batch, sequence) by name, and how many texts were cut at the maximum length."""

    inputs: dict[str, np.ndarray]
    truncated: int


@dataclass(frozen=True)
class Batch:
    """Texts of one length: their places in the caller's list, encodings and inputs."""

    indices: list[int]
    encodings: list[Encoding]
    inputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Window:
    """A question with a stretch of its context; `offsets` are characters of the context."""

    inputs: dict[str, np.ndarray]
    first: int  # position of the first context token
    offsets: list[tuple[int, int]]  # one a context token


class TextEncoder:
    """The tokenizer of one bundle; safe from many threads."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self._folder = folder
        self._info: Mapping[str, Any] | None = manifest.get("tokenizer")
        self._names = [node["name"] for node in manifest["inputs"]]
        self._max_length = int(manifest.get("max_length") or 512)
        self._lock = threading.Lock()
        self._clipped: Tokenizer | None = None
        self._whole: Tokenizer | None = None

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Tokens:
        """Return one padded batch and the number of truncated texts."""
        encodings = self._encode(texts, pairs)
        if not encodings:
            raise EdgeError("texts: found none, expected at least one")
        return Tokens(self._pad(encodings), sum(bool(e.overflowing) for e in encodings))

    def batches(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[Batch]:
        """Yield batches of equal length: none is padded.

        8 texts of 16 to 128 tokens, MiniLM int8, 1 thread: padded to one batch 99 ms, so 53. All
        their tokens packed into one row would take 52 at 1x128's rate, before what it costs to
        take them apart for attention.
        """
        encodings = self._encode(texts, pairs)
        truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        if truncated:
            logger.warning(
                "%d of %d texts were cut at %d tokens", truncated, len(encodings), self._max_length
            )
        by_length: dict[int, list[int]] = defaultdict(list)
        for index, encoding in enumerate(encodings):
            by_length[len(encoding.ids)].append(index)
        for _, indices in sorted(by_length.items()):
            for start in range(0, len(indices), BATCH_SIZE):
                batch = indices[start : start + BATCH_SIZE]
                chosen = [encodings[index] for index in batch]
                yield Batch(batch, chosen, self._pad(chosen))

    def windows(self, question: str, context: str) -> list[Window]:
        """Return the question with each stretch of the context that fits."""
        _check_texts("question", [question])
        _check_texts("context", [context])
        _, whole = self._tokenizers()
        encoding = whole.encode(question, context)
        inside = [place for place, side in enumerate(encoding.sequence_ids) if side == 1]
        if not inside:
            raise EdgeError("context: found no words, expected a text that holds the answer")
        first, last = inside[0], inside[-1] + 1
        room = self._max_length - (len(encoding.ids) - len(inside))
        if room < 1:
            raise EdgeError(
                f"question: leaves no room for the context in {self._max_length} tokens; shorten it"
            )
        step = room - min(OVERLAP, room // 2)
        starts = [0]
        while starts[-1] + room < len(inside):
            starts.append(starts[-1] + step)
        return [
            self._window(encoding, first, last, first + start, min(first + start + room, last))
            for start in starts
        ]

    def _window(self, encoding: Encoding, first: int, last: int, start: int, stop: int) -> Window:
        keep = [*range(first), *range(start, stop), *range(last, len(encoding.ids))]
        columns = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": self._types(encoding),
        }
        inputs = {
            name: np.array([[columns[name][place] for place in keep]], np.int64)
            for name in self._names
            if name in columns
        }
        return Window(inputs, first, encoding.offsets[start:stop])

    def _encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[Encoding]:
        _check_texts("texts", texts)
        if pairs is not None:
            _check_texts("pairs", pairs)
            if len(pairs) != len(texts):
                raise EdgeError(f"pairs: found {len(pairs)}, expected one a text: {len(texts)}")
        clipped, _ = self._tokenizers()
        rows = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        return clipped.encode_batch(rows) if rows else []

    def _pad(self, encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
        pad_id = int((self._info or {}).get("pad_id") or 0)
        shape = (len(encodings), max(1, *(len(encoding.ids) for encoding in encodings)))
        columns = {
            "input_ids": np.full(shape, pad_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for row, encoding in enumerate(encodings):
            size = len(encoding.ids)
            columns["input_ids"][row, :size] = encoding.ids
            columns["attention_mask"][row, :size] = encoding.attention_mask
            columns["token_type_ids"][row, :size] = self._types(encoding)
        return {name: columns[name] for name in self._names if name in columns}

    def _types(self, encoding: Encoding) -> list[int]:
        """Return which of a pair each token is of, or zeros where the model never saw it."""
        known = (self._info or {}).get("token_types", True)
        return list(encoding.type_ids) if known else [0] * len(encoding.ids)

    def _tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """Return one that truncates and one that does not; their settings never change."""
        with self._lock:
            if self._clipped is None or self._whole is None:
                self._clipped = open_tokenizer(self._folder, self._info)
                self._whole = open_tokenizer(self._folder, self._info)
                self._clipped.enable_truncation(self._max_length)
            return self._clipped, self._whole


def open_tokenizer(folder: Path, info: Mapping[str, Any] | None) -> Tokenizer:
    """Open a bundle's tokenizer, which neither pads nor truncates.

    Raises:
        EdgeError: there is none, it is damaged, or `tokenizers` is not installed.
    """
    if info is None:
        raise EdgeError(f"{folder}: holds no tokenizer; give token ids")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise EdgeError(
            'tokenizers: is not installed, text needs it; pip install "edge-lra[text]"'
        ) from None
    path = folder / info["file"]
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise EdgeError(f"{path}: is not a tokenizer: {str(error).splitlines()[0]}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _check_texts(name: str, texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise EdgeError(f"{name}: found one string, expected a list of strings")
    for text in texts:
        if not isinstance(text, str):
            raise EdgeError(f"{name}: found {type(text).__name__}, expected strings")
