"""Charts as SVG that keeps its letters' size at any width.

Places are percentages of the width and pixels of the height; only a curve is stretched, in an
`svg` of its own. Colours are classes of the page's style sheet, so that they follow its theme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from edge_lra.profile.latencies import Latencies
from edge_lra.profile.measurement import Memory
from edge_lra.profile.report.series import Histogram, histogram, thin
from edge_lra.profile.report.words import count, number
from edge_lra.profile.result import Ratio

BINS = 36
BEYOND = 88.0  # percent of the width where the bins end, if there is one beyond them
POINTS = 400  # of a curve
ROW = 15  # pixels of a line of letters
FREE = 65.0  # percent of the width that leaves room for a label beside it
PLOT = 130  # pixels of a plot without its letters


def latency(timing: Latencies) -> str:
    """Return runs by latency, with the median's interval, p95 and p99."""
    shown = histogram(timing, BINS)
    width = BEYOND if shown.above else 100.0
    lines = [(f"p{percent}", timing.percentile_ms(percent)) for percent in (50, 95, 99)]
    lines = [(name, value) for name, value in lines if value <= shown.high_ms]
    top = ROW * len(lines) + 6
    title = f"{len(timing.latencies_ms)} runs of {timing.name} by latency"
    chart = _chart(top + PLOT + ROW + 4, title)
    low, high = (_place(value, shown, width) for value in timing.interval_ms(50))
    _rect(chart, "band", low, top, max(high - low, 0.3), PLOT, "95 % interval of p50")
    most = max(*shown.counts, shown.above)
    step = width / BINS
    for place, runs in enumerate(shown.counts):
        if runs:
            tall = max(1.0, PLOT * runs / most)
            ends = f"{number(shown.edge_ms(place))} to {number(shown.edge_ms(place + 1))} ms"
            text = f"{ends}: {count(runs, 'run')}"
            _rect(chart, "fill", step * place, top + PLOT - tall, step * 0.88, tall, text)
    marks = [(_place(value, shown, width), f"{name} {number(value)} ms") for name, value in lines]
    _marks(chart, marks, top + PLOT)
    _line(chart, "axis", 0, top + PLOT, 100, top + PLOT)
    foot = top + PLOT + ROW
    _text(chart, 0, foot, f"{number(shown.low_ms)} ms")
    _text(chart, width if width < 100 else 100, foot, f"{number(shown.high_ms)} ms", "end")
    if shown.above:
        tall = max(2.0, PLOT * shown.above / most)
        _rect(chart, "beyond", BEYOND + 5, top + PLOT - tall, 7, tall, shown.beyond)
        _text(chart, 100, foot, f"+{shown.above}", "end")
    return _string(chart)


def _place(value: float, shown: Histogram, width: float) -> float:
    share = (value - shown.low_ms) / (shown.high_ms - shown.low_ms)
    return width * max(0.0, min(1.0, share))


def memory(found: Memory) -> str:
    """Return resident memory over time with marks."""
    points = thin(found.samples, POINTS)
    begin, end = points[0].second, points[-1].second
    length = (end - begin) or 1.0
    top = ROW * len(found.marks) + 16
    ticks = _ticks(max(found.peak_rss_mib, *(point.rss_mib for point in points)))
    high = ticks[-1]
    chart = _chart(top + PLOT + ROW + 4, "Resident memory over time")
    plot = {"viewBox": f"0 0 1000 {PLOT}", "preserveAspectRatio": "none", "y": str(top)}
    curve = SubElement(chart, "svg", plot | {"width": "100%", "height": str(PLOT)})
    places = [
        f"{1000 * (p.second - begin) / length:.1f},{PLOT * (1 - p.rss_mib / high):.1f}"
        for p in points
    ]
    area = " ".join([f"0,{PLOT}", *places, f"1000,{PLOT}"])
    SubElement(curve, "polygon", {"class": "area", "points": area})
    SubElement(curve, "polyline", {"class": "curve", "points": " ".join(places)})
    for tick in ticks:
        y = top + PLOT * (1 - tick / high)
        _line(chart, "grid", 0, y, 100, y)
        _text(chart, 100, y - 3, f"{tick:g} MiB", "end")
    marks = [
        (100 * max(0.0, min(1.0, (mark.second - begin) / length)),
         f"{mark.name}, {number(mark.second)} s")
        for mark in found.marks
    ]  # fmt: skip
    _marks(chart, marks, top + PLOT)
    _text(chart, 0, top + PLOT + ROW, f"{number(begin)} s")
    _text(chart, 100, top + PLOT + ROW, f"{number(end)} s", "end")
    return _string(chart)


def _ticks(most: float) -> list[float]:
    """Return three to six round values from a step up to the first that is not below `most`."""
    raw = most / 4 or 1.0
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    return [step * number for number in range(1, math.ceil(most / step) + 1)]


def bar(value: float, largest: float, text: str = "", kind: str = "fill") -> str:
    """Return a bar for a table's cell."""
    chart = _chart(12, text, "bar")
    if largest > 0:
        _rect(chart, kind, 0, 0, max(0.5, 100 * value / largest), 12, text)
    return _string(chart)


def ranged(low: float, middle: float, high: float, largest: float, text: str) -> str:
    """Return an estimate's range: hatched, never filled as a measurement is."""
    chart = _chart(12, text, "bar")
    scale = 100 / (largest or 1.0)
    _rect(chart, "hatched", low * scale, 0.5, max(0.5, (high - low) * scale), 11, text)
    _line(chart, "middle", middle * scale, 0, middle * scale, 12)
    return _string(chart)


def stack(
    parts: Mapping[str, float], kinds: Mapping[str, str], largest: float, unit: str, title: str
) -> str:
    """Return parts one after the other; `kinds` gives each its class, `rest` where it has none."""
    chart = _chart(14, title, "bar")
    at = 0.0
    for name, value in parts.items():
        width = 100 * value / (largest or 1.0)
        _rect(chart, kinds.get(name, "rest"), at, 0, width, 14, f"{name}: {number(value)} {unit}")
        at += width
    return _string(chart)


def ratio(found: Ratio, every: Sequence[Ratio]) -> str:
    """Return a ratio and its interval beside the line of equality, on one scale for all."""
    ends = [end for item in every for end in item.interval]
    low, high = min(1.0, *ends), max(1.0, *ends)
    room = 0.08 * (high - low) or 0.1
    low, high = low - room, high + room

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    first, last = map(place, found.interval)
    said = f"{found.ratio:.3f}, 95 % interval {found.interval[0]:.3f} to {found.interval[1]:.3f}"
    chart = _chart(20, said, "bar")
    _line(chart, "one", place(1.0), 0, place(1.0), 20)
    _line(chart, "whisker", first, 10, last, 10)
    SubElement(chart, "circle", {"class": "fill", "cx": f"{place(found.ratio):.2f}%", "cy": "10",
               "r": "4.5"})  # fmt: skip
    return _string(chart)


def _chart(height: float, title: str, kind: str = "chart") -> Element:
    """Return an empty chart; one without a title repeats what stands beside it."""
    named = {"role": "img", "aria-label": title} if title else {"aria-hidden": "true"}
    return Element("svg", {"class": kind, "width": "100%", "height": f"{height:g}"} | named)


def _rect(
    chart: Element, kind: str, x: float, y: float, width: float, height: float, text: str
) -> None:
    places = {"x": f"{x:.2f}%", "y": f"{y:.1f}", "width": f"{width:.2f}%"}
    made = SubElement(chart, "rect", {"class": kind} | places | {"height": f"{height:.1f}"})
    if text:
        SubElement(made, "title").text = text


def _line(chart: Element, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
    places = {"x1": f"{x1:.2f}%", "y1": f"{y1:.1f}", "x2": f"{x2:.2f}%", "y2": f"{y2:.1f}"}
    SubElement(chart, "line", {"class": kind} | places)


def _marks(chart: Element, marks: Sequence[tuple[float, str]], foot: float) -> None:
    """Draw labelled lines down to the axis so that no line crosses a label.

    Each label has a row of its own. Where all stand right of their lines, the leftmost is on top;
    where all stand left of them, the rightmost is. Marks near both ends are told apart at half
    the width.
    """
    ordered = sorted(marks)
    middle = 50.0
    if ordered and ordered[0][0] >= 100 - FREE:
        middle = 0.0
    elif ordered and ordered[-1][0] <= FREE:
        middle = 100.0
    rightward = [mark for mark in ordered if mark[0] <= middle]
    leftward = [mark for mark in reversed(ordered) if mark[0] > middle]
    for row, (place, text) in enumerate([*rightward, *leftward]):
        left = place > middle
        _line(chart, "mark", place, ROW * row + 2, place, foot)
        _text(chart, place, ROW * row + 12, text, "end" if left else "start", -5 if left else 5)


def _text(
    chart: Element, x: float, y: float, text: str, anchor: str = "start", shift: float = 0
) -> None:
    places = {"x": f"{x:.2f}%", "y": f"{y:.1f}", "dx": f"{shift:g}", "text-anchor": anchor}
    SubElement(chart, "text", places).text = text


def _string(chart: Element) -> str:
    return ElementTree.tostring(chart, encoding="unicode")
