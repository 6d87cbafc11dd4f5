"""Text to verify and to calibrate with, from the user's file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_lra.errors import EdgeError

BESIDE = ("label", "text_pair")  # keys of a row beside its text
ALONE = ("sentence-embedding", "token-classification", "text-generation")  # take no pairs


@dataclass(frozen=True)
class Row:
    """One text and, where the file has them, its label and the text that it goes with."""

    text: str
    label: str | None = None
    pair: str | None = None


def read_texts(path: Path, paired: bool = False) -> list[Row]:
    """Read `.txt` (a line each) or `.tsv`, `.csv`, `.jsonl` with `text` and perhaps `label`.

    Args:
        path: the file.
        paired: `text_pair` may stand beside `text`, then in each row.

    Raises:
        EdgeError: the file is missing, empty, of another kind, has no `text`, or a `text_pair`
            that is not taken.
    """
    rows = [row for row in _read(path) if row.text.strip()]
    _check_pairs(path, rows, paired)
    return rows


def _check_pairs(path: Path, rows: Sequence[Row], paired: bool) -> None:
    alone = sum(row.pair is None for row in rows)
    if not paired and alone < len(rows):
        raise EdgeError(f"{path}: found text_pair, expected text alone; leave it out")
    if 0 < alone < len(rows):
        raise EdgeError(
            f"{path}: found {alone} rows of {len(rows)} without text_pair, expected one in each, "
            "or in none"
        )


def pairs_of(rows: Sequence[Row], task: str) -> list[str] | None:
    """Return what each text goes with; None where texts are alone.

    Where a question goes with its context, and rows have none, each goes with the next row's text.
    """
    found = [row.pair for row in rows if row.pair is not None]
    if len(found) == len(rows) > 0:
        return found
    texts = [row.text for row in rows]
    return texts[1:] + texts[:1] if task == "question-answering" else None


def _read(path: Path) -> list[Row]:
    readers = {".txt": _lines, ".tsv": _table, ".csv": _table, ".jsonl": _jsonl}
    if path.suffix not in readers:
        raise EdgeError(f"{path}: found {path.suffix!r}, expected one of {', '.join(readers)}")
    try:
        rows = list(readers[path.suffix](path))
        for row in rows:  # JSON may hold half a surrogate pair
            (row.text + (row.pair or "")).encode()
    except FileNotFoundError:
        raise EdgeError(f"{path}: found no such file; check --data") from None
    except OSError as error:
        raise EdgeError(f"{path}: found {error.strerror}, expected a readable file") from None
    except (KeyError, TypeError):
        raise EdgeError(
            f"{path}: found a row without 'text', expected it in each, named in a header or key"
        ) from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise EdgeError(f"{path}: found {error}, expected rows of UTF-8 text; save it so") from None
    if not any(row.text.strip() for row in rows):
        raise EdgeError(f"{path}: found no text, expected at least one line")
    return rows


def read_rows(path: Path) -> list[Row]:
    """Read rows to train on, each a text alone; a row of a table without text is an error.

    Raises:
        EdgeError: names the row, or a `text_pair`.
    """
    rows = _read(path)
    _check_pairs(path, rows, paired=False)
    for number, row in enumerate(rows, 1):
        if not row.text.strip():
            raise EdgeError(
                f"{path}: row {number}: found no text, expected some; correct or delete the row"
            )
    return rows


def _lines(path: Path) -> Iterator[Row]:
    yield from (Row(line) for _, line in _numbered(path))


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines that are not blank; a line separator (U+2028) in a text ends none."""
    with path.open(encoding="utf-8-sig") as file:
        yield from ((n, line.rstrip("\n")) for n, line in enumerate(file, 1) if line.strip())


def _table(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix == ".tsv":
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.DictReader(file)
        for row in rows:
            yield Row(row["text"] or "", row.get("label"), _pair(row.get("text_pair")))


def _pair(text: str | None) -> str | None:
    """Return what a text goes with; a blank is none, as a blank text is no row."""
    return text if text and text.strip() else None


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in _numbered(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        text = "" if row["text"] is None else str(row["text"])
        for key in BESIDE:
            if isinstance(row.get(key), list | dict | bool):
                raise ValueError(f"line {number}: {key} {json.dumps(row[key])}")
        label, pair = (None if row.get(key) is None else str(row[key]) for key in BESIDE)
        yield Row(text, label, _pair(pair))


def built_in_texts() -> list[Row]:
    """Return the sentences to verify with that travel with the package, in several languages."""
    return sentences("sentences.txt")


def sentences(name: str) -> list[Row]:
    """Return the lines of a file beside this one."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [Row(line) for line in lines if line]
