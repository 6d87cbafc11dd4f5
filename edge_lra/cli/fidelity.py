"""The table of a fidelity report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Column, Table


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
            verdict = "" if gate is None else "passed" if gate["passed"] else "FAILED"
            limit = "" if gate is None else f"{gate['limit']:g}"
            table.add_row(who, name, f"{value:.4g}", limit, verdict)
            who = ""
    return table


def basis(report: Mapping[str, Any]) -> str:
    """Return what a report rests on."""
    cut = f", {report['truncated']} of them cut"
    tokens = report["metrics"].get("tokens")
    scored = f", {tokens} tokens" if tokens else ""
    way = report["oracle"]
    oracle = "" if way == "whole" else f", the float model {way}"
    last = f"{cut if report['truncated'] else ''}{scored}{oracle}"
    return f"{report['texts']} texts, {report['source']}{last}"
