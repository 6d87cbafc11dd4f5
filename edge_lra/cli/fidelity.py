"""The table of a fidelity report, and what it says of the task's accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

ACCURACY = ("accuracy", "labelled_rows")  # how metrics begin that are sentences, not rows


def fidelity_view(fidelity: Mapping[str, Any]) -> Group:
    """Return the table, and below it the accuracy of every report whose text has labels."""
    reports = fidelity["reports"]
    lines = [Text(line) for report in reports for line in accuracy_lines(report, len(reports) > 1)]
    return Group(fidelity_table(fidelity), *lines)


def fidelity_table(fidelity: Mapping[str, Any]) -> Table:
    """Return metrics, limits and verdicts, an adapter after the other."""
    reports = fidelity["reports"]
    title = f"Against the float model on {' and '.join(dict.fromkeys(map(basis, reports)))}"
    who_column = Column("adapter", overflow="fold")  # a cut name may be another's beginning
    table = Table(who_column, "metric", title=escape(title), title_justify="left")
    for name in ("value", "limit"):
        table.add_column(name, justify="right")
    table.add_column("")
    for report in reports:
        gates = {gate["name"]: gate for gate in report["gates"]}
        who = escape(report["adapter"] or "-")
        for name, value in sorted(report["metrics"].items(), key=lambda item: item[0] not in gates):
            gate = gates.get(name)
            if gate is None and name.startswith(ACCURACY):
                continue
            verdict = "" if gate is None else "passed" if gate["passed"] else "FAILED"
            limit = "" if gate is None else f"{gate['limit']:g}"
            table.add_row(who, name, f"{value:.4g}", limit, verdict)
            who = ""
    return table


def accuracy_lines(report: Mapping[str, Any], named: bool) -> Iterator[str]:
    """Yield both models' accuracies, the drop, and whether there are enough rows to tell one.

    Args:
        report: of one adapter; older ones have no accuracy.
        named: whether to say of which.
    """
    from edge_lra.paired import TELLING

    found = report["metrics"]
    if "accuracy" not in found:
        return
    who = f" of {report['adapter'] or 'the base'}" if named else ""
    yield (
        f"Accuracy{who} on {found['labelled_rows']} labelled rows: float "
        f"{100 * found['accuracy_float']:.2f} %, bundle {100 * found['accuracy']:.2f} %"
    )
    yield (
        f"  {_points(found['accuracy_drop'])}, 95 % interval of the drop "
        f"{found['accuracy_drop_low']:.2f} to {found['accuracy_drop_high']:.2f}"
    )
    if (least := found["accuracy_resolution"]) > TELLING:
        yield f"  too few rows to tell: a drop of less than {least:.1f} points would not show"


def _points(drop: float) -> str:
    if not drop:
        return "no points lost"
    return f"{abs(drop):.2f} points {'lost' if drop > 0 else 'gained'}"


def basis(report: Mapping[str, Any]) -> str:
    """Return what a report rests on."""
    cut = f", {report['truncated']} of them cut"
    tokens = report["metrics"].get("tokens")
    scored = f", {tokens} tokens" if tokens else ""
    way = report["oracle"]
    oracle = "" if way == "whole" else f", the float model {way}"
    last = f"{cut if report['truncated'] else ''}{scored}{oracle}"
    return f"{report['texts']} texts, {report['source']}{last}"
