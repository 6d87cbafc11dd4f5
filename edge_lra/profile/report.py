"""Show a profile on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from edge_lra.profile.result import PERCENTILES, Measurement, Profile, Timing

BINS = 10
BAR = 40
TOP_OPERATORS = 10


def render(profile: Profile, console: Console) -> None:
    """Print latency, memory, operators and a histogram; ratios where two bundles ran."""
    machine = profile.machine
    console.print(
        f"Measured on {escape(str(machine['cpu']))}, {machine['cores']} cores, "
        f"{profile.threads} thread{'s' if profile.threads > 1 else ''}",
        highlight=False,
    )
    bundles = [profile.measured, *([profile.against] if profile.against else [])]
    console.print(_latency_table(bundles))
    console.print(_memory_table(bundles))
    names = [escape(measured.bundle) for measured in bundles]
    for shape, ratio in profile.ratios().items():
        word = "faster" if ratio >= 1 else "slower"
        factor = ratio if ratio >= 1 else 1 / ratio
        console.print(
            f"{shape} at p50: {names[0]} is {factor:.2f}x {word} than {names[1]}", highlight=False
        )
    console.print(_operator_table(profile.measured))
    for timing in profile.measured.timings:
        console.print(_histogram(timing), highlight=False)


def _bundle() -> Column:
    return Column("bundle", overflow="fold")  # a cut name says nothing about which bundle it is


def _latency_table(bundles: list[Measurement]) -> Table:
    table = Table(_bundle(), "shape", title="Latency, ms", title_justify="left")
    table.add_column("runs", justify="right")
    for percent in PERCENTILES:
        table.add_column(f"p{percent}", justify="right")
    for measured in bundles:
        for timing in measured.timings:
            table.add_row(
                escape(measured.bundle),
                f"{timing.shape[0]}x{timing.shape[1]}",
                str(len(timing.latencies_ms)),
                *(f"{timing.percentile_ms(percent):.2f}" for percent in PERCENTILES),
            )
    return table


def _memory_table(bundles: list[Measurement]) -> Table:
    table = Table(_bundle(), title="Loading and memory", title_justify="left")
    for name in ("load s", "peak RSS\nMiB", "above imports\nMiB", "files\nMiB"):
        table.add_column(name, justify="right")
    for measured in bundles:
        table.add_row(
            escape(measured.bundle),
            f"{measured.load_s:.3f}",
            f"{measured.peak_rss_mib:.1f}",
            f"{measured.model_rss_mib:.1f}",
            f"{measured.file_mib:.1f}",
        )
    return table


def _operator_table(measured: Measurement) -> Table:
    batch, tokens = measured.timings[0].shape
    title = f"Operators at {batch}x{tokens}, under the profiler"
    table = Table("operator", title=title, title_justify="left")
    for name in ("nodes", "ms a run", "share"):
        table.add_column(name, justify="right")
    total = sum(operator.mean_ms for operator in measured.operators) or 1.0
    for operator in measured.operators[:TOP_OPERATORS]:
        table.add_row(
            operator.name,
            str(operator.nodes),
            f"{operator.mean_ms:.3f}",
            f"{operator.mean_ms / total:.1%}",
        )
    return table


def _histogram(timing: Timing) -> Table:
    low, high = min(timing.latencies_ms), max(timing.latencies_ms)
    width = (high - low) / BINS or 1.0
    counts = [0] * BINS
    for value in timing.latencies_ms:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    title = f"{timing.shape[0]}x{timing.shape[1]}: runs by latency"
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    for place, count in enumerate(counts):
        bar = "█" * round(BAR * count / max(counts))
        table.add_row(f"{low + place * width:.2f} ms", bar, str(count))
    return table
