"""Text for verification: the user's file, or sentences written for this project."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_lra.errors import EdgeError
from edge_lra.resources import data_folder


@dataclass(frozen=True)
class Row:
    """One text and, where the file has it, its label."""

    text: str
    label: str | None = None


def built_in_texts() -> list[Row]:
    """Return the sentences that travel with the package, in several languages."""
    lines = (data_folder("samples") / "sentences.txt").read_text(encoding="utf-8").splitlines()
    return [Row(line) for line in lines if line]


def read_texts(path: Path) -> list[Row]:
    """Read `.txt` (a line each) or `.tsv`, `.csv`, `.jsonl` with `text` and perhaps `label`.

    Raises:
        EdgeError: the file is missing, empty, of another kind or has no `text`.
    """
    readers = {".txt": _lines, ".tsv": _table, ".csv": _table, ".jsonl": _jsonl}
    if path.suffix not in readers:
        raise EdgeError(f"{path}: found {path.suffix!r}, expected one of {', '.join(readers)}")
    try:
        rows = [row for row in readers[path.suffix](path) if row.text.strip()]
    except FileNotFoundError:
        raise EdgeError(f"{path}: found no such file; check --data") from None
    except (UnicodeDecodeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise EdgeError(f"{path}: found {error}, expected UTF-8 rows with a text column") from None
    if not rows:
        raise EdgeError(f"{path}: found no text, expected at least one line")
    return rows


def _lines(path: Path) -> Iterator[Row]:
    yield from (Row(line) for line in path.read_text(encoding="utf-8").splitlines())


def _table(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        quoting = csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL
        delimiter = "\t" if path.suffix == ".tsv" else ","
        for row in csv.DictReader(file, delimiter=delimiter, quoting=quoting):
            yield Row(row["text"], row.get("label"))


def _jsonl(path: Path) -> Iterator[Row]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            row = json.loads(line)
            label = row.get("label")
            yield Row(str(row["text"]), None if label is None else str(label))
