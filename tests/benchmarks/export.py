"""Compare our export with torch's and onnxruntime's: seconds and peak memory of whole processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import report  # imports no library: a child's peak counts its parent's memory at the fork
from report import Target

HERE = Path(__file__).resolve().parent
OURS = "edge-lra export --merge"
UNVERIFIED = f"{OURS} --no-verify"
PEER = """
import sys
from pathlib import Path
import float_model
folder, dynamo = Path(sys.argv[1]), sys.argv[2] == "dynamo"
plain = float_model.export_onnx(float_model.merged_classifier().bert, folder / "plain.onnx", dynamo)
float_model.quantize_onnx(plain, folder / "model.onnx")
"""
CANDIDATES: dict[str, tuple[str, ...]] = {
    OURS: ("-m", "edge_lra", "export", "--merge", "--out", "{folder}/model.edge"),
    UNVERIFIED: ("-m", "edge_lra", "export", "--merge", "--no-verify", "--out", "{folder}/m.edge"),
    "torch.onnx.export + quantize_dynamic": ("-c", PEER, "{folder}", "dynamo"),
    "  the same with dynamo=False": ("-c", PEER, "{folder}", "torchscript"),
}


def measure(arguments: Sequence[str], project: Path) -> dict[str, float]:
    """Run one export in a process of its own, from start to exit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *(part.format(folder=folder) for part in arguments)]
        paths = os.pathsep.join(map(str, (HERE, HERE.parents[1])))
        environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    if status:
        raise click.ClickException(f"{' '.join(command)}: {errors.decode()[-2000:]}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_rss_mib": usage.ru_maxrss / 1024}


def measure_all(rounds: int) -> dict[str, dict[str, float]]:
    """Return each candidate's medians over interleaved rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CANDIDATES}
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "sample"
        command = [sys.executable, "-m", "edge_lra", "sample", str(project)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for _ in range(rounds):
            for name, arguments in CANDIDATES.items():
                found[name].append(measure(arguments, project))
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in found.items()
    }


def result_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return seconds and memory, with ratios to our whole export."""
    ours = found[OURS]
    rows = [
        [
            name,
            f"{run['seconds']:.2f}",
            f"{run['seconds'] / ours['seconds']:.2f}x",
            f"{run['cpu_s']:.2f}",
            f"{run['peak_rss_mib']:.0f}",
            f"{run['peak_rss_mib'] / ours['peak_rss_mib']:.2f}x",
        ]
        for name, run in found.items()
    ]
    headings = ["export of MiniLM with an adapter", "s", "", "CPU s", "peak MiB", ""]
    return report.table("From process start to exit, median", headings, rows)


def targets(found: Mapping[str, Mapping[str, float]]) -> list[Target]:
    """Return the limits we hold ourselves to."""
    limits = ((OURS, 20.0, 1000.0), (UNVERIFIED, 8.0, 450.0))
    return [
        Target(f"{name}, {what}", found[name][key], limit, False)
        for name, seconds, memory in limits
        for what, key, limit in (("s", "seconds", seconds), ("MiB", "peak_rss_mib", memory))
    ]


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Runs of each candidate, in turns.")
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="Write all numbers here.")
def main(rounds: int, json_to: Path | None) -> None:
    """Export the sample with each candidate and print the table."""
    found = measure_all(rounds)
    print(result_table(found))
    held = targets(found)
    print(report.target_table(held))
    if json_to:
        document: dict[str, Any] = {
            "rounds": rounds,
            "exports": found,
            "targets": [target.as_dict() for target in held],
        }
        json_to.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
