"""What plans give and cost: MiniLM's forms under limits of error, beside int8 and float32.

The sample adapter merged, hidden states of held-out reviews: the error that a plan expects and the
one that the bundle has, milliseconds in turns, bytes.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import engines
import fidelity
import float_model
import numpy as np
import timing
from remedies import CALIBRATION_ROWS, pooled_errors
from report import table
from reviews import held_out, training, write

from edge_lra.forms.make import plan_forms
from edge_lra.pipeline import ExportRequest, export
from edge_lra.transport import Local

LIMITS: dict[str, dict[str, float]] = {
    "int8": {},
    "error=0.04": {"error": 0.04},
    "error=0.03": {"error": 0.03},
    "error=0.02": {"error": 0.02},
    "error=0.01": {"error": 0.01},
    "time=1.2": {"time": 1.2},
}


def hidden_error(bundle: Path, texts: list[Any], expected: list[np.ndarray]) -> float:
    """Return the relative L2 error of all texts' hidden states."""
    run = engines.open_edge(bundle, 1)
    pairs = [(run(tokens)[0], states) for tokens, states in zip(texts, expected, strict=True)]
    lost = sum(float(((found - states) ** 2).sum()) for found, states in pairs)
    return float(np.sqrt(lost / sum(float((states**2).sum()) for _, states in pairs)))


def least_ms(bundles: dict[str, Path], runs: int) -> dict[str, float]:
    """Return the least processor time of each bundle at 1x128, run in turns."""
    opened = {name: engines.open_edge(bundle, 1) for name, bundle in bundles.items()}
    batch = engines.random_tokens([128])
    least = dict.fromkeys(opened, float("inf"))
    for turn in range(runs):
        for name, run in list(opened.items())[:: 1 if turn % 2 else -1]:
            start = time.thread_time()
            run(batch)
            least[name] = min(least[name], 1e3 * (time.thread_time() - start))
    return least


@click.command()
@click.option("--texts", default=320, show_default=True, help="Held-out reviews to compare.")
@click.option("--runs", default=60, show_default=True, help="Timed runs of each at 1x128.")
def main(texts: int, runs: int) -> None:
    """Plan, export and measure; print the table."""
    tokens = float_model.tokenize([row.text for row in held_out()[:texts]])
    expected = fidelity.float_states(float_model.merged_classifier().bert, tokens)
    rows, bundles, plans = [], dict[str, Path](), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = folder / "reviews.tsv"
        write(data, training()[:CALIBRATION_ROWS])
        for name, limits in {**LIMITS, "float32": None}.items():
            options: dict[str, Any] = {"scheme": "none"} if limits is None else {"data": data}
            request = ExportRequest(
                folder / f"{len(bundles)}.edge",
                model=float_model.MODEL,
                adapters=[("sentiment", float_model.ADAPTER)],
                task="feature-extraction",
                verify=False,
                **options,
            )
            if limits is not None:
                plans[name] = plan_forms(request, Local(), limits).plan
                request = replace(request, plan=plans[name])
            bundles[name] = export(request)
        times = least_ms(bundles, runs)
        for name, bundle in bundles.items():
            plan = plans.get(name)
            told = plan.expected if plan else {"error": 0.0, "time": float("nan")}
            others = {form: len(names) for form, names in plan.by_form.items()} if plan else {}
            rows.append(
                [
                    name,
                    str(others.get("int8-weight-only", "")),
                    str(others.get("float32", "")),
                    f"{told['error']:.4f}",
                    f"{hidden_error(bundle, tokens, expected):.4f}",
                    f"{1e4 * pooled_errors(bundle, tokens, expected).mean():.2f}",
                    f"{told['time']:.2f}",
                    f"{times[name]:.2f}",
                    f"{sum(f.stat().st_size for f in bundle.glob('model.onnx*')) / 1e6:.1f}",
                ]
            )
    headings = ["limit", "blocks", "float32", "expected", "error", "mean 1e-4", "time", "ms", "MB"]
    cpu = timing.describe_cpu()
    print(table(f"{cpu['name']}, VNNI {cpu['vnni']}, 1 thread", headings, rows))


if __name__ == "__main__":
    main()
