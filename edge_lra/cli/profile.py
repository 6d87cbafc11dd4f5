"""`edge-lra profile`: latency, memory and operators of a bundle on this machine."""

from __future__ import annotations

import re
from pathlib import Path

import click

from edge_lra.cli.common import (
    ShapeBase,
    bundle_argument,
    find_bundle,
    read_limits,
    shared_options,
    write_json,
)


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


@click.command()
@bundle_argument
@click.option(
    "--shape", "shapes", type=ShapeType(), multiple=True, metavar="1x128", help="Texts x tokens."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), help="As many as the median needs.")
@click.option("--against", type=click.Path(path_type=Path), metavar="B2", help="Run in turns.")
@click.option("--adapter", help="Of a factored bundle; its default otherwise.")
@click.option("--limit", "limits", multiple=True, metavar="KEY=VALUE", help="p50_ms=50; exit 3.")
@shared_options
def profile(
    bundle: Path | None,
    shapes: tuple[tuple[int, int], ...],
    threads: int,
    runs: int | None,
    against: Path | None,
    adapter: str | None,
    limits: tuple[str, ...],
    json_to: str | None,
) -> None:
    """Measure a bundle here, in a process of its own."""
    from rich.console import Console

    from edge_lra.config import load_config
    from edge_lra.profile import measure, render
    from edge_lra.profile.result import check_limits

    given = read_limits(limits)
    config = load_config(Path.cwd())
    found = measure(
        find_bundle(bundle, config.folder),
        shapes or None,
        threads=threads,
        runs=runs,
        against=against,
        adapter=adapter,
    )
    if write_json(found.to_json(), json_to):
        render(found, Console())
    check_limits(found.entries[0], {**config.limits, **given})
