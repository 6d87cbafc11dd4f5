"""`edge-lra adapter extract`: a LoRA from two full checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_lra.cli.adapter.output import folder_bytes, megabytes, out_options, site_table
from edge_lra.cli.common import shared_options, write_json
from edge_lra.cli.export import progress_bar

COLUMNS = {
    "rank": ("rank", "d"),
    "kept_energy": ("kept energy", ".3f"),
    "error": ("error", ".3f"),
    "relative_change": ("change", ".2e"),
}


@click.command()
@click.argument("base", metavar="BASE")
@click.argument("tuned", metavar="TUNED")
@click.option("--rank", type=click.IntRange(min=1), help="Of every site.")
@click.option("--energy", type=click.FloatRange(0, 1, min_open=True), help="Share each site keeps.")
@click.option("--max-rank", type=click.IntRange(min=1), default=256, help="With --energy: 256.")
@out_options
@shared_options
def extract(
    base: str,
    tuned: str,
    rank: int | None,
    energy: float | None,
    max_rank: int,
    out: Path,
    force: bool,
    json_to: str | None,
) -> None:
    """Write TUNED less BASE as a LoRA; what is no linear weight is kept whole."""
    from edge_lra.adapters.algebra.extract import Choice, labels, settings
    from edge_lra.adapters.algebra.extract import extract as run
    from edge_lra.adapters.write import adapter_folder, write_peft
    from edge_lra.checkpoint import open_checkpoint

    if (rank is None) == (energy is None):
        raise click.UsageError("give one of --rank and --energy")
    choice = Choice(rank or max_rank, energy)
    one, other = open_checkpoint(base), open_checkpoint(tuned)
    with adapter_folder(out, force, [one.path, other.path]) as folder:
        with progress_bar() as progress:
            step = (lambda done, total: progress("weights", done, total)) if progress else None
            result = run(one, other, choice, step)
        config, result = settings(result, base, other)
        write_peft(folder, config, result.sites, result.whole, labels(config, other))
    document: dict[str, Any] = {
        "schema_version": 1,
        "base": base,
        "tuned": tuned,
        "out": str(out),
        "bytes": folder_bytes(out),
        "sites": [asdict(entry) for entry in result.report],
        "whole_tensors": sorted(result.whole),
    }
    short = sum(entry.kept_energy < (energy or 0.0) - 1e-6 for entry in result.report)
    if short:
        click.echo(
            f"Note: {short} of {len(result.report)} sites keep less than {energy:g} of their "
            f"energy at rank {max_rank}; raise --max-rank.",
            err=True,
        )
    if write_json(document, json_to):
        show(document)


def show(document: dict[str, Any]) -> None:
    """Print the sites, and what was kept whole."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(site_table(document["sites"], COLUMNS))
    if whole := document["whole_tensors"]:
        named = ", ".join(whole[:4]) + (f" and {len(whole) - 4} more" if len(whole) > 4 else "")
        console.print(f"kept whole: {named}", markup=False)
    console.print(f"{document['out']}: {megabytes(document['bytes'])}", markup=False)
