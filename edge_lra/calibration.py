"""The text that an export calibrates with, as token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge_lra.bundle import sha256_file
from edge_lra.checkpoint import Checkpoint
from edge_lra.texts import ALONE, Row, built_in_texts, pairs_of, read_texts, sentences
from edge_lra.tokenizer_file import open_tokenizer
from edge_lra.weights import Array

TEXTS = 128  # that calibrate, at most
OWN = 16  # the user's texts are at least so many, to take ranges of activations from
LONGEST = 128  # tokens of a text that are read
TOKENS = 4096  # of all: what the run holds in memory
# A language model's: all built-in texts, in a vocabulary for few languages as well.
DECODER_TOKENS = 8192
BUILT_IN = "calibration.txt"
Lead = Callable[[Sequence[int]], int | None]


@dataclass(frozen=True)
class Calibration:
    """What a model is calibrated with.

    Attributes:
        texts: each (tokens,) ids; none for random ids.
        source: where they come from.
        sha256: of the user's file, where texts of it are among them.
        types: of each text's tokens, (tokens,), which of a pair they are of; none for 0 throughout.
    """

    texts: tuple[Array, ...]
    source: str
    sha256: str | None = None
    types: tuple[Array, ...] = ()

    @property
    def own(self) -> bool:
        """Whether the user's text is among them."""
        return self.sha256 is not None

    def as_dict(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        tokens = sum(len(ids) for ids in self.texts)
        counts = {"texts": len(self.texts), "tokens": tokens}
        return {"source": self.source, **counts, "sha256": self.sha256}


def no_lead(ids: Sequence[int]) -> None:
    """Return None: nothing is put before a text's ids."""


def split_rows(rows: Sequence[Row], most: int) -> tuple[Sequence[Row], Sequence[Row]]:
    """Return the rows to verify with and the rows to calibrate with: no row is both.

    The last half of the file calibrates, at most TEXTS rows of it, and none where that were too
    few; the first rows verify, at most `most`.
    """
    count = min(TEXTS, len(rows) // 2)
    count = count if count >= OWN else 0
    return rows[: len(rows) - count][:most], rows[len(rows) - count :]


def calibrate_with(
    checkpoint: Checkpoint,
    data: Path | None,
    longest: int,
    task: str = "feature-extraction",
    typed: bool = True,
    lead: Lead = no_lead,
) -> Calibration:
    """Return the user's text filled up to TEXTS with the built-in one; random ids without tokens.

    Texts go in pairs where the user's do, or where a question goes with its context.

    Args:
        checkpoint: has the tokenizer.
        data: the user's text.
        longest: tokens that the model takes.
        task: what the model is exported for.
        typed: it is told which of a pair a token is of.
        lead: gives what is put before a text's ids; None for nothing.

    Raises:
        EdgeError: the file is not text.
    """
    file = checkpoint.path / "tokenizer.json"
    if not file.is_file():
        return Calibration((), "random ids")
    own_texts = read_texts(data, paired=task not in ALONE) if data else []
    rows = list(split_rows(own_texts, 0)[1])
    own = len(rows)
    paired = any(row.pair is not None for row in rows)
    added = sentences(BUILT_IN)[: TEXTS - own]
    pairs = [
        *(pairs_of(rows, task) or []),
        *(pairs_of(added, "question-answering" if paired else task) or []),
    ]
    rows += added
    names = [*([data.name] if data and own else []), *(["built-in text"] if own < TEXTS else [])]
    found = encode(file, rows, pairs, longest, typed, lead)
    if not found.texts:
        return Calibration((), "random ids")
    most = DECODER_TOKENS if task == "text-generation" else TOKENS
    room = int((np.cumsum([len(text) for text in found.texts]) <= most).sum())
    sha256 = sha256_file(data) if data and own else None
    return Calibration(found.texts[:room], " and ".join(names), sha256, found.types[:room])


class Encoded(NamedTuple):
    """Texts as a model reads them.

    Attributes:
        texts: each (tokens,) ids.
        types: of each text's tokens, (tokens,), which of a pair they are of; none for 0 throughout.
    """

    texts: tuple[Array, ...]
    types: tuple[Array, ...] = ()


def held_out(
    checkpoint: Checkpoint,
    data: Path | None,
    longest: int,
    most: int,
    task: str = "feature-extraction",
    typed: bool = True,
) -> Encoded:
    """Return texts that do not calibrate: those that verify.

    Args:
        checkpoint: has a tokenizer.
        data: the user's text; None for built-in sentences.
        longest: tokens that the model takes.
        most: texts.
        task: what the model is exported for.
        typed: it is told which of a pair a token is of.
    """
    rows = built_in_texts()[:most]
    if data:
        rows = list(split_rows(read_texts(data, paired=task not in ALONE), most)[0])
    file = checkpoint.path / "tokenizer.json"
    return encode(file, rows, pairs_of(rows, task) or (), longest, typed)


def encode(
    file: Path,
    rows: Sequence[Row],
    pairs: Sequence[str],
    longest: int,
    typed: bool,
    lead: Lead = no_lead,
) -> Encoded:
    """Return each row's text by a tokenizer's file; none are empty.

    Args:
        file: the tokenizer's.
        rows: with the texts.
        pairs: what each goes with; none where they are alone.
        longest: tokens that the model takes.
        typed: it is told which of a pair a token is of.
        lead: gives what is put before a text's ids; None for nothing.
    """
    tokenizer = open_tokenizer(file, file)
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(LONGEST, longest))
    texts = [row.text for row in rows]
    encodings = tokenizer.encode_batch(list(zip(texts, pairs, strict=True)) if pairs else texts)
    found = [encoding for encoding in encodings if encoding.ids]
    led = [(lead(encoding.ids), encoding.ids) for encoding in found]
    return Encoded(
        tuple(
            np.array(own if first is None else [first, *own][:longest], np.int64)
            for first, own in led
        ),
        tuple(np.array(e.type_ids, np.int64) for e in found) if pairs and typed else (),
    )


def calibrated_with(manifest: Mapping[str, Any], data: Path | None) -> bool:
    """Say whether texts of a file calibrated a bundle."""
    calibration = manifest.get("calibration")
    known = calibration["sha256"] if calibration else None
    return known is not None and data is not None and data.is_file() and sha256_file(data) == known
