"""`edge-lra sample`: a project to start from."""

from __future__ import annotations

from pathlib import Path

import click

from edge_lra.cli.common import shared_options, write_json


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@shared_options
def sample(folder: Path, json_to: str | None) -> None:
    """Write a ready project: edge-lra.toml, a trained adapter, labelled text."""
    from edge_lra.sample import write_sample

    files = write_sample(folder)
    if write_json({"schema_version": 1, "files": [str(file) for file in files]}, json_to):
        for file in files:
            click.echo(file)
        click.echo(f"\nNext: cd {folder} && edge-lra export --merge")
