"""The tables of the terminal report; names are folded, never cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge_lra.profile.latencies import Latencies
from edge_lra.profile.measurement import Layer, Measurement, Memory, Operator, Step, Threads
from edge_lra.profile.report.series import column, columns, histogram, sparkline
from edge_lra.profile.report.words import number, throughput, throughput_unit

LINE = 48  # columns of a sparkline
SHORT = 6  # letters of a shape's name; a longer one takes its place from the bars
BAR = 8
NAME = 26  # columns that a name gets before it is folded


def table(title: str, *headers: str, names: int = 1) -> Table:
    """Return a table headed by its title; after the names come numbers, aligned right."""
    made = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    made.add_column(Text(title, style="bold not dim"), overflow="fold")
    for place, header in enumerate(headers, start=1):
        if place < names:
            made.add_column(header, overflow="fold")
        else:
            made.add_column(header, justify="right", no_wrap=True)
    return made


def plain(*lines: str, indent: int = 0) -> Text:
    """Return lines as they are: brackets in a name are no markup."""
    return Text("\n".join(f"{' ' * indent}{line}" for line in lines), overflow="fold")


def latency(measured: Measurement) -> Table:
    """Return percentiles by shape, and by context of a language model; the median's interval."""
    headers = ("runs", "p50", "95 % interval", "p90", "p95", "p99", throughput_unit(measured))
    made = table("Latency, ms", *headers)
    for timing in measured.timings:
        _add_latencies(made, timing, throughput(measured, timing))
    for decoding in measured.decoding:
        _add_latencies(made, decoding, decoding.tokens_per_s)
    return made


def _add_latencies(made: Table, taken: Latencies, per_s: float) -> None:
    low, high = taken.interval_ms(50)
    made.add_row(
        taken.name,
        str(len(taken.latencies_ms)),
        number(taken.percentile_ms(50)),
        f"{number(low)} - {number(high)}",
        *(number(taken.percentile_ms(percent)) for percent in (90, 95, 99)),
        f"{per_s:.1f}",
    )


def distribution(taken: Sequence[Latencies], blocks: str) -> RenderableType:
    """Return a line a shape or context: how many runs took how long, and what lies far above."""
    lines = Table.grid(padding=(0, 1))
    bins = LINE // 2 - max(0, max(len(one.name) for one in taken) - SHORT)
    for width in (None, None, bins, None):  # bars are never cut; what lies beyond is folded
        lines.add_column(no_wrap=True, min_width=width)
    lines.add_column(overflow="fold")
    for timing in taken:
        shown = histogram(timing, bins)
        bars = "".join(
            " " if value == 0 else blocks[(value * len(blocks) - 1) // max(shown.counts)]
            for value in shown.counts
        )
        lines.add_row(
            timing.name,
            Text(number(shown.low_ms), justify="right"),
            Text(bars, style="green"),
            f"{number(shown.high_ms)} ms",
            shown.beyond,
        )
    return lines


def start(measured: Measurement) -> Table:
    """Return how long it takes until results come."""
    found = measured.start
    cells = {
        "imports s": number(found.imports_s),
        "load s": number(found.load_s),
        "first run ms": number(found.first_run_ms),
    }
    if found.cold_s is not None:
        cells = {"cold s": number(found.cold_s)} | cells
    if measured.switch_ms is not None:
        cells["switch ms"] = number(measured.switch_ms)
    return _row("Start", cells)


def memory(found: Memory) -> RenderableType:
    """Return resident memory and what the bundle's share of it consists of."""
    cells = {"peak RSS": found.peak_rss_mib, "steady": found.steady_rss_mib}
    if found.steady_pss_mib is not None:
        cells["PSS"] = found.steady_pss_mib
    cells["above imports"] = found.model_rss_mib
    if found.planned_activations_mib is not None:
        cells["planned activations"] = found.planned_activations_mib
    made = _row("Memory, MiB", {name: f"{value:.1f}" for name, value in cells.items()})
    lines = []
    if found.parts_mib:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in found.parts_mib.items())
        lines.append(f"Of what the bundle takes: {parts}")
    if found.caches:
        kept = ", ".join(f"{each.context} tokens {each.mib:.1f}" for each in found.caches)
        lines.append(f"Keys and values: {kept}")
    return Group(made, plain(*lines)) if lines else made


def timeline(found: Memory, blocks: str) -> RenderableType:
    """Return resident memory over time with a letter under every mark."""
    samples = found.samples
    begin, end = samples[0].second, samples[-1].second
    values = columns(samples, LINE)
    low = f"{min(sample.rss_mib for sample in samples):.1f} MiB "
    under, legend = [" "] * LINE, []
    for letter, mark in zip("abcdefghijklmnopqrstuvwxyz", found.marks, strict=False):
        place = column(mark.second, begin, end, LINE)
        free = [at for at in (*range(place, LINE), *range(place, -1, -1)) if under[at] == " "]
        under[free[0]] = letter
        legend.append(f"{letter} {mark.name} {number(mark.second)} s")
    line = Text(low).append(sparkline(values, blocks), style="green")
    line.append(f" {max(values):.1f} MiB, {number(end - begin)} s")
    marks = [plain("".join(under).rstrip(), indent=len(low)), plain(", ".join(legend))]
    return Group(line, *(marks if legend else []))


def where_time_goes(found: Measurement | Step, block: str, rows: int, of: str = "") -> Table:
    """Return operators and layers beside each other; `of` says of what, where that is not plain."""
    side = Table.grid(padding=(0, 1, 0, 0))
    parts = []
    title = f"Operators, {of}" if of else "Operators"
    if found.operators:
        names = [f"{operator.name} x{operator.nodes}" for operator in found.operators]
        parts.append(_shares(title, names, found.operators, block, rows, share=True))
    if found.layers:
        names = [layer.name for layer in found.layers]
        parts.append(_shares("Layers", names, found.layers, block, rows, share=False))
    side.add_row(*parts)
    return side


def _shares(
    title: str,
    names: Sequence[str],
    items: Sequence[Operator] | Sequence[Layer],
    block: str,
    rows: int,
    share: bool,
) -> Table:
    """Return the slowest items in the order they have, and the rest in one row."""
    times = [item.mean_ms for item in items]
    total, largest = sum(times) or 1.0, max(times) or 1.0
    slowest = sorted(range(len(times)), key=lambda place: -times[place])
    kept = sorted(slowest[:rows] if len(times) > rows + 1 else slowest)
    made = table(title, "ms", *(["share"] if share else []))
    made.columns[0].min_width = min(NAME, max(len(names[place]) for place in kept))
    made.add_column("", no_wrap=True, style="green", min_width=BAR)
    shown = [(names[place], times[place]) for place in kept]
    if len(kept) < len(times):
        shown.append((f"{len(times) - len(kept)} others", total - sum(ms for _, ms in shown)))
    for place, (name, value) in enumerate(shown):
        bar = block * round(BAR * value / largest) if place < len(kept) else ""
        part = [f"{value / total:.1%}"] if share else []
        made.add_row(plain(name), number(value), *part, bar)
    return made


def sweep(found: Sequence[Threads]) -> RenderableType:
    """Return the median by threads, and how much faster than the first, in a line."""
    lines = [_speeds("Threads", {row.threads: row.p50_ms for row in found})]
    tokens = {row.threads: row.decode_ms for row in found if row.decode_ms is not None}
    return Group(*lines, *([_speeds("a token", tokens)] if tokens else []))


def _speeds(title: str, medians_ms: Mapping[int, float]) -> Text:
    first_ms = next(iter(medians_ms.values()))
    parts = [
        f"{threads}: {number(p50_ms)} ms ({first_ms / p50_ms:.2f}x)"
        for threads, p50_ms in medians_ms.items()
    ]
    return Text(f"{title}  ", style="bold").append("   ".join(parts), style="not bold")


def _row(title: str, cells: Mapping[str, str]) -> Table:
    made = table(title, *cells)
    made.columns[0].min_width = len(title)
    made.add_row("", *cells.values())
    return made
