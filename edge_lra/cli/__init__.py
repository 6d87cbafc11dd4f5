"""The command line: parse, call, print. What a command needs is imported inside it."""

from __future__ import annotations

import click

from edge_lra import __version__
from edge_lra.cli.adapter import adapter
from edge_lra.cli.common import EdgeGroup
from edge_lra.cli.devices import devices
from edge_lra.cli.embed import embed
from edge_lra.cli.export import export
from edge_lra.cli.generate import generate
from edge_lra.cli.inspect import inspect
from edge_lra.cli.plan import plan
from edge_lra.cli.prepack import prepack
from edge_lra.cli.profile import profile
from edge_lra.cli.run import run
from edge_lra.cli.sample import sample
from edge_lra.cli.tune import tune
from edge_lra.cli.verify import verify


@click.group(cls=EdgeGroup)
@click.version_option(__version__, prog_name="edge-lra")
def main() -> None:
    """Take low-rank adapted models to devices: export, run, measure."""


for command in (
    sample,
    tune,
    plan,
    export,
    run,
    generate,
    profile,
    verify,
    inspect,
    prepack,
    devices,
    embed,
    adapter,
):
    main.add_command(command)
