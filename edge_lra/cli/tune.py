"""`edge-lra tune`: from a base and a data file to an adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_lra.cli.adapter.output import folder_bytes, megabytes, out_options
from edge_lra.cli.common import TableChoice, shared_options, write_json
from edge_lra.errors import EdgeError
from edge_lra.quiet import quiet_libraries

if TYPE_CHECKING:
    from edge_lra.tune.fit import Settings, Step
    from edge_lra.tune.subject import Form
    from edge_lra.tune.tune import Tuned, TuneRequest

Command = TypeVar("Command", bound=Callable[..., Any])
SITES = "Ends of module names, or attention-output, ffn-output, both, all-linear. Repeatable."


def _tasks() -> Sequence[str]:
    from edge_lra.tune.subject import TASKS

    return list(TASKS)


def _kinds() -> Sequence[str]:
    from edge_lra.tune.subject import KINDS

    return list(KINDS)


def _activations() -> Sequence[str]:
    from edge_lra.adapters.kinds.layers import ACTIVATIONS

    return list(ACTIVATIONS)


def _check_rate(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    if not 0 < value < math.inf:  # NaN too
        raise click.BadParameter(f"{value} is not a finite number above 0")
    return value


def training_options(command: Command) -> Command:
    """Add what `tune` and `adapter rank` are both told."""
    positive = click.IntRange(min=1)
    options = (
        click.option("--model", help="The base; the project's by default."),
        click.option("--data", type=click.Path(path_type=Path), help="Text, labelled for classes."),
        click.option("--task", type=TableChoice(_tasks), default="sequence-classification"),
        click.option("--kind", type=TableChoice(_kinds), default="lora", help="lora by default."),
        click.option("--sites", multiple=True, help=SITES),
        click.option("--activation", type=TableChoice(_activations), help="Between two layers."),
        click.option("--epochs", type=positive, default=3, help="At most; 3."),
        click.option("--batch-size", type=positive, default=32, help="32."),
        click.option(
            "--learning-rate",
            type=float,
            default=1e-3,
            callback=_check_rate,
            help="Its peak; 0.001.",
        ),
        click.option("--seed", type=click.IntRange(min=0), default=0),
        click.option("--max-length", type=positive, default=128, help="Tokens of a row; 128."),
        click.option("--threads", type=positive, help="Of torch."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@training_options
@click.option("--rank", default="8", metavar="N|auto", help="8; auto chooses by cross-validation.")
@click.option("--validation", type=click.FloatRange(0, 0.9, min_open=True), default=0.1)
@click.option("--patience", type=click.IntRange(min=1), default=2, help="Epochs without gain; 2.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@out_options
@shared_options
def tune(json_to: str | None, **options: Any) -> None:
    """Train an adapter on a frozen base; a GPU is used where torch has one."""
    rank = read_rank(options["rank"])
    quiet_libraries()
    from edge_lra.tune.tune import tune as run
    from edge_lra.tune.tune import with_rank

    request = make_request(options, rank or 8)
    if rank is None:
        from edge_lra.tune.rank import choose_rank

        with training_bar() as step:
            request = with_rank(request, choose_rank(request, step=step).chosen)
    with training_bar() as step:
        tuned = run(request, step)
    document = {
        "schema_version": 1,
        "out": str(tuned.out),
        "bytes": folder_bytes(tuned.out),
        "kind": request.form.kind,
        "rank": request.form.rank,
        "labels": list(tuned.labels),
        "rows": {"training": tuned.rows[0], "validation": tuned.rows[1]},
        "parameters": {"trainable": tuned.trainable, "total": tuned.total},
        "epochs": [asdict(epoch) for epoch in tuned.history],
        "best_epoch": tuned.best.number,
        "resumed_after": tuned.resumed,
    }
    if write_json(document, json_to):
        show(tuned, request)


def read_rank(value: str) -> int | None:
    """Return a rank, or None for auto."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is not a rank or auto", param_hint="--rank")
    return int(value)


def make_request(options: dict[str, Any], rank: int) -> TuneRequest:
    """Join flags and the project's settings."""
    from edge_lra.config import load_config
    from edge_lra.tune.tune import TuneRequest

    project = load_config(Path.cwd())
    model, data = options["model"] or project.model, options["data"] or project.data
    if model is None or data is None:
        missing = "--model" if model is None else "--data"
        raise EdgeError(f"{missing}: found none, expected it, or a project's edge-lra.toml")
    request = TuneRequest(
        model=model,
        data=data,
        out=options.get("out") or Path("adapter"),
        task=options["task"],
        form=_form(options, rank),
        settings=_settings(options),
        max_length=options["max_length"],
        threads=options["threads"],
    )
    own = {key: options[key] for key in ("validation", "resume", "force") if key in options}
    return replace(request, **own)


def _form(options: dict[str, Any], rank: int) -> Form:
    from edge_lra.tune.subject import Form

    return Form(options["kind"], rank, tuple(options["sites"]), options["activation"])


def _settings(options: dict[str, Any]) -> Settings:
    from edge_lra.tune.fit import Settings

    keys = ("epochs", "batch_size", "learning_rate", "seed", "patience")
    return Settings(**{key: options[key] for key in keys if key in options})


@contextmanager
def training_bar() -> Iterator[Step | None]:
    """Yield a callback that draws steps, loss and accuracy on a terminal; None in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=None, loss=0.0, accuracy=0.0)

        def step(done: int, total: int, loss: float, accuracy: float) -> None:
            bar.update(task, completed=done, total=total, loss=loss, accuracy=accuracy)

        yield step


def show(tuned: Tuned, request: TuneRequest) -> None:
    """Print the epochs and what comes next."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    share = 100 * tuned.trainable / tuned.total
    console.print(
        f"{request.form.kind}, rank {request.form.rank}: {tuned.trainable:,} of {tuned.total:,} "
        f"parameters ({share:.2f} %), {tuned.rows[0]} rows, {tuned.rows[1]} for validation"
    )
    if tuned.resumed:
        console.print(f"resumed after epoch {tuned.resumed}")
    table = Table("epoch")
    for title in ("loss", "accuracy", "validation loss", "validation accuracy"):
        table.add_column(title, justify="right")
    for epoch in tuned.history:
        scores = (epoch.train, epoch.validation)
        cells = [t for s in scores for t in (f"{s.loss:.4f}", f"{100 * s.accuracy:.2f} %")]
        mark = " *" if epoch.number == tuned.best.number else ""
        table.add_row(f"{epoch.number}{mark}", *cells)
    console.print(table)
    console.print(f"{tuned.out}: {megabytes(folder_bytes(tuned.out))}", markup=False)
    nonlinear = request.form.kind == "bottleneck" or request.form.activation not in (None, "linear")
    mode = "--factored" if nonlinear else "--merge"
    console.print(
        f"\nNext: edge-lra export --model {request.model} --adapter {tuned.out} {mode}",
        markup=False,
        soft_wrap=True,
    )
