"""`edge-lra export`: from a model and adapters to a bundle."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import (
    TableChoice,
    remember_bundle,
    shared_options,
    verify_tokens_option,
    write_json,
)
from edge_lra.quiet import quiet_libraries

if TYPE_CHECKING:
    from edge_lra.config import Config
    from edge_lra.device import Device
    from edge_lra.inputs import ExportRequest, Progress

logger = logging.getLogger(__name__)


def _schemes() -> Sequence[str]:
    from edge_lra.quantize import SCHEMES

    return list(SCHEMES)


def task_names() -> Sequence[str]:
    """Return the values of --task."""
    from edge_lra.recipe import TASKS

    return TASKS


def remedy_names() -> Sequence[str]:
    """Return the values of --without."""
    from edge_lra.quantize.remedies import REMEDIES

    return REMEDIES


def _sites() -> Sequence[str]:
    from edge_lra.inputs import SITES

    return SITES


def _dtypes() -> Sequence[str]:
    from edge_lra.inputs import ADAPTER_DTYPES

    return list(ADAPTER_DTYPES)


def _optional() -> Sequence[str]:
    from edge_lra.quantize.remedies import OPTIONAL

    return OPTIONAL


CONTEXT = "The longest context of a language model; all that it has otherwise."
ADAPTER_DTYPE = "Of a language model's --factored adapters."
KEEP_FLOAT = "Linears that stay in float32, such as 'encoder.layer.5.*'. Repeatable."
PLAN = "Forms of an encoder's linears, as `edge-lra plan` writes them."
WITHOUT = "Leave out a part that integers are made accurate or quick by. Repeatable."
DATA = "Text to calibrate an encoder or int4 with, and other rows of it to verify with."
WITH = "Add a part that an encoder does without unless asked. Repeatable."
EXTRA = "Of float factors beside each rounded weight of an encoder; costs time, helps int4."
QUANTIZE = "The device's unless edge-lra.toml says; int8 without a device."
MODEL = "Folder, hub id, pypi:package/folder, or your own package.module:factory."
ADAPTER = "Repeatable; with --merge the weighted changes are summed."


@click.command()
@click.option("--model", help=MODEL)
@click.option("--adapter", "adapters", multiple=True, metavar="[NAME=]PATH[:WEIGHT]", help=ADAPTER)
@click.option("--merge/--factored", default=True, help="Fold the adapter in, or keep factors.")
@click.option("--quantize", type=TableChoice(_schemes), help=QUANTIZE)
@click.option("--keep-float", multiple=True, metavar="PATTERN", help=KEEP_FLOAT)
@click.option("--plan", type=click.Path(path_type=Path), metavar="F", help=PLAN)
@click.option("--without", multiple=True, type=TableChoice(remedy_names), help=WITHOUT)
@click.option("--with", "with_", multiple=True, type=TableChoice(_optional), help=WITH)
@click.option("--extra-rank", type=click.IntRange(min=1), metavar="N", help=EXTRA)
@click.option("--device", metavar="D", help="Where it will run; chooses the scheme.")
@click.option("--task", type=TableChoice(task_names), help="What the model is exported for.")
@click.option("--sites", type=TableChoice(_sites), default="adapter", help="Linears with factors.")
@click.option("--context", type=click.IntRange(min=1), metavar="TOKENS", help=CONTEXT)
@click.option("--adapter-dtype", type=TableChoice(_dtypes), default="fp32", help=ADAPTER_DTYPE)
@click.option("--labels", help="Names of the outputs, separated by commas.")
@click.option("--data", type=click.Path(path_type=Path), help=DATA)
@verify_tokens_option
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder.")
@click.option("--force", is_flag=True, help="Replace something that is no bundle.")
@click.option("--no-verify", is_flag=True, help="Write without holding it against float.")
@shared_options
def export(json_to: str | None, **options: Any) -> None:
    """Write a bundle and prove it against the float model."""
    from edge_lra.bundle import load_manifest
    from edge_lra.config import load_config

    folder = Path.cwd()
    config = load_config(folder)
    planned = choose_plan(config, options) is not None
    choice = choose_scheme(options["quantize"], config, options["device"], planned)
    request = make_request(config, options, choice)
    quiet_libraries()
    from edge_lra.pipeline import export as export_bundle

    with progress_bar() as progress:
        bundle = export_bundle(request, progress)
    remember_bundle(bundle, folder)
    manifest = load_manifest(bundle)
    document = {"schema_version": 1, "bundle": str(bundle), "manifest": manifest}
    if write_json(document, json_to):
        show(bundle, manifest)
        choice.show()


@dataclass(frozen=True)
class Choice:
    """A scheme, who chose it, and the device it is for."""

    scheme: str
    chosen_by: str
    device: Device | None = None

    def show(self) -> None:
        """Print which scheme was picked for the device and why; nothing without a device."""
        if self.device is None:
            return
        suits = self.scheme == self.device.scheme
        reason = self.device.scheme_reason if suits else f"{self.device.scheme} would suit it"
        click.echo(f"For {self.device.title}: {self.scheme}, by {self.chosen_by}: {reason}")


def choose_scheme(
    flag: str | None, config: Config, device_flag: str | None = None, planned: bool = False
) -> Choice:
    """Choose by the flag, else by edge-lra.toml, else by a plan, else by the device, else int8.

    Warns of a scheme that was asked for and does not suit the device.
    """
    from edge_lra.device import load_device

    name = device_flag or config.device
    device = load_device(name, config.devices) if name else None
    asked, chosen_by = (flag, "--quantize") if flag else (config.quantize, "edge-lra.toml")
    if asked is None and planned:
        return Choice("int8", "the plan", device)
    if asked is None:
        asked, chosen_by = (device.scheme, "the device") if device else ("int8", "default")
    if device and asked != device.scheme:
        logger.warning(
            "%s: %s was asked for by %s; %s suits it: %s",
            *(device.title, asked, chosen_by, device.scheme, device.scheme_reason),
        )
    return Choice(asked, chosen_by, device)


def choose_plan(config: Config, options: dict[str, Any]) -> Path | None:
    """Return the flag's plan, or the project's unless flags say themselves what linears become."""
    own = options["quantize"] or options["keep_float"]
    return options["plan"] or (None if own else config.plan)


def make_request(config: Config, options: dict[str, Any], choice: Choice) -> ExportRequest:
    """Join flags, settings and defaults, in this order of weight."""
    from edge_lra.forms.plan import read_plan
    from edge_lra.inputs import ExportRequest

    split = [split_weight(value) for value in options["adapters"]]
    adapters: list[tuple[str | None, str]] = [split_adapter(value) for value, _ in split]
    weights = [weight for _, weight in split]
    if not adapters:
        adapters = [(entry.name, entry.path) for entry in config.adapters]
        weights = [entry.weight for entry in config.adapters]
    labels = options["labels"].split(",") if options["labels"] else config.labels
    model = options["model"] or config.model
    name = config.name or default_name(adapters, model)
    plan = choose_plan(config, options)
    suffix = ".edge" if options["merge"] else "-factored.edge"
    return ExportRequest(
        out=options["out"] or Path(name + suffix),
        model=model,
        adapters=adapters,
        weights=weights,
        mode="merge" if options["merge"] else "factored",
        scheme=choice.scheme,
        keep_float=options["keep_float"] or (() if options["plan"] else config.keep_float),
        plan=read_plan(plan) if plan else None,
        without=options["without"] or config.without,
        with_=options["with_"] or config.with_,
        extra_rank=options["extra_rank"] or config.extra_rank,
        device=choice.device.name if choice.device else None,
        task=options["task"] or config.task,
        labels=labels,
        context=options["context"],
        adapter_dtype=options["adapter_dtype"],
        data=options["data"] or config.data,
        verify_tokens=options["verify_tokens"] or config.verify_tokens,
        name=config.name,
        sites=options["sites"],
        gates=config.gates,
        force=options["force"],
        verify=not options["no_verify"],
    )


def split_adapter(value: str) -> tuple[str | None, str]:
    """Split `NAME=PATH`; a folder that holds a `=` in its name is a path."""
    name, found, path = value.partition("=")
    return (name, path) if found and not Path(value).exists() else (None, value)


def split_weight(value: str) -> tuple[str, float]:
    """Split `PATH:WEIGHT`; a folder of that name is a path."""
    path, _, weight = value.rpartition(":")
    named = value.partition("=")[2]
    if not path or Path(value).exists() or (named and Path(named).exists()):
        return value, 1.0
    try:
        return path, float(weight)
    except ValueError:
        return value, 1.0


def default_name(adapters: Sequence[tuple[str | None, str]], model: str | None) -> str:
    """Return the first adapter's name, or the last part of the model's or its module's."""
    from edge_lra.config import FACTORY

    if adapters:
        return adapters[0][0] or Path(adapters[0][1]).resolve().name
    if model and FACTORY.fullmatch(model) and not model.startswith("pypi:"):
        return model.partition(":")[0].rpartition(".")[2]
    return Path(model or "model").name or "model"


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Yield a progress callback that draws on a terminal; None in a pipe."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def step(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage)
            bar.update(tasks[stage], completed=done, total=total)

        yield step


def show(bundle: Path, manifest: dict[str, Any]) -> None:
    """Print where the bundle is, how large, and how close to the float model."""
    from rich.console import Console

    from edge_lra.cli.fidelity import fidelity_view

    size = sum(entry["size"] for entry in manifest["files"].values()) / 2**20
    console = Console()
    console.print(
        f"{bundle}: {manifest['task']}, {manifest['mode']}, {manifest['scheme']}, {size:.1f} MiB",
        highlight=False,
        markup=False,
    )
    if manifest["adapter_inputs"]:
        console.print("Factored: it runs in edge-lra's runners only.")
    calibration = manifest["calibration"]
    if calibration and calibration["texts"]:
        count, source = calibration["texts"], calibration["source"]
        console.print(f"Calibrated with {count} texts, {source}", highlight=False, markup=False)
    if manifest["plan"]:
        forms = [f"{len(names)} {form}" for form, names in manifest["plan"]["forms"].items()]
        console.print(f"Linears by the plan: {', '.join(forms)}", highlight=False)
    survival = (manifest["merged"] or {}).get("delta_survival")
    if survival:
        console.print(
            f"{100 * survival['median']:.1f} % of the adapter's change is left in rounded weights "
            f"({100 * survival['min']:.1f} % in the worst of them)",
            highlight=False,
        )
    if manifest["fidelity"]:
        console.print(fidelity_view(manifest["fidelity"]))
    else:
        console.print("Not verified against the float model.")
