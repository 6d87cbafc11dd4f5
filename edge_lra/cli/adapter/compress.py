"""`edge-lra adapter compress`: the same adapter at lower ranks."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.adapter.output import folder_bytes, megabytes, out_options, site_table
from edge_lra.cli.common import shared_options, write_json
from edge_lra.errors import EdgeError
from edge_lra.quiet import quiet_libraries

if TYPE_CHECKING:
    from edge_lra.adapters.algebra.compress import Roots, Site
    from edge_lra.adapters.lora_file import LoraFile

LIMITS = "size=SHARE%|BYTES[KB|MB] or accuracy_drop=POINTS (needs labelled --data)."
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "B": 1.0, "": 1.0}
COLUMNS = {
    "old_rank": ("rank", "d"),
    "rank": ("new", "d"),
    "kept_energy": ("kept energy", ".3f"),
    "error": ("error", ".3f"),
}


@click.command()
@click.argument("adapter", metavar="A")
@click.option("--rank", type=click.IntRange(min=1), help="Every site's rank at most.")
@click.option("--energy", type=click.FloatRange(0, 1, min_open=True), help="Share each site keeps.")
@click.option("--limit", metavar="KEY=VALUE", help=LIMITS)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Text: weighs errors by what it reads."
)
@click.option("--model", help="The adapter's base, for --data; the one it names by default.")
@click.option("--labels", help="Names of its outputs in order, separated by commas.")
@out_options
@shared_options
def compress(adapter: str, out: Path, force: bool, json_to: str | None, **options: Any) -> None:
    """Lower an adapter's ranks by SVD: to a rank, a share of energy, a size, or an accuracy."""
    from edge_lra.adapters.algebra.compress import report, spectra, truncate
    from edge_lra.adapters.lora_file import open_lora
    from edge_lra.adapters.write import adapter_folder, write_peft
    from edge_lra.places import resolve_adapter

    limit = read_request(options)
    quiet_libraries()
    source = resolve_adapter(adapter)
    lora = open_lora(source)
    with adapter_folder(out, force, [source]) as folder:
        roots = weighting(lora, options)
        sites = spectra(lora.sites, roots)
        ranks, accuracy = choose(lora, sites, limit, options, roots)
        if not any(ranks.values()):
            raise EdgeError(
                f"{source}: found no room for any component, expected a limit that leaves one; "
                "raise it"
            )
        kept = truncate(lora.sites, ranks, roots)
        write_peft(folder, lora.saved.config, kept, lora.whole, lora.labels)
    files = {lora.saved.config_file, lora.saved.file}  # a trainer's folder holds much else
    document = {
        "schema_version": 1,
        "adapter": str(source),
        "out": str(out),
        "bytes_before": sum(file.stat().st_size for file in files if file.is_file()),
        "bytes_after": folder_bytes(out),
        "sites": [asdict(entry) for entry in report(sites, ranks)],
        "accuracy": accuracy,
    }
    if write_json(document, json_to):
        show(document)


def read_request(options: dict[str, Any]) -> tuple[str, float]:
    """Return which of rank, energy, share, bytes or accuracy_drop is asked for, and its value."""
    given = [key for key in ("rank", "energy", "limit") if options[key] is not None]
    if len(given) != 1:
        raise click.UsageError("give one of --rank, --energy and --limit")
    if given[0] != "limit":
        return given[0], float(options[given[0]])
    key, _, value = options["limit"].partition("=")
    try:
        if key == "accuracy_drop" and float(value) >= 0:
            if options["data"] is None:
                raise click.UsageError("--limit accuracy_drop needs labelled --data")
            return key, float(value)
        if key == "size" and value.endswith("%") and 0 < float(value[:-1]) <= 100:
            return "share", float(value[:-1]) / 100
        unit = next(unit for unit in UNITS if value.upper().endswith(unit))
        if key == "size" and float(value[: len(value) - len(unit)]) > 0:
            return "bytes", float(value[: len(value) - len(unit)]) * UNITS[unit]
    except ValueError:
        pass
    raise click.BadParameter(f"{options['limit']!r} is not {LIMITS}", param_hint="--limit")


def weighting(lora: LoraFile, options: dict[str, Any]) -> Roots | None:
    """Return what the sites read, where there is text."""
    if options["data"] is None:
        return None
    from edge_lra.adapters.algebra.weighting import input_roots
    from edge_lra.places import resolve_model
    from edge_lra.texts import read_texts

    texts = [row.text for row in read_texts(options["data"])][:256]
    return input_roots(resolve_model(base_of(lora, options)), list(lora.sites), texts)


def base_of(lora: LoraFile, options: dict[str, Any]) -> str:
    """Return the base that is asked for, the project's, or the one that the adapter names."""
    from edge_lra.config import load_config

    project = load_config(Path.cwd()).model
    base = options["model"] or project or lora.saved.config.get("base_model_name_or_path")
    if not base:
        raise EdgeError(
            f"{lora.saved.config_file}: found no base model, expected one; give --model"
        )
    return str(base)


def choose(
    lora: LoraFile,
    sites: list[Site],
    limit: tuple[str, float],
    options: dict[str, Any],
    roots: Roots | None,
) -> tuple[dict[str, int], dict[str, float] | None]:
    """Return the ranks that a request comes to, and the accuracies it measured."""
    from edge_lra.adapters.algebra.compress import to_bytes, to_energy, to_rank

    kind, value = limit
    if kind == "rank":
        return to_rank(sites, int(value)), None
    if kind == "energy":
        return to_energy(sites, value), None
    if kind == "accuracy_drop":
        return fit(lora, sites, value, options, roots)
    whole = sum(4 * values.size for values in lora.whole.values())
    factors = sum(site.step_bytes * site.rank for site in sites)
    budget = value * (factors + whole) if kind == "share" else value
    return to_bytes(sites, int(budget - whole)), None


def fit(
    lora: LoraFile, sites: list[Site], drop: float, options: dict[str, Any], roots: Roots | None
) -> tuple[dict[str, int], dict[str, float]]:
    """Return the smallest ranks that stay within a drop of accuracy."""
    from edge_lra.adapters.algebra.accuracy import Accuracy
    from edge_lra.adapters.algebra.compress import fit_accuracy, truncate
    from edge_lra.texts import read_texts

    rows = read_texts(options["data"])
    if 100 / len(rows) > drop:
        click.echo(
            f"Note: one of {len(rows)} rows is {100 / len(rows):.2f} points, more than the "
            f"{drop:g} allowed; more rows would tell apart what these cannot.",
            err=True,
        )
    labels = options["labels"].split(",") if options["labels"] else None
    with tempfile.TemporaryDirectory() as folder:
        measure = Accuracy(Path(folder), lora.saved.path, base_of(lora, options), rows, labels)
        original = measure.original()

        def accuracy(ranks: dict[str, int]) -> float:
            kept = truncate(lora.sites, ranks, roots)
            return measure.candidate(lora.saved.config, kept, lora.whole)

        ranks, found = fit_accuracy(sites, accuracy, original - drop)
    return ranks, {"original": original, "compressed": found, "rows": len(rows)}


def show(document: dict[str, Any]) -> None:
    """Print the sites and the sizes."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(site_table(document["sites"], COLUMNS))
    before, after = document["bytes_before"], document["bytes_after"]
    console.print(
        f"{document['out']}: {megabytes(after)}, {100 * after / before:.0f} % of "
        f"{megabytes(before)}",
        markup=False,
    )
    if accuracy := document["accuracy"]:
        console.print(
            f"accuracy {accuracy['compressed']:.2f} % of {accuracy['rows']} rows, the original's "
            f"{accuracy['original']:.2f} %"
        )
