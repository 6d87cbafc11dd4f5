"""`edge-lra prepack`: a bundle's twin whose weights are packed for one processor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import bundle_argument, find_bundle, shared_options, write_json

if TYPE_CHECKING:
    from edge_lra.prepack import Prepacked

DEVICE = "A name of `edge-lra devices`, or a TOML; this machine otherwise."
TARGET = "ssh://[user@]host[:port]: let the device pack."
OUT = "The twin's folder; NAME-prepacked.edge otherwise."


@click.command()
@bundle_argument
@click.option("--device", metavar="D", help=DEVICE)
@click.option("--target", metavar="URL", help=TARGET)
@click.option("--out", metavar="B", type=click.Path(path_type=Path), help=OUT)
@click.option("--force", is_flag=True, help="Replace a folder that is no bundle.")
@shared_options
def prepack(
    bundle: Path | None,
    device: str | None,
    target: str | None,
    out: Path | None,
    force: bool,
    json_to: str | None,
) -> None:
    """Write a bundle's twin that one processor loads sooner, with less memory of its own.

    Its graph is optimized already, and the copies that kernels make of weights are in its file.
    Elsewhere it answers the same, and gains less.
    """
    from edge_lra.cli.profile import stages
    from edge_lra.config import load_config
    from edge_lra.device import load_device
    from edge_lra.prepack import prepack as write

    config = load_config(Path.cwd())
    named = device or (config.device if target is None else None)
    chosen = load_device(named, config.devices) if named else None
    path = find_bundle(bundle, config.folder)
    with stages() as (stage, progress):
        stage(f"packing for {chosen.title if chosen else target or 'this machine'}")
        found = write(path, out, chosen, target, force, progress)
    if write_json(_document(path, found), json_to):
        _show(found)


def _document(bundle: Path, found: Prepacked) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "bundle": str(bundle),
        "out": str(found.folder),
        "prepacked": dict(found.entry),
        "before_bytes": found.before_bytes,
        "after_bytes": found.after_bytes,
    }


def _show(found: Prepacked) -> None:
    entry = found.entry
    click.echo(
        f"{found.folder} written for {entry['processor']}, onnxruntime {entry['onnxruntime']}"
    )
    click.echo(
        f"  {found.after_bytes / 1e6:.2f} MB of graph and weights, were "
        f"{found.before_bytes / 1e6:.2f}: the packed copies are in the file"
    )
