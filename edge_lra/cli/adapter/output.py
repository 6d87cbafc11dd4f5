"""What the adapter commands share: where they write, and the table of what they did."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
MAX_ROWS = 24


def out_options(command: Command) -> Command:
    """Add --out and --force."""
    out = click.option("--out", type=click.Path(path_type=Path), required=True, help="Its folder.")
    force = click.option("--force", is_flag=True, help="Replace what is there.")
    return out(force(command))


def megabytes(count: int) -> str:
    """Return bytes in MB of 10^6."""
    return f"{count / 1e6:.2f} MB"


def folder_bytes(folder: Path) -> int:
    """Return the size of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def site_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, tuple[str, str]],
    module: str = "module",
) -> Any:
    """Return a table of sites; of many, those that differ in their layer only are one row.

    Args:
        rows: one a site.
        columns: title and number format by key.
        module: the key of the site's name.
    """
    from rich.table import Table

    from edge_lra.contents import NUMBER

    table = Table(module)
    for title, _ in columns.values():
        table.add_column(title, justify="right")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name = row[module] if len(rows) <= MAX_ROWS else NUMBER.sub("*", row[module])
        groups.setdefault(name, []).append(row)
    for name, members in groups.items():
        cells = [_range([m[key] for m in members], form) for key, (_, form) in columns.items()]
        table.add_row(f"{len(members)} x {name}" if len(members) > 1 else name, *cells)
    return table


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low}-{high}"


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return median and largest."""
    return statistics.median(values), max(values)
