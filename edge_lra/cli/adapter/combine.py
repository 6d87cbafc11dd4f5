"""`edge-lra adapter combine`: one adapter from several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.adapter.output import folder_bytes, megabytes, out_options, site_table, spread
from edge_lra.cli.common import TableChoice, shared_options, write_json
from edge_lra.cli.export import split_weight
from edge_lra.errors import EdgeError

if TYPE_CHECKING:
    from edge_lra.adapters.lora_file import LoraFile
    from edge_lra.adapters.saved import Array

COLUMNS = {"rank": ("rank", "d"), "error": ("off the exact sum", ".3f")}


def _methods() -> Sequence[str]:
    from edge_lra.adapters.algebra.combine import METHODS

    return list(METHODS)


@click.command()
@click.argument("adapters", metavar="A[:WEIGHT] B[:WEIGHT]...", nargs=-1, required=True)
@click.option("--method", type=TableChoice(_methods), default="cat", help="cat is exact.")
@click.option("--rank", type=click.IntRange(min=1), help="Of svd, ties, dare: the largest.")
@click.option("--density", type=click.FloatRange(0, 1, min_open=True), default=0.5, help="0.5.")
@click.option("--seed", type=int, default=0, help="Of dare.")
@click.option("--heads", type=click.Choice(["same", "mean"]), default="same", help="Of heads.")
@out_options
@shared_options
def combine(
    adapters: tuple[str, ...],
    method: str,
    rank: int | None,
    density: float,
    seed: int,
    heads: str,
    out: Path,
    force: bool,
    json_to: str | None,
) -> None:
    """Write the weighted sum of adapters: exactly (cat), or by a method that is not."""
    from edge_lra.adapters.algebra.combine import Settings
    from edge_lra.adapters.algebra.combine import combine as run
    from edge_lra.adapters.lora_file import open_lora
    from edge_lra.adapters.write import adapter_folder, write_peft
    from edge_lra.places import resolve_adapter

    split = [split_weight(value) for value in adapters]
    files = [open_lora(resolve_adapter(path)) for path, _ in split]
    weights = [weight for _, weight in split]
    if not all(math.isfinite(weight) and weight for weight in weights):
        raise EdgeError(f"weights: found {weights}, expected finite numbers that are not 0")
    check_bases(files, force)
    check_modules(files)
    check_ranks(files, method)
    labels = join_labels(files)
    largest = max(len(f.sites[module].down) for f in files for module in f.sites)
    with adapter_folder(out, force, [f.saved.path for f in files]) as folder:
        whole = join_whole(files, weights, heads)
        pairs = [(weight, f.sites) for weight, f in zip(weights, files, strict=True)]
        sites, errors = run(pairs, method, Settings(rank or largest, density, seed))
        write_peft(folder, files[0].saved.config, sites, whole, labels)
    document: dict[str, Any] = {
        "schema_version": 1,
        "adapters": [
            {"path": str(f.saved.path), "weight": w} for f, w in zip(files, weights, strict=True)
        ],
        "method": method,
        "out": str(out),
        "bytes": folder_bytes(out),
        "sites": [
            {"module": module, "rank": len(site.down), "error": errors[module]}
            for module, site in sites.items()
        ],
    }
    if write_json(document, json_to):
        show(document)


def check_bases(files: Sequence[LoraFile], force: bool) -> None:
    """Refuse adapters of different bases."""
    bases = {str(f.saved.config.get("base_model_name_or_path")) for f in files}
    if len(bases) > 1 and not force:
        raise EdgeError(
            f"adapters: found bases {', '.join(sorted(bases))}, expected one; "
            "use --force if they are the same"
        )
    stored = {bool(f.saved.config.get("fan_in_fan_out")) for f in files}
    if len(stored) > 1:
        raise EdgeError("adapters: found fan_in_fan_out true and false, expected one of them")


def check_modules(files: Sequence[LoraFile]) -> None:
    """Refuse adapters of which one names the same modules with a prefix, and one without."""
    modules = {module: f.saved.path for f in files for module in f.sites}
    for module, path in sorted(modules.items()):
        bare = module.partition(".")[2]
        if bare in modules and modules[bare] != path:
            raise EdgeError(
                f"adapters: found {module} in {path} and {bare} in {modules[bare]}, expected "
                "modules of one model class; load one in the other's class and save it again"
            )


def check_ranks(files: Sequence[LoraFile], method: str) -> None:
    """Refuse `linear` for sites whose ranks differ: factors of two shapes have no sum."""
    if method != "linear":
        return
    for module in {module for f in files for module in f.sites}:
        ranks = {len(f.sites[module].down) for f in files if module in f.sites}
        if len(ranks) > 1:
            raise EdgeError(
                f"{module}: found ranks {sorted(ranks)}, expected one for --method linear; use cat"
            )


def join_labels(files: Sequence[LoraFile]) -> tuple[str, ...] | None:
    """Return the names of the outputs, where an adapter brings them.

    Raises:
        EdgeError: two adapters name them differently.
    """
    known = list(dict.fromkeys(f.labels for f in files if f.labels))
    if len(known) > 1:
        found = " and ".join(", ".join(labels) for labels in known)
        raise EdgeError(
            f"labels.json: found {found} in the adapters, expected the same outputs in the same "
            "order; combine adapters of one task"
        )
    return known[0] if known else None


def join_whole(files: Sequence[LoraFile], weights: Sequence[float], heads: str) -> dict[str, Array]:
    """Return the whole tensors: those of one adapter, equal ones, or on request their mean.

    Raises:
        EdgeError: two adapters bring different ones.
    """
    import numpy as np

    found: dict[str, Array] = {}
    for name in sorted({name for f in files for name in f.whole}):
        owned = [(w, f.whole[name]) for w, f in zip(weights, files, strict=True) if name in f.whole]
        values = [value for _, value in owned]
        if all(np.array_equal(values[0], value) for value in values):
            found[name] = values[0]
        elif heads == "same" or len({value.shape for value in values}) > 1:
            shapes = " and ".join(str(value.shape) for value in values)
            raise EdgeError(
                f"{name}: found different ones {shapes} in the adapters, expected equal ones; "
                "use --heads mean for tensors of one shape and meaning"
            )
        else:
            total = sum(abs(w) for w, _ in owned)
            mean = sum(abs(w) / total * value.astype(np.float64) for w, value in owned)
            found[name] = np.asarray(mean, np.float32)
    return found


def show(document: dict[str, Any]) -> None:
    """Print the sites, the size, and how far from the exact sum the result is."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(site_table(document["sites"], COLUMNS))
    median, worst = spread([site["error"] for site in document["sites"]])
    exact = "the exact sum"
    if worst:
        exact += f" to {100 * median:.1f} % (median), {100 * worst:.1f} % (worst site)"
    console.print(
        f"{document['out']}: {document['method']}, {megabytes(document['bytes'])}, {exact}",
        markup=False,
    )
