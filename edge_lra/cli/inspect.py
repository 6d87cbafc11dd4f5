"""`edge-lra inspect`: what a bundle, an adapter or a checkpoint holds."""

from __future__ import annotations

from typing import Any

import click

from edge_lra.cli.common import shared_options, write_json


@click.command()
@click.argument("path")
@shared_options
def inspect(path: str, json_to: str | None) -> None:
    """Say what PATH holds: a bundle, an adapter or a checkpoint; a folder or a hub id."""
    from edge_lra.contents import describe

    found = describe(path)
    if write_json({"schema_version": 1, "path": path, **found}, json_to):
        from rich.console import Console
        from rich.table import Table

        table = Table(show_header=False, box=None)
        for key, value in lines(found):
            table.add_row(key.removesuffix("_bytes").replace("_", " "), value)
        Console(markup=False, highlight=False).print(table)


def lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a person reads: a row a fact, nothing that is empty."""
    return [(key, text) for key, value in found.items() if (text := _text(key, value))]


def _text(key: str, value: Any) -> str:
    from edge_lra.contents import group_sites

    if value is None or value in ([], {}):
        return ""
    if key == "sites":
        return "\n".join(group_sites(value))
    if key in ("inputs", "outputs"):
        return "\n".join(f"{v['name']} {v['dtype']}[{_commas(v['shape'])}]" for v in value)
    if key == "adapters":
        return "\n".join(f"{name}, rank {entry['rank']}" for name, entry in value.items())
    if key == "whole_tensors":
        return "\n".join(f"{name} [{_commas(shape)}]" for name, shape in value.items())
    if key == "file_bytes":
        return "\n".join(f"{size / 2**20:9.3f} MiB  {name}" for name, size in value.items())
    if key == "total_bytes":
        return f"{value / 2**20:9.3f} MiB"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return _commas(value) if isinstance(value, list) else str(value)


def _commas(values: list[Any]) -> str:
    return ", ".join(map(str, values))
