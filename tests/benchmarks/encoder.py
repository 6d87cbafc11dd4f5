"""Compare our int8 encoder with its peers: speed, size, memory, fidelity, accuracy."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import candidates
import click
import engines
import fidelity
import float_model
import report
import timing
from engines import Engine
from reviews import Review, held_out

COSINE_TEXTS = 64
PACKAGES = ("edge-lra", "onnxruntime", "ctranslate2", "openvino", "torch", "transformers", "peft")


@click.command()
@click.option("--runs", default=30, show_default=True, help="Timed runs of each engine and shape.")
@click.option("--loads", default=3, show_default=True, help="Child processes an engine is loaded.")
@click.option("--threads", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="Write all numbers here.")
def main(runs: int, loads: int, threads: tuple[int, ...], json_to: Path | None) -> None:
    """Measure every engine on the same merged weights and print the tables."""
    rows = held_out()
    result: dict[str, Any] = {"cpu": timing.describe_cpu(), "versions": versions(), "runs": runs}
    print(f"CPU: {result['cpu']['name']}, VNNI: {result['cpu']['vnni']}")
    print(", ".join(f"{name} {number}" for name, number in result["versions"].items()), "\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        classifier = float_model.merged_classifier()
        listed = candidates.our_engines(folder) + candidates.peer_engines(classifier.bert, folder)
        measure_speed(result, listed, threads, runs)
        measure_footprint(result, listed, loads)
        measure_fidelity(result, listed, classifier, rows)
        measure_accuracy(result, folder, classifier, rows)
    targets = report.speed_targets(result["latencies"]["1"]) if 1 in threads else []
    targets += report.ragged_targets(result["latencies"])
    targets += report.loading_targets(result["loading"])
    targets += report.quality_targets(result)
    result["targets"] = [target.as_dict() for target in targets]
    print(report.target_table(targets))
    if json_to:
        json_to.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Return the versions of what is compared, where installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measure_speed(
    result: dict[str, Any], listed: list[Engine], threads: tuple[int, ...], runs: int
) -> None:
    """Time the engines in turns for each number of threads."""
    result["latencies"] = {}
    for count in threads:
        latencies = timing.measure_latencies(listed, report.OURS, count, runs)
        result["latencies"][str(count)] = latencies
        print(report.latency_table(latencies, count), flush=True)


def measure_footprint(result: dict[str, Any], listed: list[Engine], loads: int) -> None:
    """Measure sizes, and loading in child processes."""
    result["size_mb"] = {engine.name: engine.size_mb for engine in listed}
    result["weights_mb"] = {
        engine.name: sum(f.stat().st_size for f in engine.files if f.suffix == ".data") / 1e6
        for engine in listed
        if engine.kind == "edge"
    }
    result["loading"] = timing.measure_loading(listed, loads)
    print(report.size_table(result["loading"], result["size_mb"]), flush=True)


def measure_fidelity(
    result: dict[str, Any], listed: list[Engine], classifier: Any, rows: list[Review]
) -> None:
    """Compare hidden states with the float model's on the first held-out texts."""
    texts = float_model.tokenize([row.text for row in rows[:COSINE_TEXTS]])
    expected = fidelity.float_states(classifier.bert, texts)
    result["cosines"] = {
        engine.name: fidelity.worst_cosines(
            engines.KINDS[engine.kind](engine.path, 1), texts, expected
        )
        for engine in listed
        if engine.kind != "classifier"
    }
    print(report.fidelity_table(result["cosines"], len(texts)), flush=True)


def measure_accuracy(
    result: dict[str, Any], folder: Path, classifier: Any, rows: list[Review]
) -> None:
    """Classify every held-out text in float and with both int8 bundles."""
    texts = float_model.tokenize([row.text for row in rows])
    logits = {"float": fidelity.float_logits(classifier, texts)}
    for name in (report.OURS, report.FACTORED):
        bundle = candidates.build_bundle(folder, *candidates.OURS[name], "sequence-classification")
        logits[name] = fidelity.bundle_logits(bundle, texts)
    found = {name: fidelity.accuracy_percent(values, rows) for name, values in logits.items()}
    result["accuracy_percent"], result["rows"] = found, len(rows)
    print(report.accuracy_table(found, len(rows)))


if __name__ == "__main__":
    main()
