"""`edge-lra profile`: what a bundle costs where it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.advise import advise_project
from edge_lra.cli.common import (
    ShapeBase,
    bundle_argument,
    find_bundle,
    read_limits,
    shared_options,
    write_json,
)
from edge_lra.errors import EdgeError, GateError

if TYPE_CHECKING:
    from edge_lra.config import Config
    from edge_lra.profile.result import Profile
    from edge_lra.profile.study import Stage, Study
    from edge_lra.transport import Progress

DEVICE = "A name of `edge-lra devices`, or a TOML; this machine otherwise. Repeatable."
TARGET = "ssh://[user@]host[:port] or adb:SERIAL: where to measure."
SHAPE = "Texts x tokens, 1x128 where it fits. Repeatable."
CONTEXT = "Tokens that a language model reads first, 128 where they fit. Repeatable."
SWEEP = "Numbers of threads to try besides. Repeatable."
ESTIMATE = "Emulate nothing; beside a measurement here, tell the estimate's error."
ADVISE = "Try the project's schemes and modes and name the one to take."
LIMIT = "p50_ms=50, say; exit 3 when it is exceeded. Repeatable."

OF_MEASUREMENTS = ("trace", "sweep", "runs", "budget", "context")  # nothing else has a use for them


class ShapeType(ShapeBase):
    """`BATCHxTOKENS`."""

    name = "shape"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (batch, tokens)."""
        match = re.fullmatch(r"(\d+)x(\d+)", str(value))
        if match is None:
            self.fail(f"{value!r} is not BATCHxTOKENS, such as 1x128", param, ctx)
        return int(match[1]), int(match[2])


FILE = click.Path(path_type=Path)
POSITIVE = click.IntRange(min=1)


@click.command()
@bundle_argument
@click.option("--device", "devices", multiple=True, metavar="D", help=DEVICE)
@click.option("--target", metavar="URL", help=TARGET)
@click.option("--keep", is_flag=True, help="Leave the bundle at the target for the next profile.")
@click.option(
    "--shape",
    "shapes",
    type=ShapeType(),
    multiple=True,
    metavar="1x128",
    help=SHAPE,
)
@click.option("--context", type=POSITIVE, multiple=True, metavar="N", help=CONTEXT)
@click.option("--threads", type=POSITIVE, default=1, show_default=True)
@click.option("--sweep", type=POSITIVE, multiple=True, metavar="N", help=SWEEP)
@click.option("--runs", type=POSITIVE, help="Timed runs a shape; as many as the median needs.")
@click.option("--budget", type=click.FloatRange(0, min_open=True), help="Seconds for them; 20.")
@click.option("--against", type=FILE, metavar="B2", help="Another bundle, in turns.")
@click.option("--adapter", help="Of a factored bundle; its default otherwise.")
@click.option("--estimate", is_flag=True, help=ESTIMATE)
@click.option("--advise", is_flag=True, help=ADVISE)
@click.option("--limit", "limits", multiple=True, metavar="KEY=VALUE", help=LIMIT)
@click.option("--html", type=FILE, metavar="F", help="One page, without network.")
@click.option("--trace", type=FILE, metavar="F", help="A trace for Perfetto.")
@shared_options
def profile(bundle: Path | None, json_to: str | None, **options: Any) -> None:
    """Measure a bundle here or on a target; execute and estimate it for other devices."""
    from edge_lra.config import load_config
    from edge_lra.profile.limits import LIMITS

    limits = read_limits(options["limits"], LIMITS)
    config = load_config(Path.cwd())
    if options["advise"]:
        advise_project(bundle, config, options, json_to)
        return
    check_places({"html": options["html"], "trace": options["trace"], "json": json_to})
    study = make_study(find_bundle(bundle, config.folder), config, options)
    check_known(study, {**config.limits, **limits})
    found = run(study, options)
    if write_json(found.to_json(), json_to):
        show(found, options)
    check_emulations(found)  # first: wrong results matter more than slow ones
    check_all(found, {**config.limits, **limits})


def check_places(places: Mapping[str, Path | str | None]) -> None:
    """Refuse two documents in one file: the last would take the others' place.

    Args:
        places: where each option writes; None where it was not given.

    Raises:
        EdgeError: names both options.
    """
    taken: dict[Path, str] = {}
    for name, place in places.items():
        if place is None or str(place) == "-":
            continue
        other = taken.setdefault(Path(place).resolve(), name)
        if other != name:
            raise EdgeError(
                f"--{name} {place}: found the file of --{other}, expected one of its own"
            )


def check_known(study: Study, limits: Mapping[str, float]) -> None:
    """Refuse limits on what nothing will measure, before any work.

    Raises:
        EdgeError: names the limit.
    """
    from edge_lra.profile.bundles import generates
    from edge_lra.profile.limits import ESTIMATED_LIMITS, GENERATING
    from edge_lra.profile.study import is_measured

    of_tokens = [name for name in limits if name in GENERATING]
    silent = [path for path in study.bundles if not generates(path)]
    if of_tokens and silent:
        raise EdgeError(
            f"limit {of_tokens[0]}: found {silent[0]}, which generates no text, expected a "
            "language model's bundle; leave it out"
        )
    odd = [name for name in limits if name not in ESTIMATED_LIMITS]
    if odd and not is_measured(study):
        raise EdgeError(
            f"limit {odd[0]}: found only devices that are emulated or estimated, expected a "
            f"measurement; give a --target, or limit {', '.join(ESTIMATED_LIMITS)}"
        )


def check_all(found: Profile, limits: Mapping[str, float]) -> None:
    """Hold every entry against the limits, and tell all that exceed them.

    Raises:
        EdgeError: a limit on what was not measured.
        GateError: names every bundle, device and limit.
    """
    from edge_lra.profile.limits import check_limits

    lines = []
    for entry in found.entries:
        try:
            check_limits(entry, limits)
        except GateError as error:
            lines.append(str(error))
    if lines:
        raise GateError("; ".join(lines))


def make_study(bundle: Path, config: Config, options: dict[str, Any]) -> Study:
    """Join flags and the project's settings."""
    from edge_lra.profile.plan import BUDGET_S
    from edge_lra.profile.study import Study

    named = options["devices"] or (
        (config.device,) if config.device and options["target"] is None else ()
    )
    return Study(
        bundle,
        options["against"],
        devices=tuple(named),
        devices_folder=config.devices,
        budget_s=options["budget"] or BUDGET_S,
        shapes=options["shapes"] or None,
        contexts=options["context"] or None,
        **{
            key: options[key]
            for key in ("target", "keep", "estimate", "threads", "runs", "adapter", "sweep")
        },
    )


def run(study: Study, options: dict[str, Any]) -> Profile:
    """Run the study, and write the files that were asked for."""
    from edge_lra.profile.report import check_html, check_target, write_html, write_trace
    from edge_lra.profile.study import is_measured, run_study

    if options["html"]:
        check_html(options["html"])
    if options["trace"]:
        check_target(options["trace"])
    asked = [name for name in OF_MEASUREMENTS if options[name]]
    if asked and not is_measured(study):
        raise EdgeError(
            f"--{asked[0]}: found only devices that are emulated or estimated, expected a "
            "measurement; give a --target, or --device host for this machine"
        )
    with stages() as (stage, progress):
        found = run_study(study, stage, progress)
    if options["html"]:
        write_html(found, options["html"])
    if options["trace"]:
        write_trace(found, options["trace"])
    return found


def show(found: Profile, options: dict[str, Any]) -> None:
    """Print the profile, and which files were written."""
    from rich.console import Console

    from edge_lra.profile import render

    render(found, Console())
    for name in ("html", "trace"):
        if options[name]:
            click.echo(f"{options[name]} written.")


def check_emulations(found: Profile) -> None:
    """Hold what was executed on emulated cores against the truth.

    Raises:
        GateError: names the bundles and cores that failed.
    """
    failed = [e for e in found.entries if e.emulated and not e.emulated.passed]
    if failed:
        names = ", ".join(f"{e.bundle} on {e.emulated.cpu}" for e in failed if e.emulated)
        raise GateError(
            f"{names}: found other integers or outputs than were recorded at export, expected the "
            "same; do not ship it there"
        )


@contextmanager
def stages() -> Iterator[tuple[Stage, Progress | None]]:
    """Yield what shows the present stage on a terminal; it is quiet in a pipe."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield (lambda name: None), None
        return
    with console.status("starting") as status:

        def stage(name: str) -> None:
            status.update(escape(name))

        def progress(name: str, done: int, total: int) -> None:
            status.update(f"{escape(name)} {done / 2**20:.1f} of {total / 2**20:.1f} MiB")

        yield stage, progress
