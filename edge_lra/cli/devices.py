"""`edge-lra devices`: the machines a bundle may run on, and what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_lra.cli.common import shared_options, write_json

if TYPE_CHECKING:
    from edge_lra.device import Device, Figure


@click.command()
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--setup", metavar="NAME", help="Fetch what emulating a device needs; once.")
@shared_options
def devices(name: str | None, setup: str | None, json_to: str | None) -> None:
    """List the devices, or show what is known of one: NAME or a .toml file."""
    from edge_lra.config import load_config
    from edge_lra.device import known_devices, load_device

    if name and setup:
        raise click.UsageError("--setup takes the device's name itself; give no other.")
    folder = load_config(Path.cwd()).devices
    one = name or setup
    found = [load_device(each, folder) for each in ([one] if one else known_devices(folder))]
    sysroot = set_up_emulation(found[0]) if setup else None
    document = {
        "schema_version": 1,
        "devices": [device.as_dict() for device in found],
        "sysroot": None if sysroot is None else str(sysroot),
    }
    if not write_json(document, json_to):
        return
    if sysroot is not None:
        click.echo(f"{found[0].title} can be emulated now, offline: {sysroot}")
    elif one:
        show_device(found[0])
    else:
        show_list(found)


def set_up_emulation(device: Device) -> Path:
    """Fetch the emulator and what runs in it; return the folder.

    Raises:
        EdgeError: the device is not emulated, or something cannot be fetched.
    """
    from edge_lra.cli.export import progress_bar
    from edge_lra.errors import EdgeError

    if "qemu" not in device.transports:
        raise EdgeError(
            f"--setup: found {device.name}, which is not emulated, expected a device such as "
            "arm64; edge-lra devices lists how each is reached"
        )
    from edge_lra.transport.sysroot import set_up

    with progress_bar() as progress:
        return set_up(progress)


def show_list(found: list[Device]) -> None:
    """Print a line a device."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("device")
    table.add_column("cores", justify="right", no_wrap=True)
    table.add_column("RAM", justify="right", no_wrap=True)
    table.add_column("scheme", no_wrap=True)
    table.add_column("reached by", no_wrap=True)
    for device in found:
        reached = " ".join(device.transports) or "estimate only"
        row = (device.name, device.title, cores(device), size(device.ram_mib), device.scheme)
        table.add_row(*row, reached)
    console = Console(markup=False, highlight=False)
    console.print(table)
    console.print("\nedge-lra devices NAME shows one with its sources.")


def show_device(device: Device) -> None:
    """Print all that is known of a device, each figure with its source."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for label, text in facts(device):
        table.add_row(label, text)
    console = Console(markup=False, highlight=False)
    console.print(f"{device.title} ({device.name})\n")
    console.print(table)


def facts(device: Device) -> list[tuple[str, str]]:
    """Return what a person reads: a row a fact, nothing that is empty."""
    rows = [("system", f"{device.system}, {device.arch}")]
    for cluster in device.clusters:
        rows += [
            ("cores", f"{cluster.cores} x {cluster.core}, {cluster.clock_ghz:g} GHz"),
            ("  features", " ".join(cluster.features)),
            ("  int8", _rate(cluster.int8_macs_per_cycle)),
            ("  float32", _rate(cluster.fp32_macs_per_cycle)),
        ]
    rows += [
        ("RAM", size(device.ram_mib)),
        ("bandwidth", _figure(device.theoretical_gb_s, "GB/s by the data sheet")),
        ("  copied", _figure(device.measured_gb_s, "GB/s measured, bytes counted once")),
        ("providers", ", ".join(device.providers)),
        ("scheme", f"{device.scheme}: {device.scheme_reason}"),
        ("reached by", ", ".join(device.transports) or "nothing: it is estimated"),
        ("emulated on", device.qemu_cpu or ""),
    ]
    rows += [(f"source: {what}", source) for what, source in device.sources.items()]
    return [(label, text) for label, text in rows if text]


def cores(device: Device) -> str:
    """Return the cores of each cluster, such as 1+4+4."""
    return "+".join(str(cluster.cores) for cluster in device.clusters) or "?"


def size(mib: int | None) -> str:
    """Return memory in the unit a person would use."""
    if mib is None:
        return "?"
    return f"{mib / 1024:.0f} GiB" if mib >= 1024 else f"{mib} MiB"


def _rate(figure: Figure) -> str:
    return _figure(figure, "MACs a cycle and core")


def _figure(figure: Figure | None, unit: str) -> str:
    return f"{figure.value:g} {unit} ({figure.source})" if figure else ""
