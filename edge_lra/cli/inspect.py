"""`edge-lra inspect`: what a bundle, an adapter or a checkpoint holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import click

from edge_lra.cli.common import shared_options, write_json

MAX_SITES = 24  # of a table that fits a screen


@click.command()
@click.argument("path")
@click.option("--model", help="An adapter's base, to tell its changes' size by.")
@shared_options
def inspect(path: str, model: str | None, json_to: str | None) -> None:
    """Say what PATH holds: a bundle, an adapter or a checkpoint; a folder or a hub id."""
    from edge_lra.contents import describe

    found = describe(path, model)
    if write_json({"schema_version": 1, "path": path, **found}, json_to):
        from rich.console import Console
        from rich.table import Table

        table = Table(show_header=False, box=None)
        for name, value in lines(found):
            table.add_row(name, value)
        console = Console(markup=False, highlight=False)
        console.print(table)
        measures = found.get("measures") or []
        if len(measures) > MAX_SITES:
            console.print(f" {len(measures)} sites; their norms and spectra are in --json")
        elif measures:
            console.print(measure_table(measures))


def measure_table(measures: list[dict[str, Any]]) -> Any:
    """Return a table of an adapter's sites; names are shown without what they all begin with."""
    from rich.table import Table

    from edge_lra.adapters.algebra.measures import sparkline

    parts = [site["module"].split(".")[:-1] for site in measures]
    same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    start = ".".join(column[0] for column in same) if len(measures) > 1 else ""
    table = Table(f"in {start}" if start else "site", box=None)
    for title in ("rank", "scale", "norm", "of base", "effective"):
        table.add_column(title, justify="right")
    table.add_column("spectrum", no_wrap=True)
    for site in measures:
        relative = site["relative_norm"]
        table.add_row(
            site["module"].removeprefix(f"{start}."),
            str(site["rank"]),
            f"{site['scale']:.3g}",
            f"{site['norm']:.3g}",
            "" if relative is None else f"{100 * relative:.2g} %",
            f"{site['effective_rank']:.1f}",
            sparkline(site["spectrum"]),
        )
    return table


def lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a person reads: a row a fact, nothing that is empty."""
    return [
        (NAMES.get(key, key.replace("_", " ")), text)
        for key, value in found.items()
        if (text := _text(key, value))
    ]


def size(count: int) -> str:
    """Return bytes in the unit a person would use."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 2**10:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def _text(key: str, value: Any) -> str:
    if key in TEXTS:
        return TEXTS[key](value)
    if value is None or value == []:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _nodes(nodes: list[dict[str, Any]]) -> str:
    return "\n".join(f"{n['name']} {n['dtype']}[{', '.join(map(str, n['shape']))}]" for n in nodes)


def _adapters(adapters: dict[str, Any]) -> str:
    return "\n".join(
        f"{name}, rank {entry['rank']}: {', '.join(entry['labels'] or ['no head'])}"
        for name, entry in adapters.items()
    )


def _plan(plan: dict[str, Any] | None) -> str:
    from edge_lra.contents import group_forms

    if plan is None:
        return ""
    said = [f"{key} {_text(key, plan[key])}" for key in ("device", "limits", "expected")]
    known = [line for line in said if not line.endswith(" ")]
    return "\n".join([*group_forms(plan["forms"]), *known]) or "int8 throughout"


def _fidelity(fidelity: dict[str, Any] | None) -> str:
    if fidelity is None:
        return "not verified"
    return "\n".join(
        f"{report['adapter'] or 'base'}: {gate['name']} {gate['value']:.4g} ({gate['limit']:g})"
        for report in fidelity["reports"]
        for gate in report["gates"]
    )


def _sites(sites: list[dict[str, Any]]) -> str:
    from edge_lra.contents import group_sites

    return "\n".join(group_sites(sites))


def _tensors(tensors: list[dict[str, Any]]) -> str:
    from edge_lra.contents import group_tensors

    return "\n".join([f"{len(tensors)} in all", *group_tensors(tensors)])


def _shapes(tensors: dict[str, list[int]]) -> str:
    from edge_lra.contents import PEFT_PREFIX

    return "\n".join(f"{name.removeprefix(PEFT_PREFIX)} {s}" for name, s in tensors.items())


def _files(files: dict[str, int]) -> str:
    return "\n".join(f"{size(count):>9}  {name}" for name, count in files.items())


NAMES = {
    "base_model_name_or_path": "base model",
    "min_onnxruntime": "onnxruntime from",
    "fidelity": "fidelity (limit)",
    "file_bytes": "files",
    "total_bytes": "total",
}
TEXTS: dict[str, Callable[[Any], str]] = {
    "inputs": _nodes,
    "outputs": _nodes,
    "adapters": _adapters,
    "measures": lambda _: "",  # a table of its own
    "adapter_inputs": lambda count: str(count or ""),
    "fidelity": _fidelity,
    "plan": _plan,
    "sites": _sites,
    "tensors": _tensors,
    "whole_tensors": _shapes,
    "file_bytes": _files,
    "total_bytes": lambda count: f"{size(count):>9}",
}
