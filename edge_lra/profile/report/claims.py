"""The terminal's tables of what was not measured: emulation, estimates; and entries compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from edge_lra.profile.report.tables import plain, table
from edge_lra.profile.report.words import (
    calibration,
    checks,
    fit,
    name_shape,
    number,
    rough,
    span,
)
from edge_lra.profile.result import Emulation, Entry, Estimate

BAR = 16
ASSUMPTIONS = 3  # shown; HTML and JSON have them all
Cells = tuple[str, list[str], list[str], str]  # how, shapes, medians, peak


def emulation(found: Emulation) -> RenderableType:
    """Return what was compared, and what the core executed."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    verdict = ("passed", "green") if found.passed else ("FAILED", "bold red")
    grid.add_row("verdict", Text(*verdict).append(f"  {found.emulator}", style="not bold default"))
    for name, text, holds in checks(found):
        grid.add_row(name, plain(text if holds else f"FAILED: {text}"))
    grid.add_row("kernels", plain(", ".join(found.kernels) or "could not be told"))
    counted = [f"{shape} {runs:,}" for shape, runs in (found.instructions or {}).items()]
    note = f"({found.instructions_note})" if counted else found.instructions_note
    grid.add_row("instructions", plain(f"{', '.join(counted)} {note}".strip()))
    return grid


def estimate(found: Estimate, block: str) -> Iterator[RenderableType]:
    """Yield ranges, the parts of the middle, and what they rest on."""
    ranges = table("Estimated, ms", "low", "middle", "high")
    for shape in found.shapes:
        values = (shape.low_ms, shape.middle_ms, shape.high_ms)
        ranges.add_row(name_shape(shape.shape), *map(rough, values))
    side = Table.grid(padding=(0, 3, 0, 0))
    side.add_row(ranges, *([_classes(found, block)] if found.shapes else []))
    yield side
    low, high = found.peak_rss_mib
    load = f"Estimated load {span(*found.load_s)} s; peak" if found.load_s else "Estimated peak"
    yield plain(
        f"{load} RSS {low:.0f} to {high:.0f} MiB, {fit(found)}",
        f"Error of the method: {calibration(found)}",
    )
    lines = list(found.assumptions[:ASSUMPTIONS])
    if len(lines) < len(found.assumptions):
        lines.append(f"{len(found.assumptions) - len(lines)} more, in --html and --json")
    if lines:
        yield plain("It assumes", *(f"- {line}" for line in lines))


def _classes(found: Estimate, block: str) -> Table:
    first = found.shapes[0]
    made = table(f"Of it at {name_shape(first.shape)}", "middle", "")
    largest = max(first.classes_ms.values(), default=0.0) or 1.0
    for name, value in sorted(first.classes_ms.items(), key=lambda item: -item[1]):
        bar = Text(block * round(BAR * value / largest), style="yellow", justify="left")
        made.add_row(plain(name), rough(value), bar)
    return made


def side_by_side(entries: Sequence[Entry]) -> Table:
    """Return a row for each way in which an entry's numbers came about.

    A bundle or device that all entries share is not repeated.
    """
    bundles = len({entry.bundle for entry in entries}) > 1
    devices = len({entry.device_title for entry in entries}) > 1
    names = [name for name, shown in (("bundle", bundles), ("device", devices)) if shown]
    headers = (*names, "how", "shape", "p50 ms", "peak MiB", "files MiB")
    made = table(*headers, names=len(names) + 1)
    for entry in entries:
        for how, shapes, medians, peak in _ways(entry):
            given = ((entry.bundle, bundles), (entry.device_title, devices))
            who = [plain(name) for name, shown in given if shown]
            cells = ("\n".join(shapes), "\n".join(medians), peak, f"{entry.file_mib:.1f}")
            made.add_row(*who, how, *cells)
    return made


def _ways(entry: Entry) -> Iterator[Cells]:
    if entry.measured:
        found = entry.measured
        taken = (*found.timings, *found.decoding)
        shapes = [one.name for one in taken]
        medians = [number(one.percentile_ms(50)) for one in taken]
        yield "measured", shapes, medians, f"{found.memory.peak_rss_mib:.1f}"
    if entry.emulated:
        yield "executed", [], ["passed" if entry.emulated.passed else "FAILED"], ""
    if entry.estimated:
        ranges = entry.estimated.shapes
        shapes = [name_shape(shape.shape) for shape in ranges]
        medians = [f"{rough(shape.low_ms)}-{rough(shape.high_ms)}" for shape in ranges]
        low, high = entry.estimated.peak_rss_mib
        yield "estimate", shapes, medians, f"{low:.0f}-{high:.0f}"
