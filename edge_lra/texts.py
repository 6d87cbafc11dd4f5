"""Text for verification, from the user's file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class Row:
    """One text and, where the file has it, its label."""

    text: str
    label: str | None = None


def read_texts(path: Path) -> list[Row]:
    """Read `.txt` (a line each) or `.tsv`, `.csv`, `.jsonl` with `text` and perhaps `label`.

    Raises:
        EdgeError: the file is missing, empty, of another kind or has no `text`.
    """
    return [row for row in _read(path) if row.text.strip()]


def _read(path: Path) -> list[Row]:
    readers = {".txt": _lines, ".tsv": _table, ".csv": _table, ".jsonl": _jsonl}
    if path.suffix not in readers:
        raise EdgeError(f"{path}: found {path.suffix!r}, expected one of {', '.join(readers)}")
    try:
        rows = list(readers[path.suffix](path))
        "".join(row.text for row in rows).encode()  # JSON may hold half a surrogate pair
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
    """Read rows to train on: as `read_texts`, but a row of a table without text is an error.

    Raises:
        EdgeError: names the row.
    """
    rows = _read(path)
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
            yield Row(row["text"] or "", row.get("label"))


def _jsonl(path: Path) -> Iterator[Row]:
    for number, line in _numbered(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        text = "" if row["text"] is None else str(row["text"])
        label = row.get("label")
        if isinstance(label, list | dict | bool):
            raise ValueError(f"line {number}: label {json.dumps(label)}")
        yield Row(text, None if label is None else str(label))


def built_in_texts() -> list[Row]:
    """Return the sentences to verify with that travel with the package, in several languages."""
    return sentences("sentences.txt")


def sentences(name: str) -> list[Row]:
    """Return the lines of a file beside this one."""
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [Row(line) for line in lines if line]
