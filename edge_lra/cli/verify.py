"""`edge-lra verify`: is the bundle still what was exported?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_lra.cli.common import (
    bundle_argument,
    find_bundle,
    shared_options,
    verify_tokens_option,
    write_json,
)
from edge_lra.errors import EdgeError


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
    """Hash every file and run the golden cases; with --data, the float model too."""
    from rich.console import Console

    from edge_lra.bundle import check_files, load_manifest
    from edge_lra.cli.fidelity import fidelity_table
    from edge_lra.golden import check_golden

    path = find_bundle(bundle, Path.cwd())
    manifest = load_manifest(path)
    check_files(path, manifest, "always")
    golden = check_golden(path, manifest)
    fidelity = prove_again(path, data, verify_tokens) if data else None
    document = {"schema_version": 1, "bundle": str(path), "golden": golden, "fidelity": fidelity}
    if write_json(document, json_to):
        click.echo(f"{path}: every file is whole")
        click.echo(golden_line(golden))
        if fidelity:
            Console().print(fidelity_table(fidelity))


def golden_line(golden: dict[str, Any]) -> str:
    """Return what the golden cases showed."""
    if not golden["cases"]:
        return "No golden cases: it was exported without verification."
    cases = "1 golden case" if golden["cases"] == 1 else f"{golden['cases']} golden cases"
    return (
        f"{cases}: within {golden['max_abs_error']:.2g} of the outputs at export, "
        f"{golden['max_abs_error_float']:.2g} of the float model's"
    )


def prove_again(bundle: Path, data: Path, verify_tokens: int | None = None) -> dict[str, Any]:
    """Hold a bundle against the project's float model on other text.

    Raises:
        EdgeError: the folder has no project, or it names other adapters than the bundle.
        GateError: a gate failed.
    """
    from edge_lra.bundle import load_manifest
    from edge_lra.config import CONFIG, load_config
    from edge_lra.quiet import quiet_libraries

    quiet_libraries()
    from edge_lra.inputs import ExportRequest, read_inputs
    from edge_lra.proof import prove, summary
    from edge_lra.traced import proof as traced
    from edge_lra.traced.route import needs_trace

    config = load_config(Path.cwd())
    if config.model is None and not config.adapters:
        raise EdgeError(f"{CONFIG}: found no model here, expected the project's; --data needs it")
    manifest = load_manifest(bundle)
    request = ExportRequest(
        out=bundle,
        model=config.model,
        adapters=[(entry.name, entry.path) for entry in config.adapters],
        mode="factored" if manifest["mode"] == "factored" else "merge",
        scheme=manifest["scheme"],
        keep_float=manifest["float_sites"],
        task=manifest["task"],
        labels=manifest["labels"],
        without=manifest.get("without", []),
        data=data,
        calibration=config.data,
        verify_tokens=verify_tokens or config.verify_tokens,
        gates=config.gates,
    )
    if needs_trace(request):
        return summary(traced.prove_again(bundle, request))
    return summary(prove(bundle, read_inputs(request), request, None))
