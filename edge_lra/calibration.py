"""The text that an export calibrates with, as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.bundle import sha256_file
from edge_lra.checkpoint import Checkpoint
from edge_lra.texts import Row, read_texts, sentences
from edge_lra.tokenizer_file import open_tokenizer
from edge_lra.weights import Array

TEXTS = 128  # that calibrate, at most
OWN = 16  # the user's texts are at least so many, to take ranges of activations from
LONGEST = 128  # tokens of a text that are read
TOKENS = 4096  # of all: what the run holds in memory
BUILT_IN = "calibration.txt"


@dataclass(frozen=True)
class Calibration:
    """What a model is calibrated with.

    Attributes:
        texts: each (tokens,) ids; none for random ids.
        source: where they come from.
        sha256: of the user's file, where texts of it are among them.
    """

    texts: tuple[Array, ...]
    source: str
    sha256: str | None = None

    @property
    def own(self) -> bool:
        """Whether the user's text is among them."""
        return self.sha256 is not None

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        tokens = sum(len(ids) for ids in self.texts)
        counts = {"texts": len(self.texts), "tokens": tokens}
        return {"source": self.source, **counts, "sha256": self.sha256}


def split_rows(rows: Sequence[Row], most: int) -> tuple[Sequence[Row], Sequence[Row]]:
    """Return the rows to verify with and the rows to calibrate with: no row is both.

    The last half of the file calibrates, at most TEXTS rows of it, and none where that were too
    few; the first rows verify, at most `most`.
    """
    count = min(TEXTS, len(rows) // 2)
    count = count if count >= OWN else 0
    return rows[: len(rows) - count][:most], rows[len(rows) - count :]


def calibrate_with(checkpoint: Checkpoint, data: Path | None, longest: int) -> Calibration:
    """Return the user's text filled up to TEXTS with the built-in one; random ids without tokens.

    Args:
        checkpoint: has the tokenizer.
        data: the user's text.
        longest: tokens that the model takes.

    Raises:
        EdgeError: the file is not text.
    """
    file = checkpoint.path / "tokenizer.json"
    if not file.is_file():
        return Calibration((), "random ids")
    rows = list(split_rows(read_texts(data), 0)[1]) if data else []
    own = len(rows)
    rows += sentences(BUILT_IN)[: TEXTS - own]
    names = [*([data.name] if data and own else []), *(["built-in text"] if own < TEXTS else [])]
    tokenizer = open_tokenizer(file, file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(LONGEST, longest))
    encodings = tokenizer.encode_batch([row.text for row in rows])
    ids = [np.array(encoding.ids, np.int64) for encoding in encodings if encoding.ids]
    if not ids:
        return Calibration((), "random ids")
    room = np.cumsum([len(text) for text in ids]) <= TOKENS
    texts = tuple(text for text, fits in zip(ids, room, strict=True) if fits)
    return Calibration(texts, " and ".join(names), sha256_file(data) if data and own else None)


def calibrated_with(manifest: Mapping[str, Any], data: Path | None) -> bool:
    """Say whether texts of a file calibrated a bundle."""
    calibration = manifest.get("calibration")
    known = calibration["sha256"] if calibration else None
    return known is not None and data is not None and data.is_file() and sha256_file(data) == known
