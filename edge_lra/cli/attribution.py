"""Where a bundle's error comes from, at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

ERRORS = {
    "weights": "weights",
    "activations": "activa-\ntions",
    "both": "both",
    "saturation": "saturated\nhere",
    "saturation_avx2": "saturated\non AVX2",
    "output": "layer\noutput",
}
HEADS = {
    "float32": "in float32",
    "8-bit blocks": "in 8-bit blocks",
    "rounded by row": "rounded\nby row",
    "divided channels": "divided\nchannels",
}


def show_sources(
    sources: Mapping[str, Any] | None,
    skipped: str | None,
    fidelity: Mapping[str, Any] | None,
    console: Console,
) -> None:
    """Print where the error comes from, or why that cannot be said.

    Args:
        sources: an attribution's plain values.
        skipped: why there are none.
        fidelity: what the proof found; None where it failed.
        console: where to print.
    """
    if skipped is not None:
        console.print(Text(skipped))
    for part in source_tables(sources, fidelity) if sources else ():
        console.print(part, highlight=False)


def source_tables(
    sources: Mapping[str, Any], fidelity: Mapping[str, Any] | None
) -> Iterator[RenderableType]:
    """Yield the layers, the worst products with their remedies, and what is left of adapters."""
    yield layer_table(sources)
    if sources["worst"]:
        yield worst_table(sources["worst"])
    shown = {} if fidelity is None else {r["adapter"]: r["metrics"] for r in fidelity["reports"]}
    for kept in sources["adapters"]:
        yield Text(survival_line(kept, shown.get(kept["adapter"], {}).get("adapter_survival")))


def layer_table(sources: Mapping[str, Any]) -> Table:
    """Return a line a layer: its products' own errors, and its output's with all before it."""
    who = f" with {sources['adapter']}" if sources["adapter"] else ""
    table = _table(
        f"\nError in % by layer and source, {sources['texts']} texts{who}:\n"
        "products alone (root mean square); output with all before it"
    )
    merged = any(site["survival"] for site in sources["sites"])
    for name in ("layer", *ERRORS.values(), *(["adapter\nkept"] if merged else [])):
        table.add_column(name, justify="right")
    for layer in sources["layers"]:
        cells = [str(layer["layer"]), *(percent(layer[name]) for name in ERRORS)]
        if merged:
            cells.append(percent(_least_kept(sources["sites"], layer["layer"])))
        table.add_row(*cells)
    return table


def _least_kept(sites: Sequence[Mapping[str, Any]], layer: int) -> float | None:
    shares = [share for s in sites if s["layer"] == layer for share in s["survival"].values()]
    return min(shares, default=None)


def worst_table(worst: Sequence[Mapping[str, Any]]) -> Table:
    """Return a line a product: its error as it is, and with each remedy what it costs."""
    table = _table("\nThe worst products, and their errors in %")
    table.add_column("layer,\nproduct")
    for name in ("now", *(HEADS.get(name, name) for name in worst[0]["remedies"])):
        table.add_column(name, justify="right")
    for site in worst:
        tried = map(_remedy, site["remedies"].values())
        table.add_row(f"{site['layer']} {escape(site['role'])}", percent(site["both"]), *tried)
    return table


def _remedy(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    cost = f", {found['extra_bytes'] / 2**20:+.2f} MiB" if found["extra_bytes"] else ""
    return f"{percent(found['error'])}{cost}"


def survival_line(kept: Mapping[str, Any], shown: float | None) -> str:
    """Return what is left of an adapter in the weights and of its effect on the outputs."""
    effect = "" if shown is None else f"; {percent(shown)} % of its effect shows in the outputs"
    if kept["weights"] is None:
        return f"{kept['adapter']}: its factors are not rounded{effect}"
    least = f"{percent(kept['worst_share'])} % in {kept['worst']}"
    return (
        f"{kept['adapter']}: {percent(kept['weights'])} % of its change is left in the weights, "
        + (f"least {least}{effect}")
    )


def percent(share: float | None) -> str:
    """Return a share in per cent; a dash for what was not measured."""
    if share is None:
        return "-"
    return "0" if share == 0 else f"{100 * share:.2f}" if share < 1 / 10 else f"{100 * share:.1f}"


def _table(title: str) -> Table:
    return Table(
        title=escape(title),
        title_justify="left",
        title_style="",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
