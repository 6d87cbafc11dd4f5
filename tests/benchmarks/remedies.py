"""What each remedy against the error of integers gives and costs: all of them, and each left out.

MiniLM with the sample adapter merged, int8 and int4, hidden states: cosine of mean-pooled
embeddings with float, milliseconds in turns, bytes and the export's seconds.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import engines
import fidelity
import float_model
import numpy as np
import timing
from report import table
from reviews import held_out, training, write

from edge_lra.pipeline import ExportRequest, export
from edge_lra.quantize.remedies import REMEDIES

TARGET_TEXTS = 64  # that the project's targets are on; more of them say more
CALIBRATION_ROWS = 256  # half of them calibrate
INT4 = ("gptq", "mixed-bits")  # what int4 has a use for
INT8 = tuple(name for name in REMEDIES if name != "mixed-bits")


def variants(data: Path) -> dict[str, dict[str, Any]]:
    """Return the options of each export by its title."""
    found: dict[str, dict[str, Any]] = {
        "all, with text": {"data": data},
        "all, built-in text": {},
        "none": {"without": REMEDIES},
    }
    found |= {f"text, without {name}": {"data": data, "without": [name]} for name in INT8}
    found |= {
        f"built-in, without {name}": {"without": [name]}
        for name in INT8
        if name != "static-scales"  # they are for the user's text alone
    }
    int4 = {"data": data, "scheme": "int4"}
    found |= {"int4, all": int4, "int4, none": int4 | {"without": INT4}}
    return found | {f"int4, without {name}": int4 | {"without": [name]} for name in INT4}


def make(folder: Path, options: dict[str, Any]) -> tuple[Path, float]:
    """Export the hidden states; return the bundle and the seconds it took."""
    request = ExportRequest(
        folder / f"{len(list(folder.iterdir()))}.edge",
        model=float_model.MODEL,
        adapters=[("sentiment", float_model.ADAPTER)],
        task="feature-extraction",
        verify=False,
        **options,
    )
    start = time.process_time()
    return export(request), time.process_time() - start


def pooled_errors(bundle: Path, texts: list[Any], expected: list[np.ndarray]) -> np.ndarray:
    """Return 1 - cosine of each text's mean-pooled hidden states with float's."""
    run = engines.open_edge(bundle, 1)
    found = np.stack([run(tokens)[0].mean(axis=0) for tokens in texts])
    return 1 - fidelity.cosine(found, np.stack([states.mean(axis=0) for states in expected]))


@click.command()
@click.option("--texts", default=320, show_default=True, help="Held-out reviews to compare.")
@click.option("--runs", default=40, show_default=True, help="Timed runs of each at 1x128.")
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="Write all numbers here.")
def main(texts: int, runs: int, json_to: Path | None) -> None:
    """Measure every variant and print the table."""
    tokens = float_model.tokenize([row.text for row in held_out()[:texts]])
    expected = fidelity.float_states(float_model.merged_classifier().bert, tokens)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bundles"
        folder.mkdir()
        data = Path(temporary) / "reviews.tsv"
        write(data, training()[:CALIBRATION_ROWS])
        bundles = {name: make(folder, options) for name, options in variants(data).items()}
        errors = {name: pooled_errors(b, tokens, expected) for name, (b, _) in bundles.items()}
        opened = {name: engines.open_edge(b, 1) for name, (b, _) in bundles.items()}
        batch = engines.random_tokens([128])
        times = timing.time_in_turns(opened, batch, runs, 0.0)
        result = {
            name: {
                "mean_error": float(errors[name].mean()),
                "min_cosine": float(1 - errors[name].max()),
                "min_cosine_of_first": float(1 - errors[name][:TARGET_TEXTS].max()),
                "median_ms": times[name]["median_ms"],
                "size_mb": sum(f.stat().st_size for f in bundle.glob("model.onnx*")) / 1e6,
                "export_cpu_s": seconds,
            }
            for name, (bundle, seconds) in bundles.items()
        }
    show(result, texts)
    if json_to:
        json_to.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(result: dict[str, dict[str, float]], texts: int) -> None:
    """Print the table."""
    base = result["all, with text"]["median_ms"]
    rows = [
        [
            name,
            f"{found['mean_error'] * 1e4:.2f}",
            f"{found['min_cosine_of_first']:.4f}",
            f"{found['min_cosine']:.4f}",
            f"{found['median_ms']:.2f}",
            f"{found['median_ms'] / base:.3f}",
            f"{found['size_mb']:.2f}",
            f"{found['export_cpu_s']:.1f}",
        ]
        for name, found in result.items()
    ]
    headings = ["variant", "mean 1e-4", f"min {TARGET_TEXTS}", f"min {texts}"]
    headings += ["ms 1x128", "ratio", "MB", "export CPU s"]
    cpu = timing.describe_cpu()
    print(table(f"{cpu['name']}, VNNI {cpu['vnni']}, 1 thread", headings, rows))


if __name__ == "__main__":
    main()
