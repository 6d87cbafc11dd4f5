"""`edge-lra adapter`: work on adapters and the bundles that take them."""

from __future__ import annotations

import click

from edge_lra.cli.adapter.add import add
from edge_lra.cli.adapter.combine import combine
from edge_lra.cli.adapter.compress import compress
from edge_lra.cli.adapter.convert import convert
from edge_lra.cli.adapter.extract import extract
from edge_lra.cli.adapter.rank import rank


@click.group()
def adapter() -> None:
    """Work on adapters and the bundles that take them."""


for command in (add, compress, extract, combine, rank, convert):
    adapter.add_command(command)
