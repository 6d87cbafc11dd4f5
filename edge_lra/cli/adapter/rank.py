"""`edge-lra adapter rank`: choose a rank by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import TableChoice, shared_options, write_json
from edge_lra.cli.tune import make_request, training_bar, training_options
from edge_lra.quiet import quiet_libraries

if TYPE_CHECKING:
    from edge_lra.tune.rank import Choice


def _methods() -> Sequence[str]:
    from edge_lra.tune.rank import METHODS

    return METHODS


METHOD = "truncate: one training a fold, cut by SVD; train: one a fold and rank."


@click.command()
@training_options
@click.option("--ranks", default="1,2,4,8,16", help="Candidates; 1,2,4,8,16.")
@click.option("--folds", type=click.IntRange(min=2), default=5, help="5.")
@click.option("--method", type=TableChoice(_methods), default="truncate", help=METHOD)
@click.option("--plot", "figure", type=click.Path(path_type=Path), help="A .png, .svg or .pdf.")
@shared_options
def rank(
    ranks: str,
    folds: int,
    method: str,
    figure: Path | None,
    json_to: str | None,
    **options: Any,
) -> None:
    """Choose the smallest rank within one standard error of the best."""
    candidates = read_ranks(ranks)
    quiet_libraries()
    from edge_lra.tune.plot import check_plot, plot
    from edge_lra.tune.rank import choose_rank

    if figure is not None:
        check_plot(figure)
    request = make_request(options, max(candidates))
    with training_bar() as step:
        choice = choose_rank(request, candidates, folds, method, step)
    if figure is not None:
        plot(choice, figure, f"{request.form.kind} on {request.data.name}")
    median, largest = choice.spectrum
    document = {
        "schema_version": 1,
        "kind": request.form.kind,
        "method": method,
        "folds": folds,
        "candidates": [asdict(c) for c in choice.candidates],
        "chosen": choice.chosen,
        "best": choice.best,
        "spectrum": {"median": median, "largest": largest} if largest else None,
        "plot": str(figure) if figure else None,
    }
    if write_json(document, json_to):
        show(choice, figure)


def read_ranks(value: str) -> list[int]:
    """Return a list of ranks separated by commas."""
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is no list of ranks", param_hint="--ranks")
    return [int(part) for part in parts]


def show(choice: Choice, figure: Path | None) -> None:
    """Print the candidates and both choices."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("rank", "")
    for title in ("accuracy", "standard error", "folds"):
        table.add_column(title, justify="right")
    for candidate in choice.candidates:
        marks = {choice.best: "best", choice.chosen: "chosen"}
        folds = " ".join(f"{100 * value:.1f}" for value in candidate.accuracies)
        mean, error = 100 * candidate.mean, 100 * candidate.standard_error
        mark = marks.get(candidate.rank, "")
        table.add_row(str(candidate.rank), mark, f"{mean:.2f} %", f"{error:.2f}", folds)
    console.print(table)
    console.print(f"Rank {choice.chosen}: the smallest within one standard error of the best.")
    median, largest = choice.spectrum
    if largest:
        console.print(
            f"By the spectrum alone (95 % of a site's energy): {median} (median), "
            f"{largest} (largest site)."
        )
    if figure:
        console.print(f"Drawn in {figure}", markup=False)
