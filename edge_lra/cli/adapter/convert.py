"""`edge-lra adapter convert`: the same adapter in another library's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edge_lra.cli.adapter.output import megabytes, site_table
from edge_lra.cli.common import TableChoice, shared_options, write_json


def _formats() -> Sequence[str]:
    from edge_lra.adapters.formats import writers

    return list(writers())


@click.command()
@click.argument("adapter", metavar="A")
@click.option("--to", "to", type=TableChoice(_formats), required=True, help="The format to write.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder or a file.")
@click.option("--model", help="The adapter's base, where a format needs its names and shapes.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@shared_options
def convert(
    adapter: str, to: str, out: Path, model: str | None, force: bool, json_to: str | None
) -> None:
    """Write adapter A, whose format its content tells, in another format."""
    from edge_lra.adapters.formats.convert import convert as run
    from edge_lra.checkpoint import open_checkpoint
    from edge_lra.places import resolve_adapter

    place = resolve_adapter(adapter)
    base = None if model is None else open_checkpoint(model)
    done = run(place, to, out, base, force)
    document: dict[str, Any] = {
        "schema_version": 1,
        "adapter": str(place),
        "found": done.found,
        "base": model,
        "out": str(out),
        "format": done.format,
        "bytes": done.bytes,
        "sites": [{"module": module, "rank": rank} for module, rank in done.ranks.items()],
    }
    if write_json(document, json_to):
        show(document)


def show(document: dict[str, Any]) -> None:
    """Print what was found, its sites and what was written."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"{document['adapter']}: found {document['found']}", markup=False)
    console.print(site_table(document["sites"], {"rank": ("rank", "d")}))
    console.print(
        f"{document['out']}: {document['format']}, {megabytes(document['bytes'])}", markup=False
    )
