"""`edge-lra adapter`: work on adapters and the bundles that take them."""

from __future__ import annotations

import click

from edge_lra.cli.adapter.add import add


@click.group()
def adapter() -> None:
    """Work on adapters and the bundles that take them."""


for command in (add,):
    adapter.add_command(command)
