"""`edge-lra verify`: is the bundle still what was exported?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_lra.cli.common import (
    bundle_argument,
    find_bundle,
    shared_options,
    verify_tokens_option,
    write_json,
)
from edge_lra.errors import EdgeError, GateError

if TYPE_CHECKING:
    from edge_lra.inputs import ExportRequest, Progress
    from edge_lra.products.run import Exactness


@click.command()
@bundle_argument
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Hold it against the float model on this text; needs the project's edge-lra.toml.",
)
@verify_tokens_option
@shared_options
def verify(
    bundle: Path | None, data: Path | None, verify_tokens: int | None, json_to: str | None
) -> None:
    """Hash every file, run the int8 products and the golden cases; with --data, the float model.

    It then says where the error comes from: by layer, by source, and the worst products.
    """
    from rich.console import Console

    from edge_lra.bundle import check_files, load_manifest
    from edge_lra.cli.attribution import show_sources
    from edge_lra.cli.export import progress_bar
    from edge_lra.cli.fidelity import fidelity_view
    from edge_lra.golden import check_golden
    from edge_lra.products.run import check_products

    path = find_bundle(bundle, Path.cwd())
    manifest = load_manifest(path)
    check_files(path, manifest, "always")
    products = check_products(path, manifest)
    golden = check_golden(path, manifest)
    fidelity, sources, skipped = None, None, None
    if data:
        request = request_again(path, manifest, data, verify_tokens)
        with progress_bar() as progress:
            fidelity, sources, skipped = hold(path, request, json_to != "-", progress)
    document = {
        "schema_version": 1,
        "bundle": str(path),
        "products": products and products.as_dict(),
        "golden": golden,
        "fidelity": fidelity,
        "sources": sources,
        "sources_skipped": skipped,
    }
    if write_json(document, json_to):
        click.echo(f"{path}: every file is whole")
        click.echo(products_line(products, manifest))
        click.echo(golden_line(golden))
        if fidelity:
            Console().print(fidelity_view(fidelity))
            show_sources(sources, skipped, fidelity, Console())


def products_line(products: Exactness | None, manifest: dict[str, Any]) -> str:
    """Return whether the integer products are exact on this processor."""
    from edge_lra.runner.external import ORT_GRAPH

    if products is None:
        twin = ORT_GRAPH in manifest["files"] or manifest.get("prepacked")
        remedy = "verify the bundle it was made from" if twin else "export it again"
        return f"int8 products: their exact integers are not carried; {remedy}"
    if not products.count:
        return "int8 products: none, nothing can saturate"
    return f"int8 products: {products.count} of {products.count} exact on {products.processor}"


def golden_line(golden: dict[str, Any]) -> str:
    """Return what the golden cases showed."""
    if not golden["cases"]:
        return "No golden cases: it was exported without verification."
    cases = "1 golden case" if golden["cases"] == 1 else f"{golden['cases']} golden cases"
    return (
        f"{cases}: within {golden['max_abs_error']:.2g} of the outputs at export, "
        f"{golden['max_abs_error_float']:.2g} of the float model's"
    )


def request_again(
    bundle: Path, manifest: dict[str, Any], data: Path, verify_tokens: int | None = None
) -> ExportRequest:
    """Return what the project exports as this bundle, with other text to verify with.

    Raises:
        EdgeError: the folder has no project.
    """
    from edge_lra.calibration import calibrated_with
    from edge_lra.config import CONFIG, load_config
    from edge_lra.forms.plan import parse_plan
    from edge_lra.inputs import ExportRequest
    from edge_lra.quiet import quiet_libraries

    quiet_libraries()
    config = load_config(Path.cwd())
    if config.model is None and not config.adapters:
        raise EdgeError(f"{CONFIG}: found no model here, expected the project's; --data needs it")
    plan = manifest.get("plan")
    return ExportRequest(
        out=bundle,
        model=config.model,
        adapters=[(entry.name, entry.path) for entry in config.adapters],
        weights=[entry.weight for entry in config.adapters],
        mode="factored" if manifest["mode"] == "factored" else "merge",
        scheme=manifest["scheme"],
        keep_float=manifest["float_sites"],
        plan=parse_plan(plan, f"{bundle}: plan") if plan else None,
        task=manifest["task"],
        labels=manifest["labels"],
        without=manifest.get("without", []),
        with_=manifest.get("with", []),
        extra_rank=manifest.get("extra_rank", 0),
        data=data if calibrated_with(manifest, data) else config.data,
        verify_data=data,
        verify_tokens=verify_tokens or config.verify_tokens,
        gates=config.gates,
    )


def hold(
    bundle: Path, request: ExportRequest, show_failure: bool, progress: Progress | None
) -> tuple[dict[str, Any], dict[str, Any] | None, str | None]:
    """Return the proof, where the error comes from, and why that cannot be said.

    Args:
        bundle: the bundle's folder.
        request: what gives it again.
        show_failure: where a gate fails, print where the error comes from first.
        progress: is told how far the proof is.

    Raises:
        EdgeError: the project names other adapters than the bundle.
        GateError: a gate failed.
    """
    from rich.console import Console

    from edge_lra.cli.attribution import show_sources

    try:
        fidelity = prove_again(bundle, request, progress)
    except GateError:
        if show_failure:
            show_sources(*take_apart(bundle, request), None, Console())
        raise
    return fidelity, *take_apart(bundle, request)


def prove_again(
    bundle: Path, request: ExportRequest, progress: Progress | None = None
) -> dict[str, Any]:
    """Hold a bundle against the project's float model on other text.

    Raises:
        EdgeError: the project names other adapters than the bundle.
        GateError: a gate failed.
    """
    from edge_lra.inputs import read_inputs
    from edge_lra.proof import prove, summary
    from edge_lra.traced import proof as traced
    from edge_lra.traced.route import needs_trace

    if needs_trace(request):
        return summary(traced.prove_again(bundle, request, progress))
    return summary(prove(bundle, read_inputs(request), request, progress))


def take_apart(bundle: Path, request: ExportRequest) -> tuple[dict[str, Any] | None, str | None]:
    """Return where the bundle's error comes from, or why that cannot be said."""
    from edge_lra.attribution.report import attribute
    from edge_lra.attribution.sites import NotCoveredError

    try:
        return attribute(bundle, request).as_dict(), None
    except NotCoveredError as why:
        return None, str(why)
