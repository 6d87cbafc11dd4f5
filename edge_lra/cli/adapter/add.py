"""`edge-lra adapter add`: a further adapter for a factored bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edge_lra.cli.common import shared_options, verify_tokens_option, write_json
from edge_lra.cli.export import progress_bar, split_adapter
from edge_lra.quiet import quiet_libraries


@click.command()
@click.argument("bundle", metavar="B.edge", type=click.Path(path_type=Path))
@click.argument("place", metavar="[NAME=]PATH")
@click.option("--model", help="The bundle's base, where it has moved.")
@click.option("--labels", help="Names of the adapter's outputs, separated by commas.")
@click.option("--data", type=click.Path(path_type=Path), help="Text to verify with.")
@verify_tokens_option
@click.option("--no-verify", is_flag=True, help="Add it without holding it against float.")
@shared_options
def add(
    bundle: Path,
    place: str,
    model: str | None,
    labels: str | None,
    data: Path | None,
    verify_tokens: int | None,
    no_verify: bool,
    json_to: str | None,
) -> None:
    """Put a further adapter into a factored bundle."""
    from edge_lra.bundle import load_manifest
    from edge_lra.config import load_config

    config = load_config(Path.cwd())
    name, path = split_adapter(place)
    quiet_libraries()
    from edge_lra.extend import AddRequest, add_adapter

    request = AddRequest(
        bundle,
        path,
        name,
        model=model or config.model,
        labels=labels.split(",") if labels else None,
        data=data or config.data,
        verify_tokens=verify_tokens or config.verify_tokens,
        gates=config.gates,
        verify=not no_verify,
    )
    with progress_bar() as progress:
        added = add_adapter(request, progress)
    manifest = load_manifest(bundle)
    document = {
        "schema_version": 1,
        "bundle": str(bundle),
        "adapter": added,
        "manifest": manifest,
    }
    if write_json(document, json_to):
        from rich.console import Console

        from edge_lra.cli.fidelity import fidelity_view

        console = Console()
        known = ", ".join(manifest["adapters"])
        console.print(f"{bundle}: added {added}; it holds {known}", highlight=False, markup=False)
        if no_verify:
            console.print("Not verified against the float model.")
        else:
            reports = manifest["fidelity"]["reports"][-1:]
            console.print(fidelity_view({"reports": reports}))
