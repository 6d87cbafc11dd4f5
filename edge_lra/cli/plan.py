"""`edge-lra plan`: the form of each of an encoder's linears, under limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import TableChoice, read_limits, shared_options, write_json
from edge_lra.cli.export import (
    ADAPTER,
    choose_scheme,
    make_request,
    progress_bar,
    remedy_names,
    task_names,
)
from edge_lra.errors import EdgeError
from edge_lra.quiet import quiet_libraries

if TYPE_CHECKING:
    from edge_lra.config import Config
    from edge_lra.device import Device
    from edge_lra.forms.make import Found
    from edge_lra.forms.plan import FormPlan
    from edge_lra.transport import Transport

LIMIT = "error=0.02, time=1.2 (of int8's) or size_mib=30; exit 1 if it cannot be kept. Repeatable."
MODEL = "Folder, hub id or pypi:package/folder of an encoder."
DEVICE = "A name of `edge-lra devices` that is at hand, or a TOML; this machine otherwise."
TARGET = "ssh://[user@]host[:port]: where to time."
DATA = "Text to calibrate with, and other rows of it to measure errors with."
# Options of `export` that a plan is made without.
UNASKED: dict[str, Any] = {
    "quantize": None,
    "keep_float": (),
    "plan": None,
    "with_": (),
    "extra_rank": None,
    "sites": "adapter",
    "context": None,
    "adapter_dtype": "fp32",
    "labels": None,
    "verify_tokens": None,
    "force": False,
    "no_verify": True,
}


@click.command()
@click.option("--model", help=MODEL)
@click.option("--adapter", "adapters", multiple=True, metavar="[NAME=]PATH[:WEIGHT]", help=ADAPTER)
@click.option("--merge/--factored", default=True, help="As it will be exported.")
@click.option("--without", multiple=True, type=TableChoice(remedy_names), help="As it will be.")
@click.option("--task", type=TableChoice(task_names), help="What the model is exported for.")
@click.option("--data", type=click.Path(path_type=Path), help=DATA)
@click.option("--device", metavar="D", help=DEVICE)
@click.option("--target", metavar="URL", help=TARGET)
@click.option("--limit", "limits", multiple=True, metavar="KEY=VALUE", help=LIMIT)
@click.option("--tokens", type=click.IntRange(min=1), help="Of the text that is timed; 128.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default="plan.toml", show_default=True)
@shared_options
def plan(json_to: str | None, **options: Any) -> None:
    """Choose int8, 8-bit blocks or float32 for each linear of an encoder, under limits."""
    from edge_lra.config import load_config
    from edge_lra.forms.plan import LIMITS, write_plan
    from edge_lra.whole_files import write_whole

    limits = read_limits(options["limits"], LIMITS)
    config = replace(load_config(Path.cwd()), plan=None)  # what is to be made, perhaps anew
    out = options["out"]
    check_out(out)
    quiet_libraries()
    asked = {**options, **UNASKED, "out": Path("plan.edge"), "device": None}
    request = make_request(config, asked, choose_scheme(None, config, planned=True))
    from edge_lra.forms.make import plan_forms

    device, way = open_way(options["device"], options["target"], config)
    try:
        name = device.name if device else None
        with progress_bar() as progress:
            tokens, threads = options["tokens"], options["threads"]
            found = plan_forms(request, way, limits, name, tokens, threads, progress)
    finally:
        way.clean_up()
    write_whole(out, write_plan(found.plan))
    document = {"schema_version": 1, "file": str(out), **as_dict(found)}
    if write_json(document, json_to):
        show(out, found)


def check_out(out: Path) -> None:
    """Refuse a place that takes no file, and to replace what is no plan.

    Raises:
        EdgeError: names it.
    """
    from edge_lra.forms.plan import read_plan
    from edge_lra.whole_files import check_target

    check_target(out)
    if out.exists():
        try:
            read_plan(out)
        except EdgeError:
            raise EdgeError(
                f"{out}: found something that is not a plan; choose another --out"
            ) from None


def open_way(
    device: str | None, target: str | None, config: Config
) -> tuple[Device | None, Transport]:
    """Return the device that is named, if any, and the way to it.

    Raises:
        EdgeError: it is neither this machine nor a target's.
    """
    from edge_lra.device import load_device
    from edge_lra.profile.study import is_here
    from edge_lra.transport import Local, open_target, require_arch

    name = device or config.device
    named = load_device(name, config.devices) if name else None
    if target is not None:
        way = open_target(target)
        if named is not None:
            try:
                require_arch(way.probe(), named.arch, target, named.title)
            except EdgeError:
                way.clean_up()
                raise
        return named, way
    if named is not None and not is_here(named):
        raise EdgeError(
            f"{named.title}: found no way to it but an emulator, whose times say nothing, expected "
            "a device at hand; give its --target"
        )
    return named, Local()


def as_dict(found: Found) -> dict[str, Any]:
    """Return plain values for JSON."""
    forms, why = found.chosen.forms, found.chosen.why
    return {
        "plan": found.plan.as_dict(),
        "int8": dict(found.usual),
        "missing": dict(found.missing),
        "sites": [
            {
                "name": site.name,
                "layer": site.layer,
                "role": site.role,
                "form": forms[site.name],
                "why": why.get(site.name),
                "costs": {form: cost._asdict() for form, cost in site.costs.items()},
            }
            for site in found.costs.sites
        ],
    }


def show(out: Path, found: Found) -> None:
    """Print the forms, what they cost, and where the plan is."""
    from rich.console import Console
    from rich.table import Table

    made = found.plan
    console = Console(markup=False, highlight=False)
    threads = "1 thread" if made.threads == 1 else f"{made.threads} threads"
    title = f"Measured on {made.device}, 1x{made.tokens}, {threads}"
    table = Table("linear", "layers", "form", title=title, title_justify="left")
    for name in ("error", "us"):
        table.add_column(name, justify="right")
    table.add_column("why")
    for row in rows(found):
        table.add_row(*row)
    console.print(table)
    console.print(" error: share of what int8 throughout has; us: of one such linear")
    for form, reason in found.missing.items():
        console.print(f" {form} cannot be had there: {reason}")
    console.print(f" {summary(made, found.usual)}")
    console.print(f"{out}: edge-lra export --plan {out}")


def rows(found: Found) -> list[tuple[str, ...]]:
    """Return a row for linears of one role, form and reason."""
    groups: dict[tuple[str, str, str], list[Any]] = {}
    for site in found.costs.sites:
        form = found.chosen.forms[site.name]
        key = site.role, form, found.chosen.why.get(site.name, "")
        groups.setdefault(key, []).append(site)
    roles = list(dict.fromkeys(site.role for site in found.costs.sites))
    usual = found.costs.lost(found.costs.throughout("int8")) or 1.0  # 0 where all weights are
    table: list[tuple[str, ...]] = []
    for role, form, why in sorted(groups, key=lambda key: roles.index(key[0])):
        sites = groups[role, form, why]
        costs = [site.costs[form] for site in sites]
        share = f"{100 * sum(cost.lost for cost in costs) / usual:.1f} %"
        us = f"{sum(cost.us for cost in costs) / len(costs):.0f}"
        table.append((role, spans([site.layer for site in sites]), form, share, us, why))
    return table


def spans(numbers: Sequence[int]) -> str:
    """Return ascending numbers as `0-3, 5`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in found)


def summary(plan: FormPlan, usual: Mapping[str, float]) -> str:
    """Return what a plan has of each limit's figure, beside int8 throughout."""
    parts = []
    for name, value in plan.expected.items():
        limit = f", limit {plan.limits[name]:g}" if name in plan.limits else ""
        parts.append(f"{name} {value:g} (int8 {usual[name]:g}{limit})")
    return ", ".join(parts)
