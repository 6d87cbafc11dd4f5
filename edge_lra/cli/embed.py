"""`edge-lra embed`: a bundle and its runner, into an app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import (
    TableChoice,
    bundle_argument,
    find_bundle,
    shared_options,
    write_json,
)

if TYPE_CHECKING:
    from edge_lra.embed import Embedded


def _platforms() -> list[str]:
    from edge_lra.embed.platforms import PLATFORMS

    return list(PLATFORMS)


@click.command()
@bundle_argument
@click.option(
    "--platform", required=True, type=TableChoice(_platforms), help="What the app is built for."
)
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The app's folder; its own files are never written over.",
)
@click.option("--split", is_flag=True, help="Adapters apart from the base, to update over the air.")
@click.option(
    "--ort", is_flag=True, help="The graph as model.ort, for a small build of onnxruntime."
)
@shared_options
def embed(
    bundle: Path | None, platform: str, out: Path, split: bool, ort: bool, json_to: str | None
) -> None:
    """Put a runner's sources and a bundle into an app's folder, with the code to call it."""
    from edge_lra.embed import EmbedRequest
    from edge_lra.embed import embed as write

    path = find_bundle(bundle, Path.cwd())
    found = write(EmbedRequest(path, platform, out, split, ort))
    if write_json(_document(path, found), json_to):
        _show(found)


def _document(bundle: Path, found: Embedded) -> dict[str, Any]:
    from edge_lra.embed.sizes import totals

    converted = found.converted
    return {
        "schema_version": 1,
        "bundle": str(bundle),
        "platform": found.request.platform,
        "out": str(found.request.out),
        "base": found.bundle,
        "adapters": found.adapters,
        "base_since_last_run": found.base,
        "written": list(found.written),
        "deleted": list(found.deleted),
        "kept": list(found.kept),
        "call": found.call._asdict(),
        "ort": converted
        and {
            "before_bytes": converted.before_bytes,
            "after_bytes": converted.after_bytes,
            "operators": converted.operators,
            "known_operators": converted.known,
            "min_onnxruntime": converted.manifest["min_onnxruntime"],
            "config": found.config,
            "build": found.build,
        },
        "sizes": [size.as_dict() for size in found.sizes],
        "total_bytes": totals(found.sizes),
    }


def _show(found: Embedded) -> None:
    """Print where everything is, what the app grows by, and the code."""
    from edge_lra.embed.page import PAGE

    out = found.request.out
    click.echo(f"{out}: {len(found.written)} files written")
    click.echo(f"  bundle    {found.bundle}")
    if found.adapters:
        click.echo(f"  adapters  {found.adapters}  ({_advice(found.base)})")
    for name in found.kept:
        click.echo(f"  left      {name}: changed since it was written, needed no more")
    if found.converted:
        one = found.converted
        click.echo(
            f"  model.ort {_mb(one.after_bytes)}, was {_mb(one.before_bytes)}; needs "
            f"{one.operators} of {one.known} operators"
        )
        click.echo(f"  needs     {found.config}")
    click.echo(f"  to read   {PAGE}\n")
    _show_sizes(found)
    click.echo(f"\n{found.call.setup}\n\n{found.call.code.strip(chr(10))}")
    if found.build:
        click.echo(f"\nA small onnxruntime, in a checkout of its release:\n\n  {found.build}")


def _advice(base: str | None) -> str:
    return {
        "same": "the base is the last run's: publish these alone",
        "changed": "the base is another: release the app again",
    }.get(base or "", "what an update replaces")


def _show_sizes(found: Embedded) -> None:
    from rich.console import Console
    from rich.table import Table

    from edge_lra.embed.sizes import totals

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column("The app grows by")
    table.add_column("MB", justify="right")
    table.add_column("compressed", justify="right")
    table.add_column("measured of")
    for size in found.sizes:
        name = f"{size.part}, {size.host}" if size.host else size.part
        version = size.what.partition(":")[0] if size.part == "onnxruntime" else size.source
        packed = "" if size.compressed_bytes is None else _mb(size.compressed_bytes, "")
        table.add_row(name, _mb(size.bytes, ""), packed, version.partition(",")[0])
    for host, total in totals(found.sizes).items():
        table.add_row(f"all, {host}", _mb(total, ""), "", "")
    Console(highlight=False).print(table)


def _mb(size: int, unit: str = " MB") -> str:
    return f"{size / 1e6:.2f}{unit}"
