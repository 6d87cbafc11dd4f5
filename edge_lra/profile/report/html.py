"""Write a profile as one page of HTML that asks the network for nothing and runs no script."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edge_lra.profile.report import charts, series, words
from edge_lra.profile.result import Entry, Profile
from edge_lra.whole_files import check_target, write_whole

PAGE = Path(__file__).with_name("page")
COLOURS = 5  # kinds that have a colour of their own; the rest share one


def check_html(path: Path) -> None:
    """Refuse what would stop the page from being written, before anything is measured for it.

    Raises:
        EdgeError: a place that cannot hold a file.
        ModuleNotFoundError: jinja2, of the extra `report`, is not installed.
    """
    check_target(path)
    import jinja2  # noqa: F401, a missing one is said now rather than after the measurement


def write_html(profile: Profile, path: Path) -> None:
    """Write the page of a profile.

    Args:
        profile: bundles on devices; several are compared first.
        path: the file; see `check_target`.

    Raises:
        ModuleNotFoundError: jinja2, of the extra `report`, is not installed.
    """
    write_whole(path, page(profile))


def page(profile: Profile) -> str:
    """Return the page. Every name in it is escaped; charts escape their own."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def drawn(draw: Callable[..., str]) -> Callable[..., Markup]:
        return lambda *arguments: Markup(draw(*arguments))

    for name in ("latency", "memory", "bar", "ranged", "stack", "ratio"):
        environment.globals[f"draw_{name}"] = drawn(getattr(charts, name))
    environment.globals.update(
        words=words,
        series=series,
        kinds=kinds,
        compared=compared,
        operators=operators,
        several=len(profile.entries) > 1,
    )
    environment.filters.update(
        number=words.number, rough=words.rough, shape=words.name_shape, mib=_mib
    )
    return environment.get_template("page.html").render(profile=profile)


def kinds(names: Iterable[str]) -> dict[str, str]:
    """Return the class of each name that gets a colour of its own: the first ones."""
    return {name: f"kind{place}" for place, name in enumerate(list(names)[:COLOURS])}


def compared(profile: Profile) -> dict[str, list[dict[str, Any]]]:
    """Return by shape, or context, what entries have of it: a median, or an estimate's range."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _names(profile)}
    for name, found in rows.items():
        for entry in profile.entries:
            found.extend(_latencies(entry, name))
    return rows


def _names(profile: Profile) -> list[str]:
    """Return what was run or estimated, by name: shapes, then contexts."""
    shapes: dict[str, None] = {}
    contexts: dict[str, None] = {}
    for entry in profile.entries:
        if entry.measured:
            shapes |= dict.fromkeys(timing.name for timing in entry.measured.timings)
            contexts |= dict.fromkeys(decoding.name for decoding in entry.measured.decoding)
        if entry.estimated:
            shapes |= dict.fromkeys(words.name_shape(each.shape) for each in entry.estimated.shapes)
    return [*shapes, *contexts]


def _latencies(entry: Entry, name: str) -> Iterable[dict[str, Any]]:
    if entry.measured:
        for taken in (*entry.measured.timings, *entry.measured.decoding):
            if taken.name == name:
                value = taken.percentile_ms(50)
                yield {"entry": entry, "how": "measured", "value": value, "most": value}
    if entry.estimated:
        for item in entry.estimated.shapes:
            if words.name_shape(item.shape) == name:
                yield {"entry": entry, "how": "estimate", "value": item, "most": item.high_ms}


def operators(
    profile: Profile,
) -> tuple[list[Entry], str, list[tuple[str, list[float | None]]]]:
    """Return entries, of what, and each operator's milliseconds there, the longest first.

    They are of a token where all entries have one: that is where a user waits.
    """
    steps = [(e, e.measured.step) for e in profile.entries if e.measured and e.measured.step]
    runs = [(e, e.measured) for e in profile.entries if e.measured]
    of_tokens = len(steps) == len(runs)
    found = [pair for pair in (steps if of_tokens else runs) if pair[1].operators]
    tables = [{operator.name: operator.mean_ms for operator in run.operators} for _, run in found]
    names = {name: max(table.get(name, 0.0) for table in tables) for t in tables for name in t}
    order = sorted(names, key=lambda name: -names[name])
    rows = [(name, [table.get(name) for table in tables]) for name in order]
    of = f"a {steps[0][1].name}" if of_tokens and steps else "the first shape"
    return [entry for entry, _ in found], of, rows


def _mib(count: int) -> str:
    return f"{count / 2**20:.2f}"
