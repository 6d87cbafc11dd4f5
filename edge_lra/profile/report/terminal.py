"""Show a profile on a terminal of 80 columns or more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from edge_lra.profile.measurement import Measurement
from edge_lra.profile.report import claims, tables
from edge_lra.profile.report.words import (
    about,
    comparison,
    estimated_for,
    executed_on,
    measured_on,
)
from edge_lra.profile.result import Entry, Profile

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = ".:-=+*%#"  # where the terminal's encoding has no blocks
ROWS = 10  # of a table when one bundle on one device is shown
FEW = 5  # when there are several


def render(profile: Profile, console: Console) -> None:
    """Print every entry under a heading that says how its numbers came about.

    Args:
        profile: bundles on devices; several are set side by side first.
        console: where to print; it is not closed.
    """
    blocks = ASCII if console.options.ascii_only else BLOCKS
    several = len(profile.entries) > 1
    parts: list[RenderableType] = []
    if several:
        parts.append(Padding(claims.side_by_side(profile.entries), (0, 0, 1, 0)))
    if profile.ratios:
        first, second = (entry.bundle for entry in profile.entries[:2])
        said = [Text(comparison(ratio, first, second)) for ratio in profile.ratios]
        parts.append(Group(*said, Text()))
    for entry in profile.entries:
        parts.extend(_entry(entry, blocks, FEW if several else ROWS))
    for part in parts:
        console.print(part, highlight=False, overflow="fold")


def _entry(entry: Entry, blocks: str, rows: int) -> Iterator[RenderableType]:
    title = Text(entry.bundle, style="bold")
    yield title.append(f"  {about(entry)}", style="not bold")
    if entry.measured:
        yield Text(measured_on(entry, entry.measured), style="green")
        yield from _spaced(_measured(entry.measured, blocks, rows))
    if entry.emulated:
        yield Text(executed_on(entry.emulated), style="cyan")
        yield from _spaced([claims.emulation(entry.emulated)])
    if entry.estimated:
        yield Text(estimated_for(entry, entry.estimated), style="yellow")
        yield from _spaced(claims.estimate(entry.estimated, blocks[-1]))


def _spaced(parts: Iterable[RenderableType]) -> Iterator[RenderableType]:
    """Set parts a little to the right, each with a line of space after it."""
    return (Padding(part, (0, 0, 1, 2)) for part in parts)


def _measured(measured: Measurement, blocks: str, rows: int) -> Iterator[RenderableType]:
    if not measured.complete:
        yield Text("Incomplete: the target dropped before everything was taken", style="bold red")
    if measured.warnings:
        lines = [Text(f"Warning: {warning}", style="bold yellow") for warning in measured.warnings]
        yield Group(*lines)
    taken = (*measured.timings, *measured.decoding)
    if taken:
        yield Group(tables.latency(measured), Text(), tables.distribution(taken, blocks))
    yield tables.start(measured)
    line = [tables.timeline(measured.memory, blocks)] if measured.memory.samples else []
    yield Group(tables.memory(measured.memory), *line)
    yield from _where_time_goes(measured, blocks[-1], rows)
    if measured.sweep:
        yield tables.sweep(measured.sweep)


def _where_time_goes(measured: Measurement, block: str, rows: int) -> Iterator[RenderableType]:
    """Yield operators and layers; a token's come first, which is where a user waits."""
    step = measured.step
    rows = FEW if step else rows
    if step and (step.operators or step.layers):
        yield tables.where_time_goes(step, block, rows, step.name)
    if measured.operators or measured.layers:
        of = measured.timings[0].name if step and measured.timings else ""
        yield tables.where_time_goes(measured, block, rows, of)
